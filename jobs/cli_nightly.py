"""Commands about the nightly run, its preparation and its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptec_jobs.command import FAILED, RETRAIN, command, is_model_id

if TYPE_CHECKING:
    from ptec_jobs.site import Site

PANEL = "Nightly"

ModelOption = Annotated[
    str | None, typer.Option("--model", help="An alias, or a model_id or its beginning; default: section model.")
]


def _model_settings(model: str | None) -> dict[str, dict[str, str]]:
    """Return the section that chooses a model."""
    if model is None:
        return {}
    return {"model": {"id" if is_model_id(model) else "alias": model}}


@command(PANEL)
def score(
    site: Site,
    source_version: Annotated[
        int | None, typer.Option(min=0, help="Delta version of the source; default: newest.")
    ] = None,
    model: ModelOption = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Score companies with errors again.")] = False,
    accept_new_source: Annotated[
        bool, typer.Option("--accept-new-source", help="Once, after a change of the source; may remove companies.")
    ] = False,
) -> dict[str, Any]:
    """Score new and changed companies of the source: the nightly job."""
    settings = {"source.version": source_version, **_model_settings(model)}
    settings |= {"run.retry_errors": retry_errors, "source.accept_new": accept_new_source}
    config = site.override(settings).score
    from ptec_jobs.notice import notify_on_exit
    from ptec_udf.nightly.run import score as score_source

    with notify_on_exit(config, "ptec score") as result:
        result |= score_source(site.session("ptec score"), config)
    return result


@command(PANEL)
def errors(
    site: Site,
    keys: Annotated[int, typer.Option(min=1, help="Companies listed per error at most.")] = 10,
    model: ModelOption = None,
) -> dict[str, Any]:
    """List companies without a score, by error; also of a run that was stopped before it published."""
    from ptec_udf.monitor.failures import list_errors

    config = site.override(_model_settings(model)).score
    return list_errors(site.session("ptec errors"), config, keys)


@command(PANEL, judge=lambda result: ("drift: it is time to retrain", RETRAIN) if result["retrain"] else None)
def drift(
    site: Site,
    alias: Annotated[str, typer.Option(help="Alias of the model.")] = "champion",
    runs: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Runs shown at most.")] = 7,
) -> dict[str, Any]:
    """Show the drift of the last runs. Exit code 3: it is time to retrain."""
    from ptec_jobs.drift_history import read_drift

    return read_drift(site.open_warehouse("ptec drift"), alias, runs)


@command(PANEL, needs_file=False)
def estimate(
    site: Site,
    model: ModelOption = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Estimate from numbers alone: companies of a table.")] = None,
    texts: Annotated[int | None, typer.Option(min=0, help="With --rows: texts to score; default: as many.")] = None,
    mean_tokens: Annotated[float, typer.Option(min=1, help="With --rows: mean tokens of a text.")] = 90.0,
    cores: Annotated[int, typer.Option(min=1, help="With --rows: cores of all executors.")] = 2,
    tokens_per_core_second: Annotated[
        float | None, typer.Option(min=1, help="With --rows: rate of a core; default: as measured for MiniLM.")
    ] = None,
    price_per_core_hour: Annotated[float | None, typer.Option(min=0, help="With --rows: adds the cost.")] = None,
) -> dict[str, Any]:
    """Estimate duration and memory of the next run from counts and some seconds of scoring; writes no scores."""
    if rows is not None:
        from ptec_udf.preflight.size import TOKENS_PER_CORE_SECOND, size

        return size(
            rows=rows,
            texts=rows if texts is None else texts,
            mean_tokens=mean_tokens,
            cores=cores,
            rate=tokens_per_core_second or TOKENS_PER_CORE_SECOND,
            price_per_core_hour=price_per_core_hour,
        )
    from ptec_udf.preflight.estimate import estimate as estimate_run

    config = site.require_file().override(_model_settings(model)).score
    return estimate_run(site.session("ptec estimate"), config)


def _judge_verify(result: dict[str, Any]) -> tuple[str, int] | None:
    failed = [one for one in result["variants"] if not one["passed"]]
    if not failed:
        return None
    if all(one["dtype"] == "bfloat16" for one in failed):
        problem, advice = "bfloat16 differs by more than the tolerance", "set engine.dtype to float32"
    else:
        problem, advice = "scores depend on the batch by more than the tolerance", "do not score on these machines"
    names = "; ".join(f"{one['name']} ({one['dtype']})" for one in failed)
    return f"{problem} in: {names}; {advice}", FAILED


@command(PANEL, judge=_judge_verify)
def verify(site: Site, model: ModelOption = None) -> dict[str, Any]:
    """Check on a sample of the source that a score does not depend on its batch; writes nothing."""
    from ptec_udf.preflight.verify import verify as verify_sample

    return verify_sample(site.session("ptec verify"), site.override(_model_settings(model)).score)


@command(PANEL)
def report(
    site: Site,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    run: Annotated[str | None, typer.Option(help="A run_id or its beginning; default: the last finished run.")] = None,
    model: Annotated[str | None, typer.Option(help="A model_id or its beginning: its last run.")] = None,
    alias: Annotated[str, typer.Option(help="Without --run and --model: the last run of this alias.")] = "champion",
) -> dict[str, Any]:
    """Write one HTML file about a run: entries and exits, drift, quality, errors, cost. It needs no network."""
    from ptec_jobs.report.render import write_report

    return write_report(site, out, run_id=run, model_id=model, alias=alias)


@command(PANEL)
def housekeeping(
    site: Site,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows to remove; change nothing.")] = False,
) -> dict[str, Any]:
    """Remove old rows and files, and compact small files."""
    from ptec_udf.monitor.housekeeping import housekeep

    config = site.override({"housekeeping.dry_run": dry_run}).section("housekeeping")
    return {"dry_run": config.dry_run, "tables": housekeep(site.open_warehouse("ptec housekeeping"), config)}
