"""Exit codes of our errors."""

from __future__ import annotations

import inspect

import pytest

from ptec_udf import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PtecError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_user_errors_end_with_2_and_others_with_1(kind: type[errors.PtecError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, errors.UserError) else 1)


def test_a_user_error_keeps_all_errors() -> None:
    error = errors.ConfigError(["out: must be set", "seed: must be 0 or more, was: -1"])
    assert error.errors == ["out: must be set", "seed: must be 0 or more, was: -1"]
    assert str(error) == "out: must be set\nseed: must be 0 or more, was: -1"
    assert errors.SourceError("no table").errors == ["no table"]
