"""The first comparison of two models decides a promotion; later ones are shown and need force."""

from __future__ import annotations

import pytest

from ptec_training.evaluate.gate import Comparison, Difference, EvaluateConfig, GateConfig, apply_gate
from ptec_training.evaluate.record import check_gate, n_evaluations, save
from ptec_udf.errors import RegistryError
from ptec_udf.warehouse.tables import Warehouse

GATE = GateConfig()


def comparison(low: float) -> Comparison:
    """Two models whose difference in mAP has an interval that begins at ``low``."""
    figures = {"map": 0.5, "ece": 0.01, "auroc": None}
    labels = ["a", 'it\'s "b"']
    places = [("map", None), ("macro_f1", None), *(("ap", label) for label in labels)]
    interval = {"positives": 9, "champion": 0.5, "challenger": 0.5, "difference": 0.0, "low": low, "high": 0.2}
    return Comparison(
        n_rows=200,
        left_out={"learned by champion": 1},
        labels=labels,
        unjudged=[],
        only_champion=[],
        only_challenger=[],
        champion=figures,
        challenger=figures,
        differences=[Difference(figure=figure, label=label, **interval) for figure, label in places],
    )


def record(warehouse: Warehouse, pair: tuple[str, str], low: float, split: str = "dev") -> str:
    """Record a comparison; return its id."""
    found, config = comparison(low), EvaluateConfig.model_validate({"extract": "x", "split": split})
    return save(warehouse, config, pair, found, apply_gate(found, GATE), "f" * 64, "tester")["evaluation_id"]


class TestGate:
    def test_first_comparison_decides(self, warehouse: Warehouse, capsys: pytest.CaptureFixture[str]) -> None:
        failed = record(warehouse, ("old", "new"), -0.1)
        passed = record(warehouse, ("old", "new"), 0.1, split="test")
        with pytest.raises(RegistryError, match=r"gate, rule gain: .* above -0.01, the gain is \+0\.0000"):
            check_gate(warehouse, GATE, "next", "old", "new", force=False)
        shown = capsys.readouterr().err
        assert f"evaluation {failed} on dev of extract ffffffffffff decides" in shown
        assert f"evaluation {passed} of the same models came later and does not count" in shown
        forced = check_gate(warehouse, GATE, "next", "old", "new", force=True)
        assert (forced["gate"], forced["evaluation_id"]) == ("forced: gain", failed)

    def test_later_failure_does_not_undo_a_pass(self, warehouse: Warehouse) -> None:
        record(warehouse, ("old", "new"), 0.1)
        record(warehouse, ("old", "new"), -0.1)
        assert check_gate(warehouse, GATE, "next", "old", "new", force=False)["gate"] == "passed"

    def test_needs_a_comparison_of_this_pair(self, warehouse: Warehouse) -> None:
        record(warehouse, ("old", "new"), 0.1)
        with pytest.raises(RegistryError, match="model old must be compared with new, which alias next points to"):
            check_gate(warehouse, GATE, "next", "new", "old", force=False)
        assert check_gate(warehouse, GATE, "next", "new", "old", force=True)["gate"] == "forced: no evaluation"

    def test_counts_the_uses_of_rows(self, warehouse: Warehouse) -> None:
        for challenger in ("b", "c"):
            record(warehouse, ("a", challenger), 0.1)
        counts = [n_evaluations(warehouse, "f" * 64, split) for split in ("dev", "test")]
        assert counts == [2, 0]
