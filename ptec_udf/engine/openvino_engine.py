"""The engine of executors without torch: a network that is converted once, and mapped by all workers of a host.

``convert_artifact`` needs torch and transformers. ``load_scorer`` needs NumPy, tokenizers and openvino, and no
backbone: the prompt's keys and values are constants of the network, and its tokenizer is saved with it.
"""

from __future__ import annotations

import shutil
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model.artifact import SUMS, Artifact, read_sums
from ptec_udf.model.backbone import file_digest

NETWORK, WEIGHTS, TOKENIZER = "network.xml", "network.bin", "tokenizer.json"

_MAX_DIFFERENCE = 1e-3  # of float32 logits


class OpenVinoEngine:
    """Runs a converted network on the CPU."""

    def __init__(self, network: Path, dtype: str) -> None:
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(network)
        self._precision = "bf16" if dtype == "bfloat16" else "f32"
        self._threads = 0
        self._request: Any = None

    def prepare(self, device: str, threads: int) -> None:
        """Compile the network for a number of threads; the device is always the CPU."""
        if threads != self._threads:
            options = {
                "INFERENCE_PRECISION_HINT": self._precision,
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # or all workers share one core
            }
            self._request = self._core.compile_model(self._model, "CPU", options).create_infer_request()
            self._threads = threads

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``; for the arguments see ``Engine``."""
        return self._request.infer([ids, mask])[0].copy()


def load_scorer(artifact: Artifact, folder: Path, *, dtype: str, batch_tokens: int | None = None) -> Scorer:
    """Load a model for scoring, from the folder of ``convert_artifact``; raise ArtifactError if a file was changed."""
    from tokenizers import Tokenizer

    check_converted(folder)
    encoder = Encoder.from_manifest(artifact.manifest, Tokenizer.from_file(str(folder / TOKENIZER)))
    tfidf = artifact.build_tfidf_head() if artifact.manifest.tfidf else None
    engine = OpenVinoEngine(folder / NETWORK, dtype)
    return Scorer(engine, encoder, batch_tokens=batch_tokens or BATCH_TOKENS, tfidf=tfidf)


def converted_folder(artifact: Artifact, location: Path) -> Path:
    """Return the folder of the converted network, next to the artifact's; recalibrated models share it."""
    return location.with_name(f"{artifact.network_id}.openvino")


def check_converted(folder: Path) -> None:
    """Raise ArtifactError, naming each missing or changed file of a converted network."""
    try:
        sums = read_sums((folder / SUMS).read_bytes(), str(folder))
    except OSError:
        raise ArtifactError(f"{folder / SUMS}: file is missing; register the model again") from None
    files = {name: folder / name for name in (NETWORK, WEIGHTS, TOKENIZER)}
    wrong = [file for name, file in files.items() if not file.is_file() or file_digest(file) != sums.get(name)]
    if wrong:
        raise ArtifactError([f"{file}: does not fit {SUMS}; register the model again" for file in wrong])


def convert_artifact(artifact: Artifact, location: Path) -> Path:
    """Convert the network of a model with a backbone into ``converted_folder``, unless it is there; return the folder.

    Raise BackboneError for a backbone that is missing, or that OpenVINO cannot run.
    """
    out = converted_folder(artifact, location)
    try:
        check_converted(out)
        return out
    except ArtifactError:
        shutil.rmtree(out, ignore_errors=True)
    draft = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        _convert(artifact, draft)
        digests = {name: file_digest(draft / name) for name in (NETWORK, WEIGHTS, TOKENIZER)}
        (draft / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), "ascii")
        with suppress(OSError):  # another process was faster
            draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    check_converted(out)
    return out


def _convert(artifact: Artifact, folder: Path) -> None:
    """Write network and tokenizer, if the network's logits are torch's."""
    import openvino

    from ptec_udf.engine.torch_engine import TorchEngine, load_scorer

    scorer = load_scorer(artifact)
    assert isinstance(scorer, Scorer) and isinstance(scorer.engine, TorchEngine) and artifact.manifest.backbone
    rule = f"backbone {artifact.manifest.backbone.name!r} must run on OpenVINO"
    try:
        exported = _export(scorer.engine)
        openvino.save_model(openvino.convert_model(exported), folder / NETWORK, compress_to_fp16=False)
        engine = OpenVinoEngine(folder / NETWORK, "float32")
        engine.prepare("cpu", 1)
        worst = max(np.abs(engine.logits(*batch) - scorer.engine.logits(*batch)).max() for batch in _random_batches())
    except Exception as error:  # torch and openvino raise kinds of their own
        raise BackboneError(f"{rule} ({type(error).__name__}); set engine.kind: torch") from error
    if not worst <= _MAX_DIFFERENCE:
        raise BackboneError(f"{rule} (its logits differ by {worst:.2g}); set engine.kind: torch")
    (folder / TOKENIZER).write_text(scorer.encoder.tokenizer.backend_tokenizer.to_str(), "utf-8")


def _export(engine: Any) -> Any:
    """Export the mean of the members' logits for batches of any size and length."""
    import torch

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.networks = torch.nn.ModuleList(engine.networks)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.stack([network(ids, mask) for network in self.networks]).mean(dim=0)

    network = Mean().eval().requires_grad_(False)
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = tuple(torch.from_numpy(part) for part in _random_batches()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own names
        return torch.export.export(network, example, dynamic_shapes=(any_size, any_size), strict=False)


def _random_batches() -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    draw, batches = np.random.default_rng(0), []
    for size, length in ((3, 17), (1, 5), (6, 30)):
        mask = np.arange(length) < draw.integers(1, length + 1, (size, 1))
        batches.append((draw.integers(5, 60, (size, length)), mask.astype(np.int64)))
    return batches
