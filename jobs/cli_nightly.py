"""Commands about the nightly run, its preparation and its results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command import RETRAIN, Verdict, command
from jobs.output import show_pairs, show_rows

if TYPE_CHECKING:
    from jobs.site import Site

PANEL = "Nightly"

app = typer.Typer()

ModelOption = Annotated[
    str | None, typer.Option("--model", help="An alias, or a model_id or its beginning; default: section model.")
]
SourceVersionOption = Annotated[int | None, typer.Option(min=0, help="Delta version of the source; default: newest.")]


def _model_settings(model: str | None) -> dict[str, str]:
    """Return the settings that choose a model: six or more hexadecimal digits are a model_id."""
    if model is None:
        return {}
    return {"model.id" if re.fullmatch(r"[0-9a-f]{6,64}", model) else "model.alias": model}


@command(app, PANEL)
def score(
    site: Site,
    source_version: SourceVersionOption = None,
    model: ModelOption = None,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Score companies with errors again.")] = False,
    accept_new_source: Annotated[
        bool,
        typer.Option(
            "--accept-new-source", help="Once, after a change of the source: companies that it lacks are removed."
        ),
    ] = False,
) -> dict[str, Any]:
    r"""Score new and changed companies of the source: the nightly job.

    Shadow models get a run of their own afterwards: --set 'shadows=\[challenger]'.
    """
    settings = {"source.version": source_version, **_model_settings(model)}
    settings |= {"run.retry_errors": retry_errors, "source.accept_new": accept_new_source}
    config = site.override(settings).score
    from jobs.notice import notify_on_exit
    from ptec_udf.nightly.run import score as score_source

    with notify_on_exit(config, "ptec score") as result:
        result |= score_source(site.session("ptec score"), config)
    return result


def _show_errors(result: dict[str, Any]) -> None:
    rows = [row | {"keys": ", ".join(map(repr, row["keys"]))} for row in result["errors"]]  # a key may be any text
    show_rows(rows, "no company has an error")
    if rows:
        show_pairs({"score them again": "ptec score --retry-errors"})


@command(app, PANEL, show=_show_errors)
def errors(
    site: Site,
    keys: Annotated[int, typer.Option(min=1, help="Companies listed per error at most.")] = 10,
    model: ModelOption = None,
) -> dict[str, Any]:
    """List companies without a score, by error; also of a run that was stopped before it published."""
    from ptec_udf.monitor.failures import list_errors

    config = site.override(_model_settings(model)).score
    return list_errors(site.session("ptec errors"), config, keys)


def _show_drift(result: dict[str, Any]) -> None:
    from jobs.drift_history import show

    show(result)


@command(
    app,
    PANEL,
    show=_show_drift,
    judge=lambda result: Verdict("drift: it is time to retrain", RETRAIN) if result["retrain"] else None,
)
def drift(
    site: Site,
    alias: Annotated[str, typer.Option(help="Alias of the model.")] = "champion",
    runs: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Runs shown at most.")] = 7,
) -> dict[str, Any]:
    """Show the drift of the last runs. Exit code 3: it is time to retrain."""
    from jobs.drift_history import read_drift

    return read_drift(site.open_warehouse("ptec drift"), alias, runs)


def _show_estimate(result: dict[str, Any]) -> None:
    show_pairs({name: value for name, value in result.items() if name != "seconds_by_slots"})
    if by_slots := result.get("seconds_by_slots"):
        show_rows([{"slots": slots, "seconds": round(seconds)} for slots, seconds in by_slots.items()])


@command(app, PANEL, show=_show_estimate)
def estimate(
    site: Site,
    seconds: Annotated[float | None, typer.Option(help="Seconds of scoring to measure (estimate.seconds).")] = None,
    model: ModelOption = None,
) -> dict[str, Any]:
    """Estimate duration and memory of the next run from counts and some seconds of scoring; writes no scores."""
    from ptec_udf.preflight.estimate import estimate as estimate_run

    config = site.override({"estimate.seconds": seconds, **_model_settings(model)}).score
    return estimate_run(site.session("ptec estimate"), config)


def _show_verify(result: dict[str, Any]) -> None:
    variants = result["arrangements"]
    show_rows(variants)
    show_pairs(
        {
            "passed": f"{sum(one['passed'] for one in variants)} of {len(variants)}",
            **{name: value for name, value in result.items() if name != "arrangements"},
        }
    )


def _judge_verify(result: dict[str, Any]) -> Verdict | None:
    failed = [one for one in result["arrangements"] if not one["passed"]]
    if not failed:
        return None
    names = "; ".join(f"{one['name']} ({one['dtype']})" for one in failed)
    if all(one["dtype"] == "bfloat16" for one in failed):
        return Verdict(f"bfloat16 differs by more than the tolerance in: {names}; set engine.dtype to float32")
    return Verdict(
        f"scores depend on the batch by more than the tolerance in: {names}; "
        "do not score with this model on these machines until the cause is known"
    )


@command(app, PANEL, show=_show_verify, judge=_judge_verify)
def verify(
    site: Site,
    rows: Annotated[int | None, typer.Option(min=1, help="Texts in the sample (verify.rows).")] = None,
    model: ModelOption = None,
) -> dict[str, Any]:
    """Check on a sample of the source that a score does not depend on its batch; writes nothing."""
    from ptec_udf.preflight.verify import verify as verify_sample

    config = site.override({"verify.rows": rows, **_model_settings(model)}).score
    return verify_sample(site.session("ptec verify"), config)


@command(app, PANEL)
def report(
    site: Site,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    run: Annotated[str | None, typer.Option(help="A run_id or its beginning; default: the last finished run.")] = None,
    model: Annotated[str | None, typer.Option(help="A model_id or its beginning: its last run.")] = None,
    alias: Annotated[str, typer.Option(help="Without --run and --model: the last run of this alias.")] = "champion",
) -> dict[str, Any]:
    """Write one HTML file about a run: entries and exits, drift, quality, errors, cost. It needs no network."""
    from jobs.report.run import run as write

    return write(site, out, run_id=run, model_id=model, alias=alias)


@command(app, PANEL, show=lambda result: show_rows(result["tables"]))
def housekeeping(
    site: Site,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows to remove; change nothing.")] = False,
) -> dict[str, Any]:
    """Remove old rows and files, and compact small files."""
    from ptec_udf.monitor.housekeeping import HousekeepingConfig, housekeep

    changed = site.override({"housekeeping.dry_run": dry_run})
    config = changed.section(HousekeepingConfig, "housekeeping")
    return {"dry_run": config.dry_run, "tables": housekeep(site.open_warehouse("ptec housekeeping"), config)}
