"""Records of measurements name the code that they are of."""

from __future__ import annotations

import json
from pathlib import Path

import ptec_udf
from benchmarks.code import code_of
from benchmarks.machine import write_results


def test_code_is_told_by_what_its_files_do(tmp_path: Path) -> None:
    def code(python: str, sql: str = "two") -> str:
        (tmp_path / "a.py").write_text(python, "utf-8")
        (tmp_path / "b.sql").write_text(sql, "utf-8")
        return code_of(tmp_path)

    before = code('"""Say."""\ndef f():\n    """Do."""\n    return 1')
    assert code('"""Tell."""\n\n\ndef f():  # why\n    """Do it."""\n    return 1') == before
    others = [code("def f():\n    return 2"), code("def g():\n    return 1"), code("def f():\n    return 1", "three")]
    assert len({before, *others}) == 4


def test_results_name_the_code(tmp_path: Path) -> None:
    write_results(tmp_path, {"rows": 3}, ["| rows |"])
    code = code_of(Path(ptec_udf.__file__).parent)
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["machine"]["code of ptec_udf"] == code
    assert f"code of ptec_udf {code}" in (tmp_path / "table.md").read_text("utf-8")
