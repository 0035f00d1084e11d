"""Ways to run one scoring network, from a batch's ids and mask to its logits: torch's own, and other engines.

Each way is made of a model's folder when it is called for, so that what is not installed here, or does not take the
model, can be told apart from the rest. Other engines get the network as ``torch.export`` or its exporter to ONNX sees
it, with any number of rows and positions, in float32 and with torch's fused attention in place of ours.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import load
from benchmarks.shifted_attention import NAME as SHIFTED
from ptec_udf.engine.device import BATCH_TOKENS
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.network import PtecNetwork

EAGER, COMPILED = "eager torch", "torch.compile"
COMPILED_FUSED, COMPILED_SHIFTED = "torch.compile, fused attention", "torch.compile, shifted attention"
OPENVINO, ONNX, TORCH_INT8, TORCHAO = "OpenVINO", "ONNX Runtime", "quantize_dynamic of torch", "torchao"

Run = Callable[[torch.Tensor, torch.Tensor], np.ndarray]
"""Ids and mask, each *Shape:* ``(batch, length)``, to logits, *Shape:* ``(batch, n_labels)``."""

_MEGABYTE = 1e6


@dataclass(frozen=True)
class Engine:
    """One way.

    Attributes:
        name: of the engine.
        dtype: of its arithmetic.
        packages: what it needs installed to run, besides numpy; of torch's ways torch, without transformers.
        build: makes it of a model and a number of threads.
    """

    name: str
    dtype: str
    packages: Sequence[str]
    build: Callable[[Artifact, int], Run]

    @property
    def way(self) -> str:
        """Name it with its arithmetic."""
        return f"{self.name}, {self.dtype}"

    def megabytes(self) -> float:
        """Return the size of its packages.

        Raises:
            PackageNotFoundError: when one is not installed.
        """
        return sum(_bytes_of(package) for package in self.packages) / _MEGABYTE


def _bytes_of(package: str) -> int:
    """Add up the files of an installed package."""
    places = [Path(str(file.locate())) for file in importlib.metadata.distribution(package).files or []]
    return sum(place.stat().st_size for place in places if place.is_file())


class AngleTable(nn.Module):
    """Look up what rotary positions turn by: computed, an engine may do it in bfloat16, which tells few numbers apart.

    OpenVINO does: sigmoids of SmolLM2 were then .07 off.
    """

    def __init__(self, rotary: nn.Module, n_positions: int) -> None:
        """Ask a backbone's own module for the first positions, all that a text with its prompt can have."""
        super().__init__()
        tables = rotary(torch.zeros(1), torch.arange(n_positions).unsqueeze(0))
        self.tables = nn.ParameterList([nn.Parameter(of[0], requires_grad=False) for of in tables])

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> list[torch.Tensor]:
        """Return cosines and sines, each *Shape:* ``(1 or batch, length, head_width)``."""
        return [of[position_ids].to(x.dtype) for of in self.tables]


def network_of(model: Artifact, dtype: str, attention: str | None = None) -> PtecNetwork | MeanNetwork:
    """Load a model's network as a night does, with its prompt's keys and values as constants.

    Args:
        model: with a backbone.
        dtype: of the backbone.
        attention: as transformers names it; None: that of a night.
    """
    network = load(model, dtype, BATCH_TOKENS).network
    for member in network.members:
        if attention is not None:
            member.backbone.set_attn_implementation(attention)
    network.requires_grad_(False)
    network.freeze_prompt()
    return network


def run_module(module: Any) -> Run:
    """Run a module of torch."""
    return lambda ids, mask: module(ids, mask).numpy()


def eager(model: Artifact, threads: int, *, dtype: str) -> Run:
    """Run the network as a night does."""
    return run_module(network_of(model, dtype))


def compiled(model: Artifact, threads: int, *, dtype: str, attention: str | None = None) -> Run:
    """Compile for any number of rows and positions; the first batches take the time."""
    return run_module(_compiled(network_of(model, dtype, attention)))


def _compiled(network: nn.Module) -> Any:
    """Compile every layer of every network: by default torch leaves what it has met in eight forms as it is.

    The layers are the library's own: ours (``fused.py``) hold steps that the compiler takes for those it writes itself.
    """
    for module in network.modules():
        vars(module).pop("forward", None)
    torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit = 1024, 4096
    return torch.compile(network, dynamic=True)


