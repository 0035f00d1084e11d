"""The rules of CONTRIBUTING.md that a machine can check: each test lists the offenders."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("ptec_udf", "training", "jobs")
CHECKED = (*SHIPPED, "tests", "benchmarks", "examples", ".ci")
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 70
FORBIDDEN_IMPORTS = {
    "ptec_udf": {"ptec_training", "ptec_jobs", "training", "jobs"},
    "training": {"ptec_jobs", "training", "jobs"},
    "jobs": {"training", "jobs"},
}
"""Installed names of the packages; by the folders' own names a module would be imported twice."""
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_LOADERS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}
UNSAFE_CALLS = {"eval", "exec"}
UNSAFE_NAMES = {"read_pickle", "to_pickle", "allow_pickle", "trust_remote_code"}

BANNED = re.compile(
    r"\b(fates?|held|holds?|stands?|standing|stood|gone|beside|mend(ed)?|gives?|told|said|rehearsal|deal|dealt|arithmetic|"
    r"processors?|anew|most_\w+|least_\w+|tune|of which|what is|ones? that|those that|so many|goes on)\b"
)
"""Words for which the field has a better one."""
ALLOWED = re.compile(r"held[- _]out|threshold|HOLDOUT|fine-tun|SPARK_\w+|hold(s)? out")
MAX_BANNED = {"code": 0, "documents": 0}
"""Lines that may still have such a word: lowered with every rewrite, in the end 0."""


def python_files(*folders: str) -> list[Path]:
    """Python files of folders, sorted."""
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(file: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def name_of(file: Path) -> str:
    """Path from the root, for a message."""
    return str(file.relative_to(ROOT))


def imports(tree: ast.Module, *, at_import_only: bool = False) -> set[str]:
    """Name every imported module; also those imported inside functions, unless only import time counts."""
    found: set[str] = set()
    for node in _without_functions(tree) if at_import_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def _without_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Walk the statements that run at import; type checking is not one."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if is_typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        todo += ast.iter_child_nodes(node)


def module_of(file: Path) -> str:
    """Dotted name by which a file's module is imported."""
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.startswith("ptec_") else f"ptec_{name}"


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes that cannot be put in an order of imports; none in a graph without a cycle."""
    left = {node: set(targets) & graph.keys() - {node} for node, targets in graph.items()}
    while free := [node for node, targets in left.items() if not targets & left.keys()]:
        for node in free:
            del left[node]
    return sorted(left)


def unsafe_code(tree: ast.Module) -> list[str]:
    """Name what can run code from a data file; comments and docstrings may mention it."""
    found = {name for name in imports(tree) if name.split(".")[0] in PICKLERS or name in UNSAFE_LOADERS}
    safe = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and "_Loader" in ast.unparse(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() if id(node) in safe:
                continue  # yaml.load with a subclass of SafeLoader
            case ast.Attribute(value=ast.Name(id=left), attr=right) if f"{left}.{right}" in UNSAFE_LOADERS:
                found.add(f"{left}.{right}")
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                found.add(name)
            case ast.keyword(value=ast.Constant(value=False)):
                continue  # set to off
            case ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.Constant(value=name) if name in UNSAFE_NAMES:
                found.add(str(name))
    return sorted(found)


def long_functions(tree: ast.Module) -> list[str]:
    """Name functions that are too long, with their lengths."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    lengths = [
        (node.name, (node.end_lineno or 0) - node.lineno + 1) for node in ast.walk(tree) if isinstance(node, kinds)
    ]
    return [f"{name} has {length} lines" for name, length in lengths if length > MAX_FUNCTION_LINES]


def offenders(files: list[Path], rule: object) -> list[str]:
    """Apply a rule that returns findings to every file."""
    assert callable(rule)
    return [f"{name_of(file)}: {found}" for file in files for found in rule(tree_of(file))]


class TestSize:
    def test_files(self) -> None:
        sizes = {name_of(file): len(file.read_text("utf-8").splitlines()) for file in python_files(*CHECKED)}
        assert [f"{file}: {n} lines" for file, n in sizes.items() if n > MAX_FILE_LINES] == []

    def test_functions(self) -> None:
        assert offenders(python_files(*CHECKED), long_functions) == []

    def test_long_function_is_found(self) -> None:
        body = "    pass\n" * MAX_FUNCTION_LINES
        assert long_functions(ast.parse(f"def f():\n{body}")) == [f"f has {MAX_FUNCTION_LINES + 1} lines"]


class TestImports:
    def test_go_in_one_direction(self) -> None:
        wrong = [
            f"{name_of(file)} imports {name}"
            for package, forbidden in FORBIDDEN_IMPORTS.items()
            for file in python_files(package)
            for name in imports(tree_of(file))
            if name.split(".")[0] in forbidden or name.startswith(".")
        ]
        assert wrong == []

    @pytest.mark.parametrize("package", SHIPPED)
    def test_have_no_cycle(self, package: str) -> None:
        graph = {module_of(file): imports(tree_of(file), at_import_only=True) for file in python_files(package)}
        assert cycle_in(graph) == []

    def test_cycle_is_found(self) -> None:
        assert cycle_in({"a": {"b"}, "b": {"c", "os"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "d"]
        assert cycle_in({"a": {"b"}, "b": {"os"}}) == []

    @pytest.mark.parametrize(
        ("code", "banned"),
        [
            ("import ptec_udf.text.template, ptec_udf.model.network, ptec_udf.engine.torch_engine", ["pyspark"]),
            ("import ptec_udf.engine.scorer, ptec_udf.engine.worker", ["pyspark", "torch", "transformers"]),
            (
                "from ptec_jobs.cli import app; from typer.main import get_command; get_command(app)",
                ["pyspark", "torch"],
            ),
        ],
        ids=["network", "scorer", "help"],
    )
    def test_are_light(self, code: str, banned: list[str]) -> None:
        report = f"{code}; import sys; print([name for name in {banned} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_folders_are_packages(self) -> None:
        folders = {file.parent for file in python_files(*SHIPPED)}
        assert [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


class TestSafety:
    def test_nothing_runs_code_from_a_data_file(self) -> None:
        assert offenders(python_files(*SHIPPED, "benchmarks", "examples", ".ci"), unsafe_code) == []

    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("import cloudpickle", ["cloudpickle"]),
            ("from torch import load", ["torch.load"]),
            ("torch.load(file)", ["torch.load"]),
            ("yaml.load(file, Loader)", ["yaml.load"]),
            ("exec(file.read())", ["exec"]),
            ("numpy.load(file, allow_pickle=True)", ["allow_pickle"]),
            ("AutoModel.from_pretrained(x, trust_remote_code=may)", ["trust_remote_code"]),
            ("AutoModel.from_pretrained(x, trust_remote_code=False)", []),
            ("AutoModel.from_pretrained(x, **{'trust_remote_code': True})", ["trust_remote_code"]),
            ('"""No pickle and no trust_remote_code."""\njson.load(file)', []),
        ],
    )
    def test_unsafe_code_is_found(self, source: str, found: list[str]) -> None:
        assert unsafe_code(ast.parse(source)) == found


class TestLanguage:
    @pytest.mark.parametrize("kind", MAX_BANNED)
    def test_no_banned_words(self, kind: str) -> None:
        files = python_files(*SHIPPED) if kind == "code" else DOCUMENTS
        found = [
            f"{name_of(file)}:{at}: {match[0]}"
            for file in files
            for at, line in enumerate(file.read_text("utf-8").splitlines(), 1)
            if (match := BANNED.search(ALLOWED.sub("", line)))
        ]
        assert len(found) <= MAX_BANNED[kind], "\n".join(found)
