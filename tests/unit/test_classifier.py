"""``PtecClassifier``: scikit-learn's conventions, and the model of ``ptec train``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils import estimator_checks

from ptec_training.data.config import LabelsConfig, SplitConfig
from ptec_training.data.frame import extract_frame
from ptec_udf import PtecClassifier, PtecModel
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import LABELS, TEMPLATE, tiny_backbone, tiny_companies, tiny_text
from tests.unit.trainings import QUICK, stop_after, weights_of

COMPANIES = tiny_companies(200)
TEXTS = [tiny_text(company) for company in COMPANIES]
NAMES = [company["labels"] for company in COMPANIES]

CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
)
"""scikit-learn's checks that need no numeric table as input."""


@pytest.fixture
def classifier(tiny_folder: Path) -> PtecClassifier:
    settings = {"prompt.n_tokens": 4, "dtype": "float32", "optimiser.head_lr": 0.03}
    backbone = tiny_backbone(tiny_folder, "bert")
    return PtecClassifier(backbone, epochs=2, patience=9, refit=False, max_tokens=32, settings=settings)


class TestConventions:
    @pytest.mark.parametrize("check", CHECKS)
    def test_check_of_scikit_learn(self, classifier: PtecClassifier, check: str) -> None:
        getattr(estimator_checks, check)("PtecClassifier", classifier)

    def test_check_estimator_passes(self, classifier: PtecClassifier) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that checks with numeric tables are left out
            found = estimator_checks.check_estimator(classifier, on_skip=None)
        assert {(one["check_name"], one["status"]) for one in found} == {("check_estimator_cloneable", "passed")}

    def test_cross_validation(self, classifier: PtecClassifier) -> None:
        texts, names = np.array(TEXTS, dtype=object), np.array(NAMES, dtype=object)
        found = cross_val_score(clone(classifier).set_params(epochs=1), texts, names, cv=KFold(2))
        assert found.shape == (2,)
        assert ((found > 0) & (found <= 1)).all()

    def test_unfitted(self, classifier: PtecClassifier, tmp_path: Path) -> None:
        for call in (classifier.predict, classifier.predict_proba, classifier.decision_function, classifier.save):
            with pytest.raises(NotFittedError):
                call(tmp_path if call == classifier.save else TEXTS)


class TestFit:
    def test_learns(self, classifier: PtecClassifier, tmp_path: Path) -> None:
        fitted = classifier.set_params(epochs=4).fit(TEXTS[:150], NAMES[:150])
        assert list(fitted.classes_) == list(LABELS)
        assert {*fitted.metrics_} == {"validation"}
        found = fitted.predict_proba(pd.Series(TEXTS[150:], index=range(50)))
        truth = np.array([[label in names for label in LABELS] for names in NAMES[150:]])
        assert average_precision_score(truth, found[list(LABELS)]) > truth.mean() + 0.15
        expected = f1_score(truth, found >= pd.Series(fitted.model_.thresholds), average="macro")
        assert fitted.score(TEXTS[150:], NAMES[150:]) == pytest.approx(expected)
        fitted.save(tmp_path / "saved")
        loaded = PtecModel.load(tmp_path / "saved")
        assert loaded.predict(TEXTS) == fitted.predict(TEXTS)
        np.testing.assert_array_equal(loaded.logits(TEXTS), fitted.decision_function(TEXTS))

    def test_model_is_that_of_ptec_train(self, classifier: PtecClassifier, run: Any, tmp_path: Path) -> None:
        frame = pd.DataFrame(COMPANIES)
        labels, no_split = LabelsConfig(column="labels"), SplitConfig(dev=0.0, test=0.0)
        extract = tmp_path / "extract"
        extract_frame(frame, extract, name="x", template=TEMPLATE, labels=labels, split=no_split, key="key")
        trained = run(tmp_path / "out", *QUICK, extract=extract)
        fitted = classifier.set_params(template=TEMPLATE).fit(frame, NAMES)
        assert weights_of(fitted.model_.artifact) == weights_of(trained)
        assert fitted.model_.artifact.manifest.labels == trained.manifest.labels

    def test_inputs_of_any_kind(self, classifier: PtecClassifier) -> None:
        classifier.set_params(epochs=1)
        polars = pytest.importorskip("polars")
        of_list = weights_of(classifier.fit(TEXTS, NAMES).model_.artifact)
        sets = [frozenset(names) for names in NAMES]
        for texts, names in (
            (pd.Series(TEXTS), pd.Series(NAMES)),
            (np.array(TEXTS, dtype=object), sets),
            (polars.Series(TEXTS), polars.Series(NAMES)),
            (pd.DataFrame({"text": TEXTS}), NAMES),
        ):
            template = "{text}" if isinstance(texts, pd.DataFrame) else None
            fitted = clone(classifier).set_params(template=template).fit(texts, names)
            assert weights_of(fitted.model_.artifact) == of_list

    def test_resumes(self, classifier: PtecClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = weights_of(classifier.fit(TEXTS, NAMES).model_.artifact)
        classifier.set_params(folder=tmp_path / "kept")
        with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
            stop_after(context, epoch=1)
            classifier.fit(TEXTS, NAMES)
        resumed = classifier.fit(TEXTS, NAMES)
        assert weights_of(resumed.model_.artifact) == whole
        assert load_artifact(tmp_path / "kept" / "artifact").model_id == resumed.model_.model_id


class TestErrors:
    def test_all_wrong_settings_at_once(self, classifier: PtecClassifier) -> None:
        classifier.set_params(epochs=0, settings={"optimiser.head_lr": -1.0, "nothing": 1})
        with pytest.raises(ConfigError) as caught:
            classifier.fit(TEXTS, NAMES)
        assert len(caught.value.errors) == 3

    def test_wrong_data(self, classifier: PtecClassifier) -> None:
        with pytest.raises(SourceError, match="the same length, were: 200 and 199"):
            classifier.fit(TEXTS, NAMES[1:])
        with pytest.raises(SourceError, match=r"pass \[text\]"):
            classifier.fit("one text", [["a"]])
        with pytest.raises(SourceError, match="15 training companies"):
            classifier.fit(TEXTS[:10], NAMES[:10])
        with pytest.raises(ConfigError, match="template needs a table"):
            classifier.set_params(template=TEMPLATE).fit(TEXTS, NAMES)

    def test_rows_without_text_or_labels_are_left_out(self, classifier: PtecClassifier) -> None:
        classifier.set_params(epochs=1)
        clean = weights_of(classifier.fit(TEXTS, NAMES).model_.artifact)
        found = classifier.fit([*TEXTS, " ", None, "a text"], [*NAMES, ["media"], ["media"], None])
        assert weights_of(found.model_.artifact) == clean
