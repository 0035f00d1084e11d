"""A converted network scores as torch does, without torch, and is refused with the name of a changed file."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from ptec_training.export import export
from ptec_udf.config import EngineConfig
from ptec_udf.engine.openvino_engine import SUMS, WEIGHTS, convert_artifact, load_scorer
from ptec_udf.engine.torch_engine import load_scorer as load_torch_scorer
from ptec_udf.engine.worker import WorkerModel, scorer_for
from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_artifact, tiny_backbone, tiny_companies, tiny_manifest, tiny_network, tiny_text
from tests.tolerance import assert_logits_close

TEXTS = [*(tiny_text(company) for company in tiny_companies(40, seed=11)), None, "solar " * 45]
PROGRAM = """
import json, sys
from ptec_udf.config import EngineConfig
from ptec_udf.engine.worker import WorkerModel, scorer_for
from ptec_udf.model.artifact import load_artifact
model = WorkerModel.of(load_artifact(sys.argv[1]))
settings = EngineConfig(kind="openvino", dtype="float32", threads=1)
scored = scorer_for(model, settings).score(json.loads(sys.argv[2]))
print(json.dumps([scored[0].logits.tolist(), sorted({"torch", "transformers", "pyspark"} & set(sys.modules))]))
"""


def logits_of(results):
    return np.stack([result.logits for result in results if result.logits is not None])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """Two MPNet members, converted; its backbone is removed afterwards."""
    folder = tmp_path_factory.mktemp("openvino")
    name = tiny_backbone(folder, "mpnet")
    from ptec_udf.model.backbone import resolve

    networks = [tiny_network(*resolve(name).load(), "deep", seed=seed) for seed in (1, 2)]
    export(networks, tiny_manifest(name, networks[0], members=2), {}, folder / "made")
    made = load_artifact(folder / "made")
    convert_artifact(made, folder / "made")
    return made


class TestConverted:
    def test_scores_as_torch_in_any_batch(self, artifact):
        expected = load_torch_scorer(artifact).score(TEXTS)
        for batch_tokens in (1, 97, 100_000):
            settings = EngineConfig(kind="openvino", dtype="float32", threads=1, batch_tokens=batch_tokens)
            found = scorer_for(WorkerModel.of(artifact), settings).score(TEXTS)
            assert [result.status for result in found] == [result.status for result in expected]
            np.testing.assert_allclose(logits_of(found), logits_of(expected), rtol=1e-4, atol=2e-4)

    def test_bfloat16_is_near_float32_and_independent_of_the_batch(self, artifact):
        folder = convert_artifact(artifact, artifact.folder)
        scorers = [load_scorer(artifact, folder, dtype=dtype) for dtype in ("float32", "bfloat16")]
        for scorer in scorers:
            scorer.engine.prepare("cpu", 1)
        expected, found = (logits_of(scorer.score(TEXTS)) for scorer in scorers)
        assert np.abs(found - expected).max() < 0.5
        assert_logits_close(np.stack([scorers[0].score([text])[0].logits for text in TEXTS[:5]]), expected[:5])

    def test_input_prompt_of_a_decoder(self, tmp_path):
        made = load_artifact(tiny_artifact(tmp_path, "llama", "input"))
        scorer = load_scorer(made, convert_artifact(made, made.folder), dtype="float32")
        scorer.engine.prepare("cpu", 1)
        found, expected = (logits_of(one.score(TEXTS)) for one in (scorer, load_torch_scorer(made)))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)

    def test_needs_neither_torch_nor_transformers(self, artifact):
        command = [sys.executable, "-c", PROGRAM, str(artifact.folder), json.dumps(TEXTS[:1])]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        logits, imported = json.loads(ran.stdout.splitlines()[-1])
        assert imported == []
        np.testing.assert_allclose([logits], logits_of(load_torch_scorer(artifact).score(TEXTS[:1])), atol=2e-4)

    def test_is_not_converted_again(self, artifact):
        folder = convert_artifact(artifact, artifact.folder)
        before = (folder / SUMS).stat().st_mtime_ns
        assert convert_artifact(artifact, artifact.folder) == folder
        assert (folder / SUMS).stat().st_mtime_ns == before


class TestRefused:
    def test_changed_or_missing_files(self, artifact, tmp_path):
        with pytest.raises(ArtifactError, match=f"{SUMS}: file is missing"):
            load_scorer(artifact, tmp_path, dtype="float32")
        folder = convert_artifact(artifact, artifact.folder)
        content = (folder / WEIGHTS).read_bytes()
        try:
            (folder / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(ArtifactError, match=f"{WEIGHTS}: does not fit {SUMS}"):
                load_scorer(artifact, folder, dtype="float32")
        finally:
            (folder / WEIGHTS).write_bytes(content)
