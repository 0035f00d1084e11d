"""Distributions: bins that hold every probability, and an index that is over its chance only when something moved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from ptec_udf.monitor.distribution import (
    PROBABILITY_BINS,
    PROBABILITY_EDGES,
    _chi_squared,
    count_probabilities,
    mix_shift,
    probability_counts,
    scale_shift,
    share_shift,
    shift,
)


def counts_of(values: np.ndarray) -> dict[str, int]:
    return probability_counts(count_probabilities(values.reshape(-1, 1).astype(np.float32))[0])


def test_every_probability_is_in_the_bin_of_its_least_value() -> None:
    found = count_probabilities(np.array([[0.0, 1.0], [0.5, 0.49999], [1e-9, 0.9999]], np.float32))
    assert found.sum(axis=1).tolist() == [3, 3]
    assert probability_counts(found[0]) == {"0": 2, "0.5": 1}
    low = PROBABILITY_BINS[PROBABILITY_BINS.index("0.5") - 1]
    assert probability_counts(found[1]) == {low: 1, PROBABILITY_BINS[-1]: 2}
    assert [float(name) for name in PROBABILITY_BINS] == pytest.approx(PROBABILITY_EDGES, rel=1e-5)


def test_index_of_known_shares() -> None:
    # (.5 - .25) ln(.5 / .25) + (.5 - .75) ln(.5 / .75), but for the smoothing
    found = shift({"ok": 25_000, "error": 75_000}, {"ok": 50_000, "error": 50_000})
    assert found.size == pytest.approx(0.25 * np.log(2) - 0.25 * np.log(2 / 3), abs=1e-4)
    assert found.by_chance == pytest.approx(2e-5 * _chi_squared(1))


def test_equal_distributions_and_one_bin_are_no_shift() -> None:
    counts = {"0": 900, "1": 80, "2": 20}
    assert shift(counts, counts).size == 0
    assert shift({"ok": 10}, {"ok": 500}) == shift({"ok": 500}, {"ok": 10})
    assert (shift({"ok": 10}, {"ok": 500}).size, shift({"ok": 10}, {"ok": 500}).by_chance) == (0, 0)


def test_a_bin_that_one_side_lacks_counts_and_is_finite() -> None:
    found = shift({"en": 500}, {"de": 500})
    assert np.isfinite(found.size)
    assert found.size > 5


def test_the_tail_stays_apart_from_the_bin_that_holds_the_rest() -> None:
    reference, moved = {"0": 970, "0.5": 20, "0.9": 10}, {"0": 700, "0.5": 200, "0.9": 100}
    assert shift(reference, moved).size > 0.25


@pytest.mark.parametrize("degrees", [1, 2, 5, 9, 20])
def test_chance_is_that_of_chi_squared(degrees: int) -> None:
    exact = chi2.isf(1e-6, degrees)
    assert 0.99 * exact < _chi_squared(degrees) < 1.16 * exact  # few degrees are approximated from above


@pytest.mark.parametrize("n_found", [100, 1000])
def test_samples_of_one_population_stay_below_their_chance(n_found: int) -> None:
    random = np.random.default_rng(7)
    shares = [random.beta(0.2, beta, size=(500, 40)) for beta in (1.0, 5.0, 30.0)]
    for share in shares:
        found = [shift(counts_of(share[:, at]), counts_of(random.choice(share[:, at], n_found))) for at in range(40)]
        assert all(one.size < one.by_chance for one in found)


def test_numbers_are_joined_to_ten_groups_at_most() -> None:
    values = np.random.default_rng(1).random(20_000)
    found = shift(counts_of(values), counts_of(values[:10_000]))
    assert found.by_chance <= (1 / 20_000 + 1 / 10_000) * chi2.isf(1e-6, 9) * 1.05


def test_shares_of_one_population_stay_below_their_chance() -> None:
    random = np.random.default_rng(5)
    for share, n_found in ((0.002, 100), (0.02, 300), (0.3, 1000)):
        pairs = zip(
            random.binomial(3000, share, 500).tolist(), random.binomial(n_found, share, 500).tolist(), strict=True
        )
        found = [share_shift((was, 3000), (now, n_found)) for was, now in pairs]
        assert all(one.size < one.by_chance for one in found)


def test_a_share_that_grew_ten_times_is_seen_and_so_is_one_of_nothing() -> None:
    found = share_shift((300, 10_000), (3000, 10_000))
    assert found.size == pytest.approx(np.log(10), rel=0.01)
    assert found.size > found.by_chance
    assert share_shift((0, 1000), (0, 1000)).size == 0
    assert np.isfinite(share_shift((0, 1000), (500, 1000)).size)


def test_mixes_of_one_population_stay_below_their_chance_though_labels_come_in_bundles() -> None:
    random = np.random.default_rng(11)
    bundles = np.zeros((60, 90), np.int64)  # a parent for three of 60 sectors, and some with a rare third label
    for at, labels in enumerate(bundles):
        labels[[at, 60 + at // 3, *([80 + at % 10] if at % 4 == 0 else [])]] = 1
    share = random.dirichlet(np.full(60, 0.7))
    sizes = bundles.sum(axis=1)
    together = float(np.average(sizes, weights=share * sizes))
    names = [f"label {at}" for at in range(90)]
    for _ in range(2000):
        sides = [random.multinomial(n, share) @ bundles for n in (1000, 120)]
        found = mix_shift(*(dict(zip(names, side.tolist(), strict=True)) for side in sides), together)
        assert found.size < found.by_chance


def test_a_mix_of_rare_labels_is_that_of_one_and_a_new_label_counts() -> None:
    reference = {"a": 5000, "b": 5000, "c": 20, "d": 30}
    assert mix_shift(reference, {"a": 500, "b": 500, "c": 5}, 1.0) == mix_shift(
        reference, {"a": 500, "b": 500, "e": 5}, 1.0
    )
    found = mix_shift(reference, {"a": 300, "b": 300, "e": 600}, 1.0)
    assert found.size > 0.25 > found.by_chance


def test_lengths_of_one_population_stay_below_their_chance_and_halved_ones_do_not() -> None:
    random = np.random.default_rng(13)
    for _ in range(500):
        was, now = (
            dict(
                zip(*np.unique(2.0 ** (np.floor(2 * random.normal(6.5, 0.7, n)) / 2), return_counts=True), strict=True)
            )
            for n in (1000, 120)
        )
        sides = [{str(length): int(count) for length, count in side.items()} for side in (was, now)]
        found = scale_shift(*sides)
        assert found.size < found.by_chance
        halved = scale_shift(sides[0], {str(float(length) / 2): count for length, count in sides[1].items()})
        assert halved.size > halved.by_chance
    assert scale_shift({"100": 50}, {"200": 50}).size == pytest.approx(np.log(2))
    assert scale_shift({"0": 50}, {"1": 50}).size == 0
