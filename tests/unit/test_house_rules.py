"""The rules of CONTRIBUTING.md that a machine can check, read from the source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("ptec_udf", "training", "jobs", "conf")
CHECKED = (*SHIPPED, "tests", "benchmarks", "examples", ".ci")

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 70
FORBIDDEN_IMPORTS = {"ptec_udf": {"training", "jobs"}, "training": {"jobs"}, "conf": {"ptec_udf", "training", "jobs"}}
# Each room of training may import those before it; the modules beside the rooms are common to all.
ROOMS = (
    *("extract", "network", "processes", "decisions", "fitting", "artifact"),
    *("search", "methods", "evaluation", "recalibration", "benchmark"),
)
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_LOADERS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}
UNSAFE_CALLS = {"eval", "exec"}
UNSAFE_NAMES = {"read_pickle", "to_pickle", "allow_pickle", "trust_remote_code"}


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def every_file(*folders: str) -> pytest.MarkDecorator:
    files = python_files(*folders)
    return pytest.mark.parametrize("file", files, ids=[str(file.relative_to(ROOT)) for file in files])


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(source: str) -> list[str]:
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions(source)}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > MAX_FUNCTION_LINES]


def imported_modules(source: str) -> set[str]:
    """Name every imported module, also those imported inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def wrong_imports(package: str, source: str) -> list[str]:
    forbidden = FORBIDDEN_IMPORTS.get(package, set())
    return sorted(name for name in imported_modules(source) if name.split(".")[0] in forbidden)


def later_rooms(room: str, source: str) -> list[str]:
    later = ROOMS[ROOMS.index(room) + 1 :]
    parts = [name.split(".") for name in imported_modules(source)]
    return sorted(".".join(part) for part in parts if part[0] == "training" and part[1:2] and part[1] in later)


def relative_imports(source: str) -> list[str]:
    return sorted(name for name in imported_modules(source) if name.startswith("."))


def unsafe_code(source: str) -> list[str]:
    """Name what can run code from a data file; comments and docstrings may speak of it."""
    found = {name for name in imported_modules(source) if name.split(".")[0] in PICKLERS}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=left), attr=right) if f"{left}.{right}" in UNSAFE_LOADERS:
                found.add(f"{left}.{right}")
            case ast.ImportFrom(module=str(module), names=names):
                found |= {f"{module}.{alias.name}" for alias in names} & UNSAFE_LOADERS
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                found.add(name)
            case ast.keyword(value=ast.Constant(value=False)):
                continue  # said to be off
            case ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.Constant(value=name) if name in UNSAFE_NAMES:
                found.add(str(name))
    return sorted(found)


def without_docstring(source: str) -> list[str]:
    """Name the public functions and classes of a module, and their public methods, that lack a docstring."""
    missing = []
    places: list[tuple[str, ast.Module | ast.ClassDef]] = [("", ast.parse(source))]
    while places:
        prefix, place = places.pop()
        for node in place.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None:
                missing.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                places.append((f"{node.name}.", node))
    return missing


@every_file(*CHECKED)
def test_file_is_short(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= MAX_FILE_LINES


@every_file(*CHECKED)
def test_functions_are_short(file: Path) -> None:
    assert long_functions(file.read_text("utf-8")) == []


@every_file(*SHIPPED)
def test_imports_go_in_one_direction(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    source = file.read_text("utf-8")
    assert wrong_imports(package, source) == []
    assert relative_imports(source) == []


@every_file(*(f"training/{room}" for room in ROOMS))
def test_rooms_of_training_depend_in_one_direction(file: Path) -> None:
    assert later_rooms(file.parent.name, file.read_text("utf-8")) == []


def test_rooms_are_all_there_are() -> None:
    assert {file.parent.name for file in python_files("training")} == {"training", *ROOMS}


@every_file(*SHIPPED, "benchmarks", "examples", ".ci")
def test_nothing_runs_code_from_a_data_file(file: Path) -> None:
    assert unsafe_code(file.read_text("utf-8")) == []


@every_file(*SHIPPED)
def test_module_and_public_functions_have_docstrings(file: Path) -> None:
    source = file.read_text("utf-8")
    assert ast.get_docstring(ast.parse(source)) is not None or not source.strip()
    assert without_docstring(source) == []


@pytest.mark.parametrize("folder", ["ptec_udf", "training", "jobs"])
def test_every_folder_of_modules_is_a_package(folder: str) -> None:
    folders = {file.parent for file in python_files(folder)}
    assert [str(place.relative_to(ROOT)) for place in folders if not (place / "__init__.py").exists()] == []


def test_long_function_is_found() -> None:
    body = "    pass\n" * MAX_FUNCTION_LINES
    assert long_functions(f"def f():\n{body}") == [f"f has {MAX_FUNCTION_LINES + 1} lines"]
    assert long_functions("def f():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1)) == []


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("ptec_udf", "from training.fit.trainer import train", ["training.fit.trainer"]),
        ("ptec_udf", "def f():\n    import jobs.cli", ["jobs.cli"]),
        ("training", "from jobs import cli", ["jobs"]),
        ("training", "from ptec_udf import text", []),
        ("jobs", "import training, ptec_udf", []),
        ("ptec_udf", "import jobs_of_others", []),
    ],
)
def test_upward_import_is_found(package: str, source: str, found: list[str]) -> None:
    assert wrong_imports(package, source) == found


def test_import_of_a_later_room_is_found() -> None:
    source = "import training.evaluate.metrics\nfrom training.fit import fit\nfrom training.data.dataset import Rows"
    assert later_rooms("network", source) == ["training.fit"]
    assert later_rooms("artifact", source) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import cloudpickle", ["cloudpickle"]),
        ("from pickle import loads", ["pickle"]),
        ("torch.load(file)", ["torch.load"]),
        ("from torch import load", ["torch.load"]),
        ("yaml.load(file, Loader)", ["yaml.load"]),
        ("exec(file.read())", ["exec"]),
        ("numpy.load(file, allow_pickle=True)", ["allow_pickle"]),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", ["trust_remote_code"]),
        ("AutoModel.from_pretrained(x, trust_remote_code=may)", ["trust_remote_code"]),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", []),
        ("AutoModel.from_pretrained(x, **{'trust_remote_code': True})", ["trust_remote_code"]),
        ("frame.to_pickle(file)", ["to_pickle"]),
        ('"""No pickle and no trust_remote_code."""\n# torch.load is unsafe\njson.load(file)', []),
    ],
)
def test_unsafe_code_is_found(source: str, found: list[str]) -> None:
    assert unsafe_code(source) == found


def test_missing_docstring_is_found() -> None:
    source = 'def f(): ...\nclass A:\n    """Say."""\n    def b(self): ...\n    def _c(self): ...'
    assert without_docstring(source) == ["f", "A.b"]
