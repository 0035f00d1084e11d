"""Results become rows of the UDF's struct."""

from __future__ import annotations

import numpy as np

from ptec_udf.engine.result import EMPTY, OK, ScoredText
from ptec_udf.engine.udf import SCORED, to_frame


def test_frame_has_the_fields_of_the_struct():
    frame = to_frame([ScoredText(OK, 3, 0, None, np.array([1.0, 2.0], np.float32), 4), ScoredText()])
    assert list(frame.columns) == [field.split(" ")[0] for field in SCORED.split(", ")]
    assert frame["status"].tolist() == [OK, EMPTY]
    assert frame["logits"][0].tolist() == [1.0, 2.0]
    assert frame["logits"][1] is None
