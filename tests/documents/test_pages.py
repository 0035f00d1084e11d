"""Promise 12: what the pages show exists: commands, options, settings, files, headings and make targets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from ptec_jobs.cli import app
from tests.documents.pages import PAGES, ROOT, anchors, blocks, commands, keys_of, links, prose, settings

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def errors_of(words: list[str]) -> str:
    """Parse a command as the shell would hand it over, without running it; return the error."""
    name, *rest = words
    if name not in COMMANDS:
        return f"no command {name!r}"
    try:
        context = COMMANDS[name].make_context(name, rest)
    except typer.Exit:  # --help
        return ""
    except Exception as error:
        return str(error.format_message())  # type: ignore[attr-defined]
    sets = [text.partition("=")[0].strip() for text in context.params.get("set") or ()]
    return ", ".join(f"no setting {key!r}" for key in sets if key not in settings())


class TestCommands:
    def test_have_the_options_and_settings_shown(self) -> None:
        found = [(place, words, errors_of(words)) for place, words in commands()]
        assert found
        assert [f"{place}: ptec {' '.join(words)}: {error}" for place, words, error in found if error] == []

    def test_wrong_ones_are_found(self) -> None:
        assert errors_of(["score", "--config", "ptec.yaml", "--set", "engine.dtype=float32"]) == ""
        assert errors_of(["score", "--set", "engine.dtyp=float32"]) == "no setting 'engine.dtyp'"
        assert "--nothing" in errors_of(["score", "--nothing"])
        assert errors_of(["nothing"]) == "no command 'nothing'"

    def test_make_targets_exist(self) -> None:
        code = "\n".join(block.text for block in blocks("sh", "bash", "console"))
        code += "\n".join(span for page in PAGES for span in re.findall(r"`[^`\n]+`", prose(page)))
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
        assert set(re.findall(r"\bmake ([a-z-]+)", code)) - targets == set()


class TestSettings:
    def test_in_yaml_exist(self) -> None:
        wrong = [
            f"{block.name}: {key}"
            for block in blocks("yaml")
            for key in keys_of(yaml.safe_load(block.text))
            if key not in settings()
        ]
        assert wrong == []

    def test_in_text_exist(self) -> None:
        sections = {name.partition(".")[0] for name in settings() if "." in name}
        named = [
            (page.name, name)
            for page in PAGES
            for name in re.findall(r"`(\w+\.(?!(?:py|yaml|sql|md)`)[\w.]+)`", prose(page))
        ]
        assert [one for one in named if one[1].partition(".")[0] in sections and one[1] not in settings()] == []


class TestFiles:
    def test_links_lead_to_files_and_headings(self) -> None:
        broken = []
        for page in PAGES:
            for target in links(page):
                file, _, anchor = target.partition("#")
                place = (page.parent / file).resolve() if file else page
                if not place.exists() or (anchor and anchor not in anchors(place)):
                    broken.append(f"{page.name}: {target}")
        assert broken == []

    def test_paths_in_text_exist(self) -> None:
        paths = [
            (page.name, path)
            for page in PAGES
            for path in re.findall(r"`((?:tests|conf|jobs|docs)/[\w./]+)`", prose(page))
        ]
        assert [one for one in paths if not (ROOT / one[1].rstrip("/")).exists()] == []

    def test_python_is_python(self) -> None:
        for block in blocks("python"):
            compile(block.text, block.name, "exec")


@pytest.mark.long
class TestRun:
    def test_blocks_marked_run_end_well(self, tmp_path: Path) -> None:
        """Run all blocks with the note ``run`` in the order of the pages, in one scratch folder."""
        programs = Path(sys.executable).parent
        environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        found = [block for block in blocks("sh", "python") if block.note == "run"]
        for block in found:
            command = ["bash", "-euo", "pipefail"] if block.language == "sh" else [sys.executable]
            done = subprocess.run(
                [*command, "-c", block.text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=1800,
            )
            assert done.returncode == 0, f"{block.name}: {done.stderr[-3000:]}"
