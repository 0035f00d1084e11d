"""How many errors a night may have, and how they are told; how many companies its source may lack."""

from __future__ import annotations

import pytest

from ptec_udf.errors import ErrorBudgetError, RemovalBudgetError
from ptec_udf.monitor.failures import ErrorKind
from ptec_udf.nightly.budget import check_budget, check_removed


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


@pytest.mark.parametrize(
    ("fates", "fraction"),
    [
        ({"same": 500, "gone": 500}, 0.5),
        ({"gone": 50, "same": 10}, 0.5),  # few companies count as 100
        ({"gone": 1000}, 1.0),
        ({"new": 1000}, 0.0),
    ],
)
def test_as_many_may_be_gone(fates, fraction):
    check_removed(fates, fraction)


@pytest.mark.parametrize(
    ("fates", "standing"),
    [
        ({"gone": 501, "same": 300, "text": 199}, 1000),
        ({"gone": 501, "same": 499, "new": 9000, "no_key": 7}, 1000),  # those that come make up for none
        ({"gone": 51}, 51),
    ],
)
def test_more_may_not(fates, standing):
    with pytest.raises(RemovalBudgetError, match=f"{fates['gone']} of {standing} companies are gone from the source"):
        check_removed(fates, 0.5)
