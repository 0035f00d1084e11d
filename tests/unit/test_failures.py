"""How many errors a night may have, and how they are told."""

from __future__ import annotations

import pytest

from ptec_udf.errors import ErrorBudgetError
from ptec_udf.nightly.failures import ErrorKind, check_budget


def kinds(*companies: int) -> list[ErrorKind]:
    return [ErrorKind(f"error {at}", number, [f"key {at}"]) for at, number in enumerate(companies)]


@pytest.mark.parametrize(
    ("found", "n_companies", "fraction"),
    [
        (kinds(), 1000, 0.0),
        (kinds(60, 40), 1000, 0.1),
        (kinds(10), 11, 0.1),  # few companies count as 100
        (kinds(11), 11, 1.0),
    ],
)
def test_errors_within_the_budget(found, n_companies, fraction):
    check_budget(found, n_companies, fraction)


@pytest.mark.parametrize(
    ("found", "n_companies", "fraction"),
    [(kinds(1), 1000, 0.0), (kinds(60, 41), 1000, 0.1), (kinds(11), 11, 0.1)],
)
def test_errors_beyond_it(found, n_companies, fraction):
    with pytest.raises(ErrorBudgetError, match=f"{sum(kind.companies for kind in found)} of {n_companies} companies"):
        check_budget(found, n_companies, fraction)


def test_every_kind_is_told_with_some_keys():
    with pytest.raises(ErrorBudgetError) as raised:
        check_budget([ErrorKind("one", 3, ["a", "b'"]), ErrorKind("another", 1, ["c"])], 4, 0.0)
    lines = str(raised.value).splitlines()
    assert lines[1:3] == [
        "  3 without a score: one; keys 'a', \"b'\" and 1 more",
        "  1 without a score: another; keys 'c'",
    ]
