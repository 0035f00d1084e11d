"""Texts to logits, in plain Python: what the UDF, the tests and an interactive call all use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.device import BATCH_TOKENS, check_alive
from ptec_udf.engine.encoder import EncodedText, Encoder
from ptec_udf.engine.result import TEXT_ERRORS, ScoredText, make_result, mark_failed
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.ensemble import MeanNetwork, build_ensemble
from ptec_udf.model.heads import Head, LabelAttention
from ptec_udf.model.lora import check_unchanged, merge_lora
from ptec_udf.model.network import PtecNetwork
from ptec_udf.model.tfidf import TfidfHead

# Of texts that are tokenised together: before they are cut, their tokens take far more memory than they do.
_CHARACTERS_AT_ONCE = 2**20


class Scorer:
    """A loaded model: scores texts in any number and order.

    A text that makes a batch fail is found by halving the batch and gets status ``error``; its
    neighbours are scored as if it were not there. Error texts name the exception's class only,
    since its message may hold the company's text.
    """

    def __init__(
        self,
        network: PtecNetwork | MeanNetwork,
        encoder: Encoder,
        *,
        batch_tokens: int,
        tfidf: TfidfHead | None = None,
    ) -> None:
        """Take a network in eval mode and freeze its prompt; the logits of ``terms`` are added to its own."""
        self.network: PtecNetwork | MeanNetwork = network.eval()
        self.network.freeze_prompt()
        self.encoder = encoder
        self.batch_tokens = batch_tokens
        self.tfidf = tfidf

    @classmethod
    def from_artifact(
        cls, artifact: Artifact, backbone: Any, tokenizer: Any, *, batch_tokens: int = BATCH_TOKENS
    ) -> Scorer:
        """Put an artifact's adapter and head on its backbone; LoRA changes the backbone's own weights.

        Raises:
            ArtifactError: for LoRA on layers that the backbone does not have.
            ValueError: for a backbone that another model's LoRA has changed.
            TypeError: for a model without a backbone.
        """
        manifest = artifact.manifest
        if manifest.max_tokens is None or manifest.pooling is None:
            raise TypeError("a model without a backbone must be loaded by load_scorer")
        check_unchanged(backbone)
        if manifest.lora is not None:
            merge_lora(backbone, artifact.adapter, manifest.lora.alpha / manifest.lora.rank)
        networks = [
            PtecNetwork(
                backbone=backbone,
                kind=manifest.prompt.kind if manifest.prompt else None,
                prompt=member.prompt,
                head=_head(member.weight, member.bias),
                pooling=manifest.pooling,
                attention=None if member.queries is None else LabelAttention(member.queries),
            )
            for member in artifact.members
        ]
        tfidf = None
        if artifact.tfidf is not None and artifact.tfidf_head is not None:
            tfidf = TfidfHead(artifact.tfidf, *artifact.tfidf_head)
        encoder = Encoder.of(manifest, tokenizer)
        network = build_ensemble(networks).to(backbone.device)
        return cls(network, encoder, batch_tokens=batch_tokens, tfidf=tfidf)

    @torch.inference_mode()
    def score(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts; the result has the order of the input. None and blank texts are ``empty``."""
        results = [ScoredText() for _ in texts]
        encoded = self.encode(texts, results)
        for rows in batches(encoded, lambda: self.batch_tokens):
            self.score_batch(rows, texts, encoded, results)
        return results

    def encode(self, texts: Sequence[str | None], results: list[ScoredText]) -> dict[int, EncodedText]:
        """Tokenise texts that are not blank, by row; one that makes the tokeniser fail is marked in the results."""
        rows = [row for row, text in enumerate(texts) if text and not text.isspace()]
        encoded: dict[int, EncodedText] = {}
        for portion in _portions(rows, texts):
            _halving(
                portion, lambda part: self._encode(texts, part, encoded), lambda row, e: mark_failed(results[row], e)
            )
        return encoded

    def score_batch(
        self,
        rows: list[int],
        texts: Sequence[str | None],
        encoded: Mapping[int, EncodedText],
        results: list[ScoredText],
    ) -> None:
        """Score the rows of one batch; one that makes the network fail is found by halving."""
        _halving(
            rows, lambda part: self._forward(part, texts, encoded, results), lambda row, e: mark_failed(results[row], e)
        )

    def keep(
        self,
        rows: list[int],
        logits: np.ndarray,
        texts: Sequence[str | None],
        encoded: Mapping[int, EncodedText],
        results: list[ScoredText],
    ) -> None:
        """Write what the network gave for a batch, *Shape:* ``(batch, n_labels)``, with the terms' share added."""
        positions = max(len(encoded[row].ids) for row in rows)
        for row, values in zip(rows, logits, strict=True):
            text, cut = texts[row] or "", encoded[row]
            if self.tfidf is not None:
                values = values + self.tfidf.logits(text)
            results[row] = make_result(
                text, values, n_tokens=len(cut.ids), n_truncated=cut.n_truncated, batch_positions=positions
            )

    def _encode(self, texts: Sequence[str | None], rows: list[int], encoded: dict[int, EncodedText]) -> None:
        """Tokenise some rows."""
        encoded.update(zip(rows, self.encoder.encode([texts[row] or "" for row in rows]), strict=True))

    def _forward(
        self,
        rows: list[int],
        texts: Sequence[str | None],
        encoded: Mapping[int, EncodedText],
        results: list[ScoredText],
    ) -> None:
        """Run one batch through the network and write its results."""
        from ptec_udf.engine.torch_engine import pad

        ids, mask = pad([encoded[row].ids for row in rows], self.encoder.pad_id)
        self.keep(rows, self._logits(ids, mask), texts, encoded, results)

    def _logits(self, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Run a batch, *Shape:* ``(batch, n_labels)``; if it does not fit into memory, later ones are smaller."""
        try:
            return self._run(ids, mask)
        except torch.OutOfMemoryError:
            if len(ids) > 1:
                self.batch_tokens = max(1, min(self.batch_tokens, ids.numel() // 2))
                raise  # whoever called halves this batch
        torch.cuda.empty_cache()
        return self._run(ids, mask)  # others may have left room by now

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        device = self.network.device
        try:
            return self.network(ids.to(device), mask.to(device)).cpu().numpy()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            check_alive(device)
            raise


def _head(weight: torch.Tensor, bias: torch.Tensor) -> Head:
    """Make a head of its weights."""
    n_labels, width = weight.shape
    head = Head(width, n_labels)
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


def batches(encoded: Mapping[int, EncodedText], batch_tokens: Callable[[], int]) -> Iterator[list[int]]:
    """Group rows of encoded texts under a budget of positions; texts without any token are left out.

    Args:
        encoded: by row.
        batch_tokens: gives the budget, which may fall while batches are run.
    """
    rows = [row for row, text in encoded.items() if text.ids]
    for batch in length_sorted_batches([len(encoded[row].ids) for row in rows], batch_tokens):
        yield [rows[at] for at in batch]


def _portions(rows: Sequence[int], texts: Sequence[str | None]) -> Iterator[list[int]]:
    """Divide rows so that the texts of a part are short together, or there is one."""
    portion: list[int] = []
    characters = 0
    for row in rows:
        length = len(texts[row] or "")
        if portion and characters + length > _CHARACTERS_AT_ONCE:
            yield portion
            portion, characters = [], 0
        portion.append(row)
        characters += length
    if portion:
        yield portion


def _halving(rows: list[int], run: Callable[[list[int]], None], fail: Callable[[int, Exception], None]) -> None:
    """Run over rows; where that fails, over each half, down to the rows that fail alone."""
    if not rows:
        return
    try:
        run(rows)
        return
    except TEXT_ERRORS as error:
        if len(rows) == 1:
            fail(rows[0], error)
            return
    # Not above, where the error still holds all that the failed pass had in memory.
    middle = len(rows) // 2
    _halving(rows[:middle], run, fail)
    _halving(rows[middle:], run, fail)
