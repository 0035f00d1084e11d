"""A training that was killed goes on where it was, and ends with the model of an undisturbed one."""

from __future__ import annotations

import shutil

import pytest

from ptec_udf.errors import UserError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import HEAD
from tests.unit.trainings import stop_after, weights_of
from training.config import TrainConfig
from training.export import export
from training.fit.inputs import check_places


@pytest.mark.parametrize("schedule", ["onecycle", "exponential", "linear"])
def test_interrupted_training_ends_as_if_it_had_not_been(run, tmp_path, monkeypatch, capsys, schedule):
    settings = (f"optimiser.schedule={schedule}", "stopping.validation_share=.2")
    whole = run(tmp_path / "whole", *settings, epochs=4)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=2)
        run(tmp_path / "cut", *settings, epochs=4)
    assert not (tmp_path / "cut").exists()
    capsys.readouterr()
    resumed = run(tmp_path / "cut", *settings, epochs=4)
    printed = capsys.readouterr().err
    assert "training resumes after epoch 2" in printed
    assert "epoch 3 of 4" in printed
    assert "epoch 2 of 4" not in printed
    assert resumed.model_id == whole.model_id
    assert weights_of(resumed) == weights_of(whole)
    assert [epoch["loss"] for epoch in resumed.metrics["courses"]["choice"]["history"]] == [
        epoch["loss"] for epoch in whole.metrics["courses"]["choice"]["history"]
    ]
    assert not list(tmp_path.glob(".*"))


def test_training_with_other_settings_does_not_resume(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "out", "seed=1")
    made = run(tmp_path / "out", "seed=2")
    assert "resumes" not in capsys.readouterr().err
    assert len(made.metrics["courses"]["choice"]["history"]) == 2


def test_training_on_a_machine_with_another_arithmetic_does_not_resume(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("training.fit.start.has_bfloat16", lambda _: False)
        stop_after(patched, epoch=1)
        run(tmp_path / "out", "dtype=auto")
    monkeypatch.setattr("training.fit.start.has_bfloat16", lambda _: True)
    run(tmp_path / "out", "dtype=auto")
    assert "resumes" not in capsys.readouterr().err


def test_state_that_was_half_written_is_not_resumed(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "out")
    state = tmp_path / ".out.training" / "choice"
    state.rename(state.with_name("choice.partial"))
    run(tmp_path / "out")
    assert "resumes" not in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_training_that_was_killed_once_its_artifact_was_whole_is_done(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("training.train.export", _export_then_stop)
        run(tmp_path / "out", epochs=1)
    whole = load_artifact(tmp_path / "out")
    assert (tmp_path / ".out.training").is_dir()
    with pytest.raises(UserError, match="must be absent or empty"):
        run(tmp_path / "out", "calibrator=isotonic", epochs=1)  # another model
    made = run(tmp_path / "out", epochs=1)
    assert (made.files, "it was whole" in capsys.readouterr().err) == (whole.files, True)
    assert not list(tmp_path.glob(".*"))


def test_an_earlier_model_of_another_arithmetic_is_not_taken_for_what_a_killed_training_made(
    run, tmp_path, monkeypatch, capsys
):
    settings = ("dtype=auto", "overwrite=true")
    with monkeypatch.context() as patched:
        patched.setattr("training.fit.start.has_bfloat16", lambda _: False)
        earlier = run(tmp_path / "out", *settings)
    monkeypatch.setattr("training.fit.start.has_bfloat16", lambda _: True)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "out", *settings)
    made = run(tmp_path / "out", *settings)
    assert "it was whole" not in capsys.readouterr().err
    assert made.model_id != earlier.model_id


def test_what_somebody_put_there_while_training_was_at_work_stays(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"

    def meanwhile(config: TrainConfig) -> None:
        check_places(config)
        out.mkdir()
        (out / "mine.txt").touch()

    with monkeypatch.context() as patched, pytest.raises(UserError, match="must be absent or empty"):
        patched.setattr("training.train.check_places", meanwhile)
        run(out)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    shutil.rmtree(out)
    capsys.readouterr()
    run(out)
    assert "epoch 1 of" not in capsys.readouterr().err  # what it had learned is kept


def test_what_a_killed_training_has_made_is_not_asked_of_a_machine_without_the_backbone(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("training.train.export", _export_then_stop)
        run(tmp_path / "out", epochs=1)
    begun = []
    monkeypatch.setattr("training.train.run_together", lambda *_: begun.append("on executors") or {"model_id": ""})
    with pytest.raises(AssertionError):  # of the fixture: executors made nothing here
        run(tmp_path / "out", "backbone=path:/none", "processes_on=executors", "overwrite=true", epochs=1)
    assert begun == ["on executors"]


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", None], ids=["empty", "wrong", "missing"])
def test_state_that_is_damaged_is_left_and_training_starts_anew(run, tmp_path, monkeypatch, capsys, file, content):
    whole = run(tmp_path / "whole", epochs=2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "out", epochs=2)
    (state,) = (tmp_path / ".out.training").rglob(file)
    state.unlink()
    if content is not None:
        state.write_bytes(content)
    assert run(tmp_path / "out", epochs=2).model_id == whole.model_id
    assert ("cannot be read: this training starts anew" in capsys.readouterr().err) == (content is not None)


def test_broken_artifact_beside_a_killed_training_is_replaced_where_told(run, tmp_path, monkeypatch):
    whole = run(tmp_path / "out", epochs=1)
    (tmp_path / "out" / HEAD).write_bytes(b"")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "out", "overwrite=true", epochs=1)
    assert run(tmp_path / "out", "overwrite=true", epochs=1).model_id == whole.model_id


def _export_then_stop(*args):
    export(*args)
    raise KeyboardInterrupt


def test_interrupted_training_with_lora_ends_as_if_it_had_not_been(run, tmp_path, monkeypatch, capsys):
    settings = ("lora={rank: 4, lr: .01}", "stopping.refit=true")
    whole = run(tmp_path / "whole", *settings)
    for training in ("choice", "refit"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            stop_after(patched, epoch=1, training=training)
            run(tmp_path / "cut", *settings)
    assert run(tmp_path / "cut", *settings).model_id == whole.model_id
    assert capsys.readouterr().err.count("training resumes after epoch 1") == 2
