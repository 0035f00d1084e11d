"""Floating-point operations of learning and scoring, in closed form, so that methods and machines can be compared.

A multiplication and an addition are two operations. For each position of a text, a forward pass takes 2 for each
parameter of the backbone's layers (embedding tables are looked up) and, for attention, 4 for each layer, each feature
of its queries and each position that is seen, those of a cached prompt included. Going back through a layer takes as
much again for the gradients of its inputs and, of trained weights only, once more for their own; attention has inputs
on both sides and takes twice, and so has label attention. So but for attention, training takes twice as much as scoring
where the layers are frozen, and three times where all is trained. A decoder's positions are counted as seeing all of a
text. Layers below all prompts are run once for each training. Padding, norms, other pooling, the optimiser and what is
done once a model are left out.

Source: Kaplan et al., "Scaling laws for neural language models", 2020 (arXiv 2001.08361), section 2.1; attention as in
Chowdhery et al., "PaLM", 2022 (arXiv 2204.02311), appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.model.network import PtecNetwork
from ptec_udf.model.tfidf import TfidfHead
from training.data.dataset import Rows
from training.fit.trainer import Trainer


@dataclass(frozen=True)
class Layers:
    """What a pass over a text computes with.

    Attributes:
        frozen: parameters of the backbone's layers that stay as they are.
        trained: parameters of its layers that are trained: LoRA's.
        n_layers: number of layers.
        width: features of each layer's queries.
        head: parameters of the head, which sees a text once.
        queries: those of label attention, which sees each of the text's positions.
        seen: positions of a prompt whose keys and values are there already.
        joined: positions of a prompt that run along with each text.
    """

    frozen: int
    trained: int
    n_layers: int
    width: int
    head: int = 0
    queries: int = 0
    seen: int = 0
    joined: int = 0

    @classmethod
    def of(cls, backbone: Any, **more: int) -> Layers:
        """Count a backbone's layers; keyword arguments are further attributes."""
        config = backbone.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        n_layers = config.num_hidden_layers
        stacks = [part for part in backbone.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers]
        # A family that shares its layers (ALBERT) has no such stack: then all but the embedding tables counts, once.
        parts = (stacks[:1] or [backbone])[0].modules()
        values = [
            value for part in parts if not isinstance(part, nn.Embedding) for value in part.parameters(recurse=False)
        ]
        counts = {
            trained: sum(value.numel() for value in values if value.requires_grad == trained)
            for trained in (False, True)
        }
        return cls(counts[False], counts[True], n_layers, width * config.num_attention_heads, **more)

    @classmethod
    def of_network(cls, network: PtecNetwork) -> Layers:
        """Count backbone, prompt and head."""
        n_prompt = 0 if network.prompt is None else len(network.prompt)
        head = sum(value.numel() for value in network.head.parameters())
        queries = 0 if network.attention is None else network.attention.queries.numel()
        place = "seen" if network.caches_prompt else "joined"
        return cls.of(network.backbone, head=head, queries=queries, **{place: n_prompt})

    def only(self, n_layers: int) -> Layers:
        """Return so many of the layers, which are alike; head and prompt go with them."""
        return replace(self, frozen=self.frozen * n_layers // self.n_layers, n_layers=n_layers)

    def forward(self, lengths: Sequence[float]) -> float:
        """Return the operations of one forward pass over texts with so many tokens."""
        n, attention = self._positions(lengths), self._attention(lengths)
        return float(2 * (self.frozen + self.trained) * n.sum() + attention + 2 * self.head * len(n))

    def training(self, lengths: Sequence[float]) -> float:
        """Return the operations of one pass forward and back over texts with so many tokens."""
        n, attention = self._positions(lengths), self._attention(lengths)
        return float((4 * self.frozen + 6 * self.trained) * n.sum() + 3 * attention + 6 * self.head * len(n))

    def head_training(self, lengths: Sequence[float]) -> float:
        """Return the operations of one pass where the head alone is trained: nothing goes back through the layers."""
        back = 4 if self.queries else 2  # through the head to attention, or to its weights alone
        return self.forward(lengths) + float(4 * self.queries * np.sum(lengths) + back * self.head * len(lengths))

    def _positions(self, lengths: Sequence[float]) -> np.ndarray:
        return np.asarray(lengths, np.float64) + self.joined

    def _attention(self, lengths: Sequence[float]) -> float:
        n = self._positions(lengths)
        of_layers = 4 * self.n_layers * self.width * (n * (n + self.seen)).sum()
        return float(of_layers + 4 * self.queries * np.sum(lengths))


def flop_of_training(trainer: Trainer, epochs: int) -> float:
    """Return the operations of so many epochs: learning from the rows, and measuring validation after each."""
    layers = Layers.of_network(trainer.network)
    if isinstance(trainer.rows.inputs[0], torch.Tensor):
        layers = layers.only(trainer.config.adapter.upper_layers or 0)
    kept = 1 - trainer.config.token_dropout
    of_pass = layers.training if trainer.config.lora or trainer.config.has_prompt else layers.head_training
    learning = of_pass([kept * len(ids) for ids in trainer.rows.inputs])
    measuring = 0.0 if trainer.validation is None else layers.forward([len(ids) for ids in trainer.validation.inputs])
    return epochs * (learning + measuring)


def flop_below(network: PtecNetwork, n_upper: int | None, rows: Sequence[Rows]) -> float:
    """Return the operations of the layers below the adapted ones over rows, which are run once; 0 for ``None``."""
    if n_upper is None:
        return 0.0
    layers = replace(Layers.of(network.backbone), trained=0)  # LoRA is in the upper ones
    return layers.only(layers.n_layers - n_upper).forward([len(text) for some in rows for text in some.inputs])


def flop_of_scoring(scorer: Scorer | TfidfScorer, texts: Sequence[str]) -> float:
    """Return the operations of scoring texts; of TF-IDF, 2 for each term that is found and each label."""
    if isinstance(scorer, TfidfScorer):
        return _flop_of_terms(scorer.head, texts)
    lengths = [len(text.ids) for text in scorer.encoder.encode(texts)]
    of_network = sum(Layers.of_network(member).forward(lengths) for member in scorer.network.members)
    return of_network + (0.0 if scorer.tfidf is None else _flop_of_terms(scorer.tfidf, texts))


def _flop_of_terms(head: TfidfHead, texts: Sequence[str]) -> float:
    return float(sum(2 * head.n_labels * len(head.terms.features(text)[0]) for text in texts))
