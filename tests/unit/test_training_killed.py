"""A killed training resumes after its last epoch, and ends with the model of an undisturbed one."""

from __future__ import annotations

import pytest

from tests.unit.trainings import stop_after, weights_of

STAGES = {"first": (), "refit": ("stopping.refit=true",)}


def cut_off(run, monkeypatch, out, *settings, stage="first", epoch=1, **options):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch, stage)
        run(out, *settings, **options)


class TestResume:
    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("form", [(), ("lora={rank: 4, lr: .01}",), ("ensemble_size=2",)], ids=str)
    def test_ends_as_an_undisturbed_training(self, run, tmp_path, monkeypatch, capsys, stage, form):
        settings = (*form, *STAGES[stage])
        whole = run(tmp_path / "whole", *settings, epochs=3)
        cut_off(run, monkeypatch, tmp_path / "cut", *settings, stage=stage, epoch=2, epochs=3)
        assert not (tmp_path / "cut").exists()
        capsys.readouterr()
        resumed = run(tmp_path / "cut", *settings, epochs=3)
        assert "training resumes after epoch 2" in capsys.readouterr().err
        assert resumed.model_id == whole.model_id
        assert weights_of(resumed) == weights_of(whole)
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize("change", ["seed=2", "optimiser.head_lr=.02", "dtype=bfloat16"])
    def test_not_with_other_settings(self, run, tmp_path, monkeypatch, capsys, change):
        cut_off(run, monkeypatch, tmp_path / "out")
        run(tmp_path / "out", change)
        assert "resumes" not in capsys.readouterr().err

    @pytest.mark.parametrize("change", ["thresholds=per_label", "tfidf={}", "stopping.refit=true"])
    def test_with_settings_that_follow_the_first_training(self, run, tmp_path, monkeypatch, capsys, change):
        cut_off(run, monkeypatch, tmp_path / "out", epoch=2)
        run(tmp_path / "out", change)
        assert "training resumes after epoch 2" in capsys.readouterr().err

    @pytest.mark.parametrize("content", [b"", b"{}"], ids=["empty", "wrong"])
    def test_damaged_checkpoint_restarts(self, run, tmp_path, monkeypatch, capsys, content):
        whole = run(tmp_path / "whole")
        cut_off(run, monkeypatch, tmp_path / "out")
        (checkpoint,) = (tmp_path / ".out.training").rglob("*.safetensors")
        checkpoint.write_bytes(content)
        assert run(tmp_path / "out").model_id == whole.model_id
        assert "cannot be read; training restarts" in capsys.readouterr().err
