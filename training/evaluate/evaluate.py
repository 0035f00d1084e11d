"""The main line of ``ptec evaluate``: champion and challenger score the same held-out rows."""

from __future__ import annotations

from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact
from training.evaluate.comparison import Comparison
from training.evaluate.config import EvaluateConfig
from training.evaluate.held_out import judging_rows, sides
from training.evaluate.measure import differences, said_by
from training.methods.artifact import learned_artifact


def evaluate(config: EvaluateConfig, challenger: Artifact, champion: Artifact | None) -> Comparison:
    """Compare two models, or measure one where there is no champion.

    Args:
        config: the configuration.
        challenger: the model to be judged.
        champion: the model in use.

    Raises:
        ConfigError: for an extract of another template than a model's, or models without a label in common.
        SourceError: for an extract that cannot be used, or rows that a model has learned from.
        BackboneError: for a backbone that is missing or another one.
        TrainingError: when a text cannot be scored.
    """
    judging = judging_rows(sides(config, challenger, champion), config.split, config.max_learned)
    ours = _labels(challenger)
    theirs = ours if champion is None else _labels(champion)
    shared = [name for name in ours if name in theirs]
    labels = [name for name in shared if name in judging.names]
    if not labels:
        raise ConfigError("both models and the extract must have a label in common, have none; name another extract")
    targets = judging.rows.targets[:, [judging.names.index(name) for name in labels]]
    logger.info(f"{len(judging.rows)} rows of {config.split} judge {len(labels)} labels")
    texts = {"challenger": (challenger, judging.rows.texts)}
    if champion is not None:
        texts["champion"] = (champion, judging.champion_texts)
    said = {who: said_by(learned_artifact(made), those, _labels(made), labels) for who, (made, those) in texts.items()}
    figures = {who: one.figures(targets, labels) for who, one in said.items()}
    return Comparison(
        n_rows=len(judging.rows),
        left_out=judging.left_out,
        held_out=judging.held_out,
        labels=labels,
        unjudged=[name for name in shared if name not in judging.names],
        only_champion=[name for name in theirs if name not in ours],
        only_challenger=[name for name in ours if name not in theirs],
        champion=figures.get("champion", {}),
        challenger=figures["challenger"],
        confidence=config.gate.confidence,
        differences=differences(
            said["champion"], said["challenger"], targets, labels, config.resamples, config.gate.confidence
        )
        if champion is not None
        else [],
    )


def _labels(made: Artifact) -> list[str]:
    """Names of a model's labels in its order."""
    return [label.name for label in made.manifest.labels]
