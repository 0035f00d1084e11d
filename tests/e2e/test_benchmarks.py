"""Benchmarks run on a tiny model; PEFT's own network has our logits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.common import logits_of
from benchmarks.peft_scorer import PeftScorer
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
from tests.processes import ROOT, environment
from tests.tiny import tiny_artifact, tiny_companies, tiny_text


class TestPeft:
    @pytest.mark.parametrize(("family", "kind"), [("bert", "deep"), ("llama", "input")])
    def test_has_our_logits(self, tmp_path: Path, family: str, kind: Any) -> None:
        folder = tiny_artifact(tmp_path, family, kind)
        texts = [tiny_text(company) for company in tiny_companies(20)]
        ours = logits_of(load_scorer(load_artifact(folder)).score(texts))
        assert ours.std() > 0.1
        np.testing.assert_allclose(PeftScorer(str(folder)).logits(texts), ours, rtol=0, atol=1e-4)


@pytest.mark.long
class TestBenchmarks:
    def run(self, module: str, out: Path, *arguments: object) -> dict[str, Any]:
        command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments), "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((out / "results.json").read_text(encoding="utf-8"))

    def test_drift_is_found(self, tmp_path: Path) -> None:
        rows = [company | {"industries": company["labels"]} for company in tiny_companies(120)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
        options = ["--first", 300, "--nightly", 110, "--before", 2, "--shift", "german", "--dtype", "float32"]
        found = self.run("drift", tmp_path / "out", tiny_artifact(tmp_path), tmp_path / "pool.parquet", *options)
        assert [bool(run["drifted"]) for run in found["runs"]["german"]] == [False, False, True, True]

    def test_peers_agree(self, tmp_path: Path) -> None:
        texts = [f"We sell solar power to hotel number {number}" for number in range(50)] + [None, " "]
        pq.write_table(pa.table({"about": texts}), tmp_path / "texts.parquet")
        options = ["--column", "about", "--dtype", "float32", "--repeats", 1]
        found = self.run("peers", tmp_path / "out", tiny_artifact(tmp_path), tmp_path / "texts.parquet", *options)
        assert {"ptec, float32", "predict_batch_udf"} <= set(found["peers"])
        for name, peer in found["peers"].items():
            assert peer["sigmoids_apart"]["max"] < (0.05 if "bfloat16" in name else 1e-4)
