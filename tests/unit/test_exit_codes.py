"""Exit codes, and that all faults are kept."""

from __future__ import annotations

import pytest

from ptec_udf import errors


@pytest.mark.parametrize("kind", ["ConfigError", "SourceError", "ArtifactError", "BackboneError", "RegistryError"])
def test_what_the_person_can_mend_ends_with_2(kind):
    assert issubclass(getattr(errors, kind), errors.UserError)
    assert getattr(errors, kind).exit_code == 2


_OTHERS = ("PtecError", "WarehouseBusyError", "BudgetError", "ErrorBudgetError", "RemovalBudgetError", "HeldError")


@pytest.mark.parametrize("kind", [*_OTHERS, "TrainingError"])
def test_everything_else_ends_with_1(kind):
    assert issubclass(getattr(errors, kind), errors.PtecError)
    assert not issubclass(getattr(errors, kind), errors.UserError)
    assert getattr(errors, kind).exit_code == 1


def test_all_faults_are_kept_and_said_one_a_line():
    error = errors.ConfigError(["out: must be set", "seed: must be 0 or more, was: -1"])
    assert error.errors == ["out: must be set", "seed: must be 0 or more, was: -1"]
    assert str(error) == "out: must be set\nseed: must be 0 or more, was: -1"


def test_one_fault_may_be_given_as_a_text():
    assert errors.SourceError("no table").errors == ["no table"]
