"""``PtecModel``: a trained model in Python, without Spark until ``udf`` is called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import has_gpu
from ptec_udf.engine.scorer import ScoredText
from ptec_udf.engine.worker import WorkerModel, scorer_for
from ptec_udf.log import progress
from ptec_udf.model import hub
from ptec_udf.model.artifact import CARD, Artifact, load_artifact
from ptec_udf.model.calibration import assigned, probabilities
from ptec_udf.model.folders import check_artifact_folder, write_artifact_files
from ptec_udf.text.render import texts_of
from ptec_udf.text.template import parse_template

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_WINDOW_ROWS = 4096  # scored together, sorted by length


class PtecModel:
    """A trained model: texts to labels and calibrated probabilities.

    ``texts`` of the methods are a list, array or column of texts, or a table (pandas, Polars, Hugging Face) with the
    columns that ``template`` names. A text that is missing or blank has no labels, and NaN as probabilities.
    """

    def __init__(self, artifact: Artifact, *, dtype: str = "float32", engine: str = "torch") -> None:
        """Take a loaded artifact; ``load`` reads one. The backbone is loaded by the first text that is scored."""
        self.artifact = artifact
        self._options: dict[str, Any] = {"kind": engine, "dtype": dtype, "threads": os.cpu_count()}

    @classmethod
    def load(cls, location: str | Path, *, dtype: str = "float32", engine: str = "torch") -> PtecModel:
        """Load a model from a folder, ``hf:ORG/NAME`` (``@REVISION``), or an MLflow address ``models:/NAME@ALIAS``.

        Raise ArtifactError for a model that is missing or changed. ``engine`` is torch or openvino.
        """
        return cls(load_artifact(hub.find_artifact(str(location))), dtype=dtype, engine=engine)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> PtecModel:
        """Load a model from a folder, or from ``ORG/NAME`` of a hub; options as of ``load``."""
        return cls.load(name if Path(name).exists() or ":" in str(name) else f"hf:{name}", **options)

    @property
    def model_id(self) -> str:
        """A hash of everything that decides a score."""
        return self.artifact.model_id

    @property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of the columns of ``predict_proba``."""
        return [label.name for label in self.artifact.manifest.labels]

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which each label is assigned."""
        return {label.name: label.threshold for label in self.artifact.manifest.labels}

    @property
    def template(self) -> str:
        """How a text is made of a company's columns."""
        return self.artifact.manifest.template

    def predict(self, texts: Any) -> list[list[str]]:
        """Return the labels of each text: those whose probability is at or over their threshold."""
        return self._assigned(self._probabilities(self._score(texts)))

    def predict_proba(self, texts: Any) -> pd.DataFrame:
        """Return calibrated probabilities, *Shape:* ``(n_texts, n_labels)``, one column a label, and the texts' index.

        They are independent: a row need not add up to 1.
        """
        return self._frame(self._probabilities(self._score(texts)), texts)

    def predict_table(self, texts: Any) -> pd.DataFrame:
        """Return ``status``, ``labels``, ``n_tokens``, ``n_truncated`` and ``error``, then a probability a label."""
        scored = self._score(texts)
        found = self._probabilities(scored)
        names = ("status", "n_tokens", "n_truncated", "error")
        facts = pd.DataFrame({name: [getattr(one, name) for one in scored] for name in names}, index=_index_of(texts))
        facts.insert(1, "labels", pd.Series(self._assigned(found), index=facts.index, dtype=object))
        return pd.concat([facts, self._frame(found, texts)], axis=1)

    def logits(self, texts: Any) -> NDArray[np.float32]:
        """Return raw scores before calibration, *Shape:* ``(n_texts, n_labels)``; NaN for a text without a score."""
        return self._logits(self._score(texts))

    def udf(self, spark: SparkSession | None = None, **engine: Any) -> Any:
        """Make a Spark function ``text -> map<string,double>`` of label and probability; null without a score.

        ``spark`` is a classic or Spark Connect session; None: the active one. ``engine`` has settings of the section
        engine, such as ``kind="openvino"``. A text is written as ``template`` does.
        """
        from pyspark.sql import SparkSession

        from ptec_udf.engine.udf import probability_udf

        return probability_udf(spark or SparkSession.active(), self.artifact, EngineConfig(**engine))

    def save(self, folder: str | Path) -> None:
        """Write the artifact to a folder, in place of an earlier one; raise ConfigError for a folder of other files."""
        out = Path(folder).resolve()
        check_artifact_folder(out, overwrite=True)
        write_artifact_files(self.artifact.files, out)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the artifact and a model card, ``README.md``."""
        self.save(folder)
        (Path(folder) / CARD).write_text(hub.model_card(self.artifact), encoding="utf-8")

    def push_to_hub(self, name: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the artifact and its model card to ``ORG/NAME`` of a hub; return the commit's address."""
        return hub.push(self.artifact, name, private=private, token=token)

    @cached_property
    def _loading(self) -> tuple[WorkerModel, EngineConfig]:
        """The model and settings by which this process keeps a loaded scorer."""
        device = "cpu" if self._options["kind"] == "openvino" or not has_gpu() else "cuda"
        return WorkerModel.of(self.artifact), EngineConfig(**self._options | {"device": device})

    def _score(self, texts: Any) -> list[ScoredText]:
        rows = texts_of(texts, parse_template(self.template))
        scorer, scored = scorer_for(*self._loading), list[ScoredText]()
        with progress("scoring", len(rows)) as step_done:
            for results in scorer.score_windows(_windows(rows)):
                scored += results
                step_done(len(results))
        return scored

    def _logits(self, scored: Sequence[ScoredText]) -> NDArray[np.float32]:
        missing = np.full(len(self.labels), np.nan, np.float32)
        rows = [missing if one.logits is None else one.logits for one in scored]
        return np.stack(rows) if rows else np.empty((0, len(self.labels)), np.float32)

    def _probabilities(self, scored: Sequence[ScoredText]) -> NDArray[np.float32]:
        return probabilities(self._logits(scored), self.artifact.manifest.labels)

    def _assigned(self, found: NDArray[np.float32]) -> list[list[str]]:
        names = np.array(self.labels, dtype=object)
        return [names[row].tolist() for row in assigned(found, self.artifact.manifest.labels)]

    def _frame(self, found: NDArray[np.float32], texts: Any) -> pd.DataFrame:
        return pd.DataFrame(found, columns=self.labels, index=_index_of(texts))


def _windows(rows: list[str | None]) -> Iterator[list[str | None]]:
    return (rows[start : start + _WINDOW_ROWS] for start in range(0, len(rows), _WINDOW_ROWS))


def _index_of(texts: Any) -> pd.Index | None:
    return texts.index if isinstance(texts, pd.Series | pd.DataFrame) else None
