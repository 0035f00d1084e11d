"""Limits of errors and removals."""

from __future__ import annotations

import pytest

from ptec_udf.errors import ErrorBudgetError, RemovalBudgetError
from ptec_udf.monitor.failures import ErrorKind
from ptec_udf.nightly.publish import check_errors, check_removed


def kinds(*companies: int) -> list[ErrorKind]:
    return [ErrorKind(f"error {at}", number, [f"key {at}"]) for at, number in enumerate(companies)]


class TestErrors:
    @pytest.mark.parametrize(
        ("found", "n_companies", "fraction", "is_refused"),
        [
            (kinds(), 1000, 0.0, False),
            (kinds(60, 40), 1000, 0.1, False),
            (kinds(10), 11, 0.1, False),  # few companies count as 100
            (kinds(11), 11, 1.0, False),
            (kinds(1), 1000, 0.0, True),
            (kinds(60, 41), 1000, 0.1, True),
            (kinds(11), 11, 0.1, True),
        ],
    )
    def test_limit(self, found, n_companies, fraction, is_refused):
        try:
            check_errors(found, n_companies, fraction)
        except ErrorBudgetError as error:
            assert is_refused
            assert f"{sum(kind.companies for kind in found)} of {n_companies} companies have errors" in str(error)
        else:
            assert not is_refused


class TestRemovals:
    @pytest.mark.parametrize(
        ("counts", "fraction"),
        [
            ({"same": 500, "removed": 500}, 0.5),
            ({"removed": 50, "same": 10}, 0.5),  # few companies count as 100
            ({"removed": 1000}, 1.0),
            ({"new": 1000}, 0.0),
        ],
    )
    def test_within_limit(self, counts, fraction):
        check_removed(counts, fraction)

    @pytest.mark.parametrize(
        ("counts", "n_active"),
        [
            ({"removed": 501, "same": 300, "text": 199}, 1000),
            ({"removed": 501, "same": 499, "new": 9000, "no_key": 7}, 1000),  # new companies do not compensate
            ({"removed": 51}, 51),
        ],
    )
    def test_over_limit(self, counts, n_active):
        with pytest.raises(RemovalBudgetError, match=f"{counts['removed']} of {n_active} active companies are missing"):
            check_removed(counts, 0.5)
