"""The benchmarks run on a tiny model; what they find there is of no interest."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.clock import find_library
from benchmarks.common import logits_of
from benchmarks.peft_scorer import PeftScorer
from benchmarks.report_page import BROWSERS, WIDTHS
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
from tests.tiny import KINDS, tiny_artifact, tiny_companies, tiny_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def artifact(tmp_path):
    return tiny_artifact(tmp_path / "tiny")


@pytest.fixture
def texts(tmp_path):
    """Sixty different texts, ten of them twice, in a column ``about``."""
    distinct = [tiny_text(company) for company in tiny_companies(60)]
    pq.write_table(pa.table({"about": [*distinct, None, *distinct[:10], " "]}), tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def results_of(module, out, *arguments):
    """Run a benchmark; return its results, after a look at its table."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments), "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert "Measured on: processor " in (out / "table.md").read_text(encoding="utf-8")
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.mark.long
def test_memory(artifact, tmp_path):
    found = results_of("memory", tmp_path / "out", artifact, "--workers", 1, "--workers", 2, "--dtype", "bfloat16")
    megabytes = found["megabytes"]
    further = {arm: of["2"]["held"] - of["1"]["held"] for arm, of in megabytes.items()}
    assert 0 < further["shared"] < further["apart"]


@pytest.mark.long
def test_drift(artifact, tmp_path):
    rows = [company | {"industries": company["labels"]} for company in tiny_companies(120)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    options = ["--first", 300, "--nightly", 110, "--before", 2, "--shift", "german", "--dtype", "float32"]
    nights = results_of("drift", tmp_path / "out", artifact, tmp_path / "pool.parquet", *options)["nights"]
    assert [bool(night["drifted"]) for night in nights["german"]] == [False, False, True, True]
    assert nights["german"][-1]["retrain"]


@pytest.mark.long
def test_layout(tmp_path):
    found = results_of("layout", tmp_path / "out", "--rows", 400, "--nights", 1)["layouts"]
    assert set(found) == {"as nights leave it", "files joined", "Z-order by key"}
    assert all(figures["company_mb"] > 0 and figures["label_mb"] > 0 for figures in found.values())


@pytest.mark.long
def test_report_page(tmp_path):
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no browser is installed: no page is opened")
    page = tmp_path / "page.html"
    style = "<style>:root { color-scheme: light dark; }</style>"
    rows = "<table><tr><th>share of companies</th></tr>" + '<tr><th scope="row">label</th></tr>' * 7 + "</table>"
    page.write_text(f"<!doctype html><title>page</title>{style}{rows}{'words ' * 1000}", encoding="utf-8")
    found = results_of("report_page", tmp_path / "out", page, "--repeats", 1)
    assert found["labels"] == 7
    assert found["kilobytes"] == page.stat().st_size / 1000
    assert all(seconds > 0 for seconds in found["seconds"].values())
    pictures = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.png")}
    widths = {name: struct.unpack(">I", content[16:20])[0] for name, content in pictures.items()}
    assert widths == {f"{width}_{scheme}.png": WIDTHS[width] for width in WIDTHS for scheme in ("light", "dark")}
    assert all(pictures[f"{width}_light.png"] != pictures[f"{width}_dark.png"] for width in WIDTHS)


@pytest.mark.long
def test_year(artifact, tmp_path, monkeypatch):
    if find_library() is None:
        pytest.skip("libfaketime is not installed: no year goes by")
    monkeypatch.delenv("JDK_JAVA_OPTIONS")  # of tests; the year names another collector
    options = [artifact, "--folder", tmp_path / "site", "--companies", 200, "--keep-days", 1, "--nights"]
    begun = results_of("year", tmp_path / "out", *options, 5)["months"]
    first, last = results_of("year", tmp_path / "out", *options, 7)["months"]
    assert [first] == begun  # the second call went on
    assert (first["night"], last["night"]) == (5, 7)
    # After the seventh night housekeeping leaves the changes of one day.
    assert last["tables"]["score_changes"]["rows"] < first["tables"]["score_changes"]["rows"]
    assert last["tables"]["scores"]["rows"] == 200


@pytest.mark.long
def test_peers(artifact, tmp_path):
    texts = [f"We sell solar power to hotel number {number}" for number in range(50)] + [None, " "]
    pq.write_table(pa.table({"about": texts}), tmp_path / "texts.parquet")
    options = ["--column", "about", "--dtype", "float32", "--repeats", 1]
    found = results_of("peers", tmp_path / "out", artifact, tmp_path / "texts.parquet", *options)
    of_mlflow = {"mlflow spark_udf"} if importlib.util.find_spec("mlflow") else set()
    assert set(found["ways"]) == {"ptec in float32", "predict_batch_udf"} | of_mlflow
    for way in found["ways"].values():
        assert way["rows"] == 50
        assert way["worst"] < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_peft_scorer_gives_our_logits(tmp_path, family, kind):
    folder = tiny_artifact(tmp_path, family, kind)
    texts = [tiny_text(company) for company in tiny_companies(20)]
    ours = logits_of(load_scorer(load_artifact(folder)).score(texts))
    assert ours.std() > 0.1
    np.testing.assert_allclose(PeftScorer(str(folder)).logits(texts), ours, rtol=0, atol=1e-4)


@pytest.mark.long
def test_parts(tmp_path, texts):
    model = tiny_artifact(tmp_path / "tiny", "llama", "input")
    options = ["--column", "about", "--repeats", 1, "--batch-tokens", 200, "--threads", 1]
    found = results_of("parts", tmp_path / "out", model, texts, *options)
    ways, nothing = found["ways"], found["ways"]["all parts"]
    alone = {"sorting", "budget", "sorting and budget", "prompt's cache", "bfloat16", "equal texts once"}
    assert set(ways) == {"all parts"} | alone and found["left_out"] == []
    assert (found["rows"], found["distinct"]) == (70, 60)
    assert nothing["padding"] < min(ways["sorting"]["padding"], ways["sorting and budget"]["padding"])
    assert 0 < ways["bfloat16"]["probabilities_apart"] < 0.1
    assert ways["equal texts once"]["probabilities_apart"] < 0.01


@pytest.mark.long
def test_prompt_cost(artifact, tmp_path, texts):
    options = ["--column", "about", "--repeats", 3, "--rows", 30, "--threads", 1]
    found = results_of("prompt_cost", tmp_path / "out", artifact, texts, *options)
    assert found["prompt"] == {"kind": "deep", "positions": 4, "cached": True}
    assert found["probabilities_apart"] > 0.01
    pairs = zip(found["seconds"]["with the prompt"], found["seconds"]["without"], strict=True)
    assert found["times_without"]["median"] == sorted(one / other for one, other in pairs)[1]


@pytest.mark.long
def test_arithmetic(artifact, tmp_path, texts):
    options = ["--column", "about", "--repeats", 1, "--rows", 40, "--threads", 1, "--side", 64, "--batch-tokens", 200]
    found = results_of("arithmetic", tmp_path / "out", artifact, texts, *options)
    operations, of_one_thread = found["operations"], found["threads"]["1"]
    assert operations["texts"] < operations["network"]
    assert 0.5 < operations["the same products"] / operations["network"] < 1
    assert 0.5 < operations["square products"] / operations["the same products"] < 1.5
    assert set(of_one_thread["ways"]) == {"scoring", "network", "the same products", "square products"}
    assert 0.5 < sum(one["share"] for one in of_one_thread["profile"]) <= 1


@pytest.mark.long
def test_engines(artifact, tmp_path, texts):
    options = ["--column", "about", "--repeats", 1, "--rows", 40, "--threads", 1, "--alone", 5, "--batch-tokens", 200]
    names = ["OpenVINO", "ONNX Runtime", "quantize_dynamic of torch", "torch.compile, shifted attention"]
    chosen = [word for name in names for word in ("--engine", name)]
    found = results_of("engines", tmp_path / "out", artifact, texts, *options, *chosen)
    of = {(one["engine"], one["dtype"]): one for one in found["engines"]}
    eager, exact = of["eager torch", "bfloat16"], of["eager torch", "float32"]
    assert exact["apart"]["worst"] == 0 and exact["alone_apart"] < 1e-5
    assert 0 < eager["apart"]["worst"] < 0.1 and eager["alone_apart"] < 0.1
    assert eager["times_eager_bfloat16"]["median"] == 1
    for one in found["engines"]:
        if one["left_out"]:
            reason, _, package = one["left_out"].partition(": ")
            assert reason == "not installed" and importlib.util.find_spec(package) is None, one["left_out"]
            continue
        assert one["apart"]["worst"] < (0.3 if one["dtype"] == "int8" else 0.1)
    assert {one["engine"] for one in found["engines"]} == {"eager torch", *names}


@pytest.mark.long
def test_growth(artifact, tmp_path):
    found = results_of("growth", tmp_path / "out", artifact, "--rows", 200, "--master", "local[2,4]")
    first, later = found["nights"]["200"]
    assert [(night["scored"], night["skipped"]) for night in (first, later)] == [(200, 0), (2, 198)]
    assert 0 < first["seconds_scoring"] < first["seconds"]


@pytest.mark.long
def test_overhead(artifact, tmp_path, texts):
    options = ["--column", "about", "--repeats", 1, "--slots", 2, "--warm"]
    found = results_of("overhead", tmp_path / "out", artifact, texts, *options)
    (loop,), (night,) = found["runs"]["loop"], found["runs"]["night"]
    assert loop["scored"] == night["scored"] == found["rows"] == 60
    assert loop["tokens"] == night["tokens"] > 0
    assert loop["seconds_scoring"] < loop["seconds"] and night["seconds_scoring"] < night["seconds"]
