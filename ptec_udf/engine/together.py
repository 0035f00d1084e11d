"""Texts scored by several models in one pass, which runs once for all networks with an equal prompt.

The first model is the one that counts. It is scored as if it were alone, to the last bit: batches are those that it
would make of the texts, whatever the others want of them. Of the others whatever fails is left out, since each of them
has a run of its own, which tries again and tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from ptec_udf.engine.encoder import EncodedText
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.scorer import Scorer, batches, pad
from ptec_udf.model.network import PtecNetwork

# Networks of equal hidden states, each with the place of its model and its own among the model's members.
_Pass = list[tuple[int, int, PtecNetwork]]


@torch.inference_mode()
def score_together(
    scorers: Sequence[Scorer | None], texts: Sequence[str | None], wanted: Sequence[int] | None = None
) -> list[list[ScoredText]]:
    """Score all texts by the first model, and by others those that they are wanted for.

    Args:
        scorers: on backbones of one content, so that their tokenisers are equal; None for a model that is not to be
            had, which scores nothing and cannot be the first.
        texts: in any number and order.
        wanted: of each text, bit n - 1 of which says whether the n-th model after the first scores it; None: all do.

    Returns:
        Of each model, results in the order of the texts. Those of the first one are equal to the last bit to those of
        ``Scorer.score``. What is not wanted of another one, or what it cannot score here, stands without logits.
    """
    results = [[ScoredText() for _ in texts] for _ in scorers]
    there = {at: scorer for at, scorer in enumerate(scorers) if scorer is not None}
    wants = {at: _wanted_of(at, range(len(texts)), wanted) for at in there}
    for places in _cutting_alike(there):
        try:
            _score(places, there, texts, wants, results)
        except Exception:
            if 0 in places:
                raise
    return [
        [result if row in wants.get(at, ()) else ScoredText() for row, result in enumerate(of_model)]
        for at, of_model in enumerate(results)
    ]


def _wanted_of(at: int, rows: Sequence[int], wanted: Sequence[int] | None) -> set[int]:
    """Return the rows that the model of a place is to score."""
    return {row for row in rows if at == 0 or wanted is None or wanted[row] & 1 << (at - 1)}


def _cutting_alike(scorers: Mapping[int, Scorer]) -> list[list[int]]:
    """Put together the places of models that cut texts alike: at the same length, and at the same places."""
    groups: list[list[int]] = []
    for at, scorer in scorers.items():
        alike = next((places for places in groups if scorers[places[0]].encoder.cuts_like(scorer.encoder)), None)
        if alike is None:
            groups.append(alike := [])
        alike.append(at)
    return groups


def _score(
    places: Sequence[int],
    scorers: Mapping[int, Scorer],
    texts: Sequence[str | None],
    wants: Mapping[int, Collection[int]],
    results: list[list[ScoredText]],
) -> None:
    """Score by models that cut texts alike; a text that makes the tokeniser fail is marked for the first of them.

    Batches are those of the first of them, over the texts that any of them is to score; results may hold more.
    """
    first, passes = scorers[places[0]], _passes(places, scorers)
    of_any = set().union(*(wants[at] for at in places))
    encoded = first.encode([text if row in of_any else None for row, text in enumerate(texts)], results[places[0]])
    for rows in batches(encoded, lambda: first.batch_tokens):
        wanting = [at for at in places if any(row in wants[at] for row in rows)]
        logits = _logits(passes, wanting, rows, encoded, first.encoder.pad_id)
        for at in wanting:
            kept = at in logits and _is_kept(scorers[at], rows, logits[at], texts, encoded, results[at])
            if at == 0 and not kept:
                scorers[0].score_batch(rows, texts, encoded, results[0])


def _passes(places: Sequence[int], scorers: Mapping[int, Scorer]) -> list[_Pass]:
    """Put together the networks of models that have hidden states in common."""
    passes: list[_Pass] = []
    for at in places:
        for member, network in enumerate(scorers[at].network.members):
            alike = next((one for one in passes if one[0][2].has_hidden_of(network)), None)
            if alike is None:
                passes.append(alike := [])
            alike.append((at, member, network))
    return passes


def _logits(
    passes: Sequence[_Pass],
    wanting: Collection[int],
    rows: Sequence[int],
    encoded: Mapping[int, EncodedText],
    pad_id: int,
) -> dict[int, np.ndarray]:
    """Run one batch by models that want some of it.

    Returns:
        Logits of each of them that does not fail, by its place, *Shape:* ``(batch, n_labels)``.
    """
    ids, mask = pad([encoded[row].ids for row in rows], pad_id)
    found: dict[int, dict[int, torch.Tensor]] = {}
    failed: set[int] = set()
    for whole in passes:
        if not (one := [part for part in whole if part[0] in wanting]):
            continue
        network = one[0][2]
        on_device = mask.to(network.device)
        try:
            hidden = network.hidden(ids.to(network.device), on_device)
        except Exception:
            failed |= {at for at, _, _ in one}
            continue
        for at, member, network in one:
            try:
                found.setdefault(at, {})[member] = network.logits(hidden, on_device)
            except Exception:
                failed.add(at)
    return {at: _mean(of_model) for at, of_model in found.items() if at not in failed}


def _mean(of_members: Mapping[int, torch.Tensor]) -> np.ndarray:
    """Average members' logits as ``MeanNetwork`` does, in their order: another sum has other last digits."""
    return torch.stack([of_members[member] for member in sorted(of_members)]).mean(dim=0).cpu().numpy()


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
