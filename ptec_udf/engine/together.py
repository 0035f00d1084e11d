"""Texts scored by several models in one pass: tokenised once, and run once for all networks with an equal prompt.

The first model is the one that counts. It is scored as if it were alone; of the others whatever fails is left out,
since each of them has a run of its own, which tries again and tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ptec_udf.engine.encode import EncodedText
from ptec_udf.engine.scorer import ScoredText, Scorer, batches, pad
from ptec_udf.model.network import PtecNetwork

_Pass = list[tuple[int, PtecNetwork]]  # networks of equal hidden states, each with the place of its model


def score_wanted(
    scorers: Sequence[Scorer | None], texts: Sequence[str | None], wanted: Sequence[int]
) -> list[list[ScoredText]]:
    """Score all texts by the first model, and by others those that they are wanted for.

    Args:
        scorers: as of ``score_together``; None for a model that is not to be had, which scores nothing.
        texts: in any number and order.
        wanted: of each text, bit n - 1 of which says whether the n-th model after the first scores it.

    Returns:
        As of ``score_together``.
    """
    results = [[ScoredText() for _ in texts] for _ in scorers]
    for mark in sorted(set(wanted)):
        rows = [row for row, of_row in enumerate(wanted) if of_row == mark]
        there = [
            (at, scorer)
            for at, scorer in enumerate(scorers)
            if scorer is not None and (at == 0 or mark & 1 << (at - 1))
        ]
        found = score_together([scorer for _, scorer in there], [texts[row] for row in rows])
        for (at, _), of_model in zip(there, found, strict=True):
            for row, result in zip(rows, of_model, strict=True):
                results[at][row] = result
    return results


@torch.inference_mode()
def score_together(scorers: Sequence[Scorer], texts: Sequence[str | None]) -> list[list[ScoredText]]:
    """Score texts by each model.

    Args:
        scorers: on backbones of one content, so that their tokenisers are equal.
        texts: in any number and order.

    Returns:
        Of each model, results in the order of the texts. Those of the first one are as of ``Scorer.score``. What
        another one cannot score here stands without logits, whatever its status is.
    """
    results = [[ScoredText() for _ in texts] for _ in scorers]
    for places in _cutting_alike(scorers):
        try:
            _score(places, scorers, texts, results)
        except Exception:
            if 0 in places:
                raise
    return results


def _cutting_alike(scorers: Sequence[Scorer]) -> list[list[int]]:
    """Put together the places of models that cut texts alike: at the same length, and at the same places."""
    groups: list[list[int]] = []
    for at, scorer in enumerate(scorers):
        alike = next((places for places in groups if scorers[places[0]].encoder.cuts_like(scorer.encoder)), None)
        if alike is None:
            groups.append(alike := [])
        alike.append(at)
    return groups


def _score(
    places: Sequence[int], scorers: Sequence[Scorer], texts: Sequence[str | None], results: list[list[ScoredText]]
) -> None:
    """Score by models that cut texts alike; a text that makes the tokeniser fail is marked for the first of them."""
    first, passes = places[0], _passes(places, scorers)
    encoded = scorers[first].encode(texts, results[first])
    for rows in batches(encoded, min(scorers[at].batch_tokens for at in places)):
        logits = _logits(passes, rows, encoded, scorers[first].encoder.pad_id)
        for at in places:
            kept = at in logits and _is_kept(scorers[at], rows, logits[at], texts, encoded, results[at])
            if at == 0 and not kept:
                scorers[0].score_batch(rows, texts, encoded, results[0])


def _passes(places: Sequence[int], scorers: Sequence[Scorer]) -> list[_Pass]:
    """Put together the networks of models that have hidden states in common."""
    passes: list[_Pass] = []
    for at in places:
        for network in scorers[at].network.members:
            alike = next((one for one in passes if one[0][1].has_hidden_of(network)), None)
            if alike is None:
                passes.append(alike := [])
            alike.append((at, network))
    return passes


def _logits(
    passes: Sequence[_Pass], rows: Sequence[int], encoded: Mapping[int, EncodedText], pad_id: int
) -> dict[int, np.ndarray]:
    """Run one batch; give the logits of each model that does not fail, by its place, *Shape:* ``(batch, n_labels)``."""
    ids, mask = pad([encoded[row].ids for row in rows], pad_id)
    found: dict[int, list[torch.Tensor]] = {}
    failed: set[int] = set()
    for one in passes:
        network = one[0][1]
        on_device = mask.to(network.device)
        try:
            hidden = network.hidden(ids.to(network.device), on_device)
        except Exception:
            failed |= {at for at, _ in one}
            continue
        for at, network in one:
            try:
                found.setdefault(at, []).append(network.logits(hidden, on_device).cpu())
            except Exception:
                failed.add(at)
    return {at: torch.stack(of_model).mean(dim=0).numpy() for at, of_model in found.items() if at not in failed}


def _is_kept(
    scorer: Scorer,
    rows: list[int],
    logits: np.ndarray,
    texts: Sequence[str | None],
    encoded: Mapping[int, EncodedText],
    results: list[ScoredText],
) -> bool:
    """Write a model's results of a batch and tell whether that went well; for the arguments see ``Scorer.keep``."""
    try:
        scorer.keep(rows, logits, texts, encoded, results)
    except Exception:
        return False
    return True
