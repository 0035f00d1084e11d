"""The second training, on train and validation together."""

from __future__ import annotations

import shutil

import pytest

from ptec_udf.monitor.training import figures_by_label
from tests.tiny import LABELS
from tests.unit.trainings import stop_after, weights_of
from training.evaluate.report import without_distributions
from training.fit.trainer import Trainer


def test_refit_trains_on_validation_too_for_the_best_number_of_epochs(run, tmp_path):
    settings = ("stopping.min_improvement=.05", "stopping.patience=2")
    chosen = run(tmp_path / "chosen", *settings, epochs=8)
    refitted = run(tmp_path / "refitted", *settings, "stopping.refit=true", epochs=8)
    best, course = chosen.metrics["courses"]["choice"]["best_epoch"], refitted.metrics["courses"]["refit"]
    assert course["epoch"] == course["best_epoch"] == best < 8
    assert all("map" not in epoch for epoch in course["history"])  # nothing is held out to measure on
    n_validation = chosen.metrics["splits"]["validation"]["per_label"]["media"]["positives"]
    positives = [made.manifest.labels[LABELS.index("media")].training_positives for made in (chosen, refitted)]
    assert positives[1] == positives[0] + n_validation
    assert weights_of(refitted) != weights_of(chosen)


def test_refit_keeps_what_validation_decided_and_says_tunes_figures_of_held_out_rows(run, tmp_path):
    chosen, refitted = run(tmp_path / "a"), run(tmp_path / "b", "stopping.refit=true")
    assert refitted.manifest.threshold_logit == chosen.manifest.threshold_logit
    assert {label.scale for label in refitted.manifest.labels} == {label.scale for label in chosen.manifest.labels}
    assert refitted.metrics["splits"]["validation"] == without_distributions(chosen.metrics["splits"]["validation"])
    assert refitted.metrics["splits"]["dev"] != chosen.metrics["splits"]["dev"]
    for made, n_labels in ((chosen, len(LABELS)), (refitted, 0)):  # drift's, of an extract without dev
        assert len(figures_by_label({"splits": {"validation": made.metrics["splits"]["validation"]}})) == n_labels
        assert len(figures_by_label(made.metrics)) == len(LABELS)


def test_interrupted_refit_ends_as_if_it_had_not_been(run, tmp_path, monkeypatch, capsys):
    whole = run(tmp_path / "whole", "stopping.refit=true", epochs=4)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=2, training="refit")
        run(tmp_path / "cut", "stopping.refit=true", epochs=4)
    capsys.readouterr()
    resumed = run(tmp_path / "cut", "stopping.refit=true", epochs=4)
    assert "epoch 1 of" not in capsys.readouterr().err
    assert resumed.model_id == whole.model_id
    assert not list(tmp_path.glob(".*"))


def test_refit_of_another_length_does_not_resume(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=2, training="refit")
        run(tmp_path / "out", "stopping.refit=true", epochs=4)
    shutil.rmtree(tmp_path / ".out.training" / "choice")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_improves", lambda self, course: course.epoch == 1 or self.validation is None)
        made = run(tmp_path / "out", "stopping.refit=true", epochs=4)
    assert (made.metrics["courses"]["refit"]["epoch"], made.metrics["courses"]["choice"]["best_epoch"]) == (1, 1)


def test_refit_may_be_switched_off_without_training_again(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1, training="refit")
        run(tmp_path / "out", "stopping.refit=true")
    capsys.readouterr()
    made = run(tmp_path / "out")
    assert "epoch 1 of" not in capsys.readouterr().err
    assert made.model_id == run(tmp_path / "whole").model_id