def quantised(model: Artifact, threads: int) -> Run:
    """Compute linear layers with int8 weights and inputs, whose scale is that of a whole batch."""
    return run_module(torch.ao.quantization.quantize_dynamic(network_of(model, "float32"), {nn.Linear}))


def quantised_by_torchao(model: Artifact, threads: int) -> Run:
    """Compute linear layers with int8 weights and inputs, whose scale is each position's own; compiled."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    network = network_of(model, "float32")
    quantize_(network, Int8DynamicActivationInt8WeightConfig())
    return run_module(_compiled(network))


def by_openvino(model: Artifact, threads: int, *, precision: str) -> Run:
    """Convert what ``torch.export`` gives, and run it in one stream."""
    import openvino

    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    network = _exportable(model)
    exported = torch.export.export(network, _example(), dynamic_shapes=(any_size, any_size), strict=False)
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    converted = openvino.convert_model(exported)
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    return lambda ids, mask: request.infer([ids.numpy(), mask.numpy()])[0].copy()


def by_onnx_runtime(model: Artifact, threads: int, *, int8: bool) -> Run:
    """Convert to ONNX, for int8 with weights' scales for each output and inputs' scales for a whole batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with tempfile.TemporaryDirectory() as folder:
        file = _onnx_file(_exportable(model), Path(folder), int8=int8)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda ids, mask: session.run(None, dict(zip(names, (ids.numpy(), mask.numpy()), strict=True)))[0]


def _onnx_file(network: nn.Module, folder: Path, *, int8: bool) -> Path:
    """Write the network, whose weights lie beside it; return its file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # says for each operator of torchvision that it has none
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    whole = folder / "network.onnx"
    options: dict[str, Any] = {"dynamo": True, "verbose": False, "external_data": True}
    torch.onnx.export(network, _example(), whole, dynamic_shapes=(any_size, any_size), **options)
    if not int8:
        return whole
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(whole, folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return folder / "int8.onnx"


def _exportable(model: Artifact) -> nn.Module:
    """Load the network for other engines, in float32."""
    network, prompt = network_of(model, "float32", "sdpa"), model.manifest.prompt
    n_positions = (model.manifest.max_tokens or 0) + (prompt.n_tokens if prompt else 0)
    for member in network.members:
        rotary = getattr(member.backbone, "rotary_emb", None)
        if rotary is not None and list(inspect.signature(rotary.forward).parameters) == ["x", "position_ids"]:
            member.backbone.rotary_emb = AngleTable(rotary, n_positions)
    return network


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    """Make up ids and a mask with padding, of sizes that occur nowhere else in a network."""
    ids = torch.randint(5, 100, (3, 17), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    return ids, mask


ENGINES = [
    Engine(EAGER, "bfloat16", ["torch"], partial(eager, dtype="bfloat16")),
    Engine(EAGER, "float32", ["torch"], partial(eager, dtype="float32")),
    Engine(COMPILED, "bfloat16", ["torch"], partial(compiled, dtype="bfloat16")),
    Engine(COMPILED_FUSED, "bfloat16", ["torch"], partial(compiled, dtype="bfloat16", attention="sdpa")),
    Engine(COMPILED_SHIFTED, "bfloat16", ["torch"], partial(compiled, dtype="bfloat16", attention=SHIFTED)),
    Engine(COMPILED, "float32", ["torch"], partial(compiled, dtype="float32")),
    Engine(OPENVINO, "bfloat16", ["openvino"], partial(by_openvino, precision="bf16")),
    Engine(OPENVINO, "float32", ["openvino"], partial(by_openvino, precision="f32")),
    Engine(ONNX, "float32", ["onnxruntime"], partial(by_onnx_runtime, int8=False)),
    Engine(ONNX, "int8", ["onnxruntime"], partial(by_onnx_runtime, int8=True)),
    Engine(TORCH_INT8, "int8", ["torch"], quantised),
    Engine(TORCHAO, "int8", ["torch", "torchao"], quantised_by_torchao),
]
