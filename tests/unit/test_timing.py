"""What passes of scoring say of all texts, and how sure that is."""

from __future__ import annotations

import math

import pytest

from ptec_udf.preflight import memory
from ptec_udf.preflight.timing import Pass, Rate


def test_rate_is_that_of_all_passes_together():
    rate = Rate.of([Pass(10, 1000, 250, 2.0), Pass(30, 3000, 750, 6.0)])
    assert (rate.seconds_per_cost, rate.tokens_per_cost) == (0.002, 0.25)
    assert rate.margin == 0.0


def test_passes_that_differ_leave_a_margin():
    passes = [Pass(1, 100, 1, seconds) for seconds in (9.0, 10.0, 11.0)]
    assert Rate.of(passes).margin == pytest.approx(4.30 / math.sqrt(3) / 10, rel=1e-3)


def test_one_pass_says_nothing_of_its_margin():
    assert Rate.of([Pass(1, 100, 1, 1.0)]).margin == math.inf


def test_what_was_held_and_given_back_counts_for_a_worker():
    before = memory._held()
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    found = memory._held()
    assert found.each > before.each + 150
    assert found.shared == pytest.approx(before.shared, abs=50)
