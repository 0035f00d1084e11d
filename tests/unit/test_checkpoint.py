"""The state of a training outlives a kill."""

from __future__ import annotations

import itertools
import os

import pytest
import torch

from training.fit.checkpoint import Checkpoint, Course


def test_state_survives_a_kill_at_any_rename(tmp_path, monkeypatch):
    """Two kills in a row, the first between the renames: the last whole state is still there."""
    weights = {"now": {"prompt": torch.zeros(2, requires_grad=True)}}
    optimiser = torch.optim.SGD(weights["now"].values(), lr=1.0)
    checkpoint = Checkpoint(tmp_path / "state", "x")
    checkpoint.save(Course(epoch=1), weights, optimiser)
    for fatal in (2, 1):  # of the renames of one save
        renames = itertools.count(1)

        def rename(*paths, renames=renames, fatal=fatal, rename=os.rename):
            if next(renames) == fatal:
                raise KeyboardInterrupt
            rename(*paths)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(os, "rename", rename)
            checkpoint.save(Course(epoch=2), weights, optimiser)
        course, _ = checkpoint.restore(optimiser)
        assert course.epoch == 1
