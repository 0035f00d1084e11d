"""The site file: found, checked as a whole, composed for each command; generated from the classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ptec_jobs.cli import app
from ptec_jobs.site import SECTIONS, Site, find_site
from ptec_training.config import TrainConfig
from ptec_udf.config import ScoreConfig
from ptec_udf.errors import ConfigError
from tests.site import write_site

SOURCE = {"table": "crm.companies", "key": "id"}
EXTRACT = {"template": "Name: {name}", "labels": {"column": "industries"}, "out": "extract"}


def errors_of(site: Site, section: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        site.section(section)
    return caught.value.errors


class TestFind:
    def test_nearest_file_upwards(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        write_site(tmp_path)
        write_site(tmp_path / "a")
        monkeypatch.chdir(tmp_path / "a" / "b")
        assert find_site(None).file == tmp_path / "a" / "ptec.yaml"
        assert find_site(Path("../../ptec.yaml")).warehouse.folder == str(tmp_path / "warehouse")

    def test_without_a_file_nothing_is_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(app, ["models"])
        assert result.exit_code == 2
        assert "no ptec.yaml in" in result.output
        assert "ptec init" in result.output
        assert list(tmp_path.iterdir()) == []


class TestSections:
    def test_a_command_needs_its_own_sections_only(self, tmp_path: Path) -> None:
        site = Site(write_site(tmp_path, train={"extract": "e", "out": "o"}, evaluate={"gate": {"min_rows": 5}}))
        assert site.section("train").seed == 42
        assert site.section("evaluate.gate").min_rows == 5
        assert errors_of(site) == ["source: must be set"]
        assert errors_of(site, "evaluate") == ["evaluate.extract: must be set"]

    def test_all_errors_of_the_file_at_once(self, tmp_path: Path) -> None:
        sections = {"source": SOURCE, "engine": {"dtyp": "float32"}, "train": {"seed": -1}, "trian": {}}
        site = Site(write_site(tmp_path, **sections), ("housekeeping.vacuum=7", "nonsense"))
        found = errors_of(site)
        for start in ("engine.dtyp: unknown key", "train.seed: ", "housekeeping.vacuum: ", "--set takes"):
            assert [error for error in found if error.startswith(start)], start
        assert "trian: unknown section; did you mean 'train'?" in found
        assert len(found) == 5

    def test_sections_take_over_warehouse_source_and_extract(self, tmp_path: Path) -> None:
        source = SOURCE | {"columns": {"name": "title"}, "version": 3}
        file = write_site(tmp_path, source=source, extract=EXTRACT, train={"out": "artifact"})
        extract = Site(file).section("extract")
        assert (extract.source.table, extract.source.version) == ("crm.companies", 3)
        options = {"extract.source.version": 0, "extract.overwrite": False, "extract.out": None}
        pinned = Site(file).override(options).section("extract").source
        assert (pinned.table, pinned.version) == ("crm.companies", 0)
        labelled = Site(file, ("extract.source={table: labelled}",)).section("extract").source
        assert (labelled.table, labelled.version) == ("labelled", None)
        assert Site(file).section("train").extract == str(tmp_path / "extract")

    def test_a_section_has_no_warehouse_of_its_own(self, tmp_path: Path) -> None:
        site = Site(write_site(tmp_path, source=SOURCE, extract=EXTRACT | {"warehouse": {"folder": "x"}}))
        assert errors_of(site) == ["extract.warehouse: unknown key; set it in the section warehouse"]

    def test_errors_of_a_shared_section_are_named_once(self, tmp_path: Path) -> None:
        site = Site(write_site(tmp_path, warehouse={"databse": "x"}, source=SOURCE, extract=EXTRACT))
        assert errors_of(site, "extract") == ["warehouse.databse: unknown key; did you mean 'database'?"]


class TestPaths:
    def test_relative_to_the_file_or_the_shell(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = write_site(tmp_path / "site", train={"extract": "/data/e", "out": "artifact"})
        monkeypatch.chdir(tmp_path)
        site = Site(Path("site/ptec.yaml"))
        train = site.section("train")
        assert (train.extract, train.out) == ("/data/e", str(file.parent / "artifact"))
        assert site.override({"train.out": Path("mine")}).section("train").out == str(tmp_path / "mine")


class TestInit:
    @pytest.fixture
    def reference(self, tmp_path: Path) -> Path:
        assert CliRunner().invoke(app, ["init", "--full", "--out", str(tmp_path / "full.yaml")]).exit_code == 0
        return tmp_path / "full.yaml"

    def test_reference_is_valid_and_complete(self, reference: Path) -> None:
        for name in SECTIONS:
            Site(reference).section(name)
        written = yaml.safe_load(reference.read_text(encoding="utf-8"))
        assert set(written) == {*ScoreConfig.model_fields, *SECTIONS}
        assert set(written["train"]) == set(TrainConfig.model_fields) - {"extract"}

    def test_reference_shows_defaults(self, reference: Path) -> None:
        small = reference.with_name("ptec.yaml")
        small.write_text("source: {table: crm.companies, key: company_id}", encoding="utf-8")
        assert Site(reference).score == Site(small).score

    def test_small_file_is_enough_for_score_and_train(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert CliRunner().invoke(app, ["init"]).exit_code == 0
        site = find_site(None)
        assert site.score.source.key == "company_id"
        assert site.section("train").extract == str(tmp_path / "extract")
        again = CliRunner().invoke(app, ["init", "--full"])
        assert again.exit_code == 2
        assert "exists and is kept" in again.output
