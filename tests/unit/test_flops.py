"""The closed form of floating-point operations agrees with what torch counts while it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact, tiny_backbone, tiny_network
from training.config import LoraSettings
from training.fit import lora
from training.flops import Layers, flop_of_scoring

LENGTH = 60
FORMS = [("bert", "deep"), ("bert", "input"), ("llama", "input"), ("bloom", "deep"), ("mpnet", "input")]
# The closed form counts biases and norms as if they were matrices; torch counts only matrices. Where the inputs of the
# first layer need no gradient, torch saves some of that layer, which is much where there are two.
NEAR, NEAR_WITHOUT_INPUTS = 0.08, 0.13


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def loaded(folder: Path, family: str) -> tuple[Any, Any]:
    """A backbone of a test's own, whose attention it may change."""
    return resolve(tiny_backbone(folder, family)).load()


def text(n: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((n, LENGTH), 7)
    return ids, torch.ones_like(ids)


@pytest.mark.parametrize(("family", "kind"), FORMS)
def test_forward_pass_is_as_torch_counts_it(tiny_folder, family, kind):
    network = tiny_network(*loaded(tiny_folder, family), kind, n_tokens=12)
    network.freeze_prompt()
    network.backbone.set_attn_implementation("eager")
    with torch.inference_mode():
        found = counted(lambda: network(*text()))
    assert Layers.of_network(network).forward([LENGTH]) == pytest.approx(found, rel=NEAR)


@pytest.mark.parametrize(("kind", "near"), [("input", NEAR), ("deep", NEAR_WITHOUT_INPUTS)])
def test_going_back_through_frozen_layers_is_as_torch_counts_it(tiny_folder, kind, near):
    network = tiny_network(*loaded(tiny_folder, "bert"), kind, n_tokens=12)
    network.backbone.set_attn_implementation("eager")
    found = counted(lambda: network(*text()).sum().backward())
    assert Layers.of_network(network).training([LENGTH]) == pytest.approx(found, rel=near)


def test_training_lora_is_as_torch_counts_it(tiny_folder):
    backbone, tokenizer = loaded(tiny_folder, "bert")
    lora.put_into(backbone, LoraSettings(rank=4), seed=0)
    network = tiny_network(backbone, tokenizer, "deep")
    network.kind, network.prompt, network.caches_prompt = None, None, False
    network.backbone.set_attn_implementation("eager")
    layers = Layers.of_network(network)
    assert layers.trained == sum(value.numel() for value in lora.weights(backbone).values())
    found = counted(lambda: network(*text()).sum().backward())
    assert layers.training([LENGTH]) == pytest.approx(found, rel=NEAR_WITHOUT_INPUTS)


def test_texts_add_up(load_tiny):
    layers = Layers.of_network(tiny_network(*load_tiny("bert")))
    assert layers.forward([5, 9]) == layers.forward([5]) + layers.forward([9])
    assert layers.forward([18]) > 2 * layers.forward([9])  # attention grows with the square
    assert layers.training([9]) > 2 * layers.forward([9])


def test_cached_prompt_costs_attention_alone_and_one_that_joins_all(load_tiny):
    made = load_tiny("bert")
    deep, joined = (Layers.of_network(tiny_network(*made, kind, n_tokens=12)) for kind in ("deep", "input"))
    none = replace(deep, seen=0)
    assert deep.forward([9]) - none.forward([9]) == 4 * 2 * 32 * 9 * 12  # layers, width, positions, positions seen
    assert joined.forward([9]) == none.forward([21])


def test_scoring_counts_tokens_as_the_scorer_reads_them(tiny_folder):
    scorer = load_scorer(load_artifact(tiny_artifact(tiny_folder)))
    texts = ["solar wind", "solar " * 100, ""]
    n_tokens = [result.n_tokens for result in scorer.score(texts)]
    expected = Layers.of_network(scorer.network).forward(n_tokens)
    assert flop_of_scoring(scorer, texts) == expected
