"""A configuration is read with its overrides, and all its errors are reported at once."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.section import SECRET, Section, refuse
from tests.site import load_config


class Knn(Section):
    """One kind of a union."""

    method: Literal["knn"] = "knn"
    neighbours: int = Field(5, ge=1)


class Head(Section):
    """Another kind."""

    method: Literal["head"] = "head"


class Inner(Section):
    """A section with every type that settings have."""

    lr: float = Field(1e-2, gt=0)
    rows: int | None = Field(None, ge=1, le=100)
    is_on: bool = False
    names: list[str] = Field(default_factory=list)
    token: SecretStr | None = None
    spark: dict[str, str | int] = Field(default_factory=dict, json_schema_extra=SECRET)

    @field_validator("names")
    @classmethod
    def _names_differ(cls, names: list[str]) -> list[str]:
        doubled = sorted({name for name in names if names.count(name) > 1})
        refuse(f"must name each once, has {name!r} twice" for name in doubled)
        return names


class Config(Section):
    """A command's configuration."""

    out: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    inner: Inner = Inner()
    methods: dict[str, Annotated[Knn | Head, Field(discriminator="method")]] = Field(default_factory=dict)


def errors_of(overrides=(), file=None, kind=Config):
    with pytest.raises(ConfigError) as caught:
        load_config(kind, file, overrides)
    return caught.value.errors


class TestOverrides:
    def test_win_over_the_file_in_order(self, tmp_path):
        file = tmp_path / "c.yaml"
        file.write_text("out: o\nseed: 1\ninner:\n")
        config = load_config(Config, file, ["seed=2", "seed=3", "inner.rows=7"])
        assert (config.out, config.seed, config.inner.rows) == ("o", 3, 7)

    def test_may_contain_equals_signs_and_lists(self):
        config = load_config(Config, None, ["out=/d/year=2026", "inner.names=[x, '1']"])
        assert (config.out, config.inner.names) == ("/d/year=2026", ["x", "1"])

    @pytest.mark.parametrize(
        ("override", "rule"),
        [
            ("seed", "takes dotted.key=value, there is no '=' after the key in 'seed'"),
            ("=5", "takes dotted.key=value"),
            ("seed.low=5", "--set seed.low: 'seed' is a value, not a section"),
            ("seed=2026-02-30", "--set seed: the value is not YAML"),
            ("seed=" + "[" * 5_000, "--set seed: the value is not YAML"),
        ],
    )
    def test_of_a_wrong_form_are_refused_unquoted(self, tmp_path, override, rule):
        file = tmp_path / "c.yaml"
        file.write_text("out: o\nseed: 1\n")
        (error,) = errors_of([override], file)
        assert rule in error
        assert not {"5", "[1"} & set(error.split())  # a value may be a secret


class TestErrors:
    def test_are_all_reported_at_once(self):
        overrides = ["nonsense", "seed=-1", "iner.lr=1", "inner.rows=many", "inner.names=[a, b, a, b]"]
        assert errors_of(overrides) == [
            "--set takes dotted.key=value, there is no '=' after the key in 'nonsense'",
            "out: must be set",
            "seed: must be greater than or equal to 0, was: -1",
            "inner.rows: must be a valid integer, was: 'many'",
            "inner.names: must name each once, has 'a' twice, was: ['a', 'b', 'a', 'b']",
            "inner.names: must name each once, has 'b' twice, was: ['a', 'b', 'a', 'b']",
            "iner: unknown key; did you mean 'inner'?",
        ]

    @pytest.mark.parametrize(
        ("override", "error"),
        [
            ("inner.rows=true", "inner.rows: must be a valid integer, was: True"),
            ("inner.lr=.inf", "inner.lr: must be a finite number, was: inf"),
            ("inner.is_on=1", "inner.is_on: must be a valid boolean, was: 1"),
            ("inner.names=a", "inner.names: must be a list, such as [a, b], was: 'a'"),
            ("inner.names=[1]", "inner.names.0: must be text, in quotes where YAML reads something else, was: 1"),
            ("inner=5", "inner: must be a section of keys and values"),
            ("inner.roows=5", "inner.roows: unknown key; did you mean 'rows'?"),
            ("inner.zzz=5", "inner.zzz: unknown key; allowed here: is_on, lr, names, rows, spark, token"),
            (
                "methods.a={method: knn, neighbors: 5}",
                "methods.a.knn.neighbors: unknown key; did you mean 'neighbours'?",
            ),
        ],
    )
    def test_name_key_rule_and_value(self, override, error):
        assert errors_of(["out=o", override]) == [error]

    @pytest.mark.parametrize("override", ["inner.token=[hush]", "inner.spark={a: [hush]}", "inner=hush", "toke=hush"])
    def test_never_quote_what_may_be_secret(self, override):
        found = errors_of(["out=o", override])
        assert found
        assert "hush" not in str(found)


class TestFile:
    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            ("a: [", "is not YAML"),
            ("a: 2026-02-30", "is not YAML: ValueError"),
            ("inner: {lr: 1}\nseed: 1\ninner: {rows: 1}", "is not YAML: duplicate key, line 3"),
            ("inner: {lr: 1, rows: 1, lr: 2}", "is not YAML: duplicate key, line 1"),
            ("- a\n", "must contain keys and values"),
            ("? [a]\n: b", "is not YAML: found unhashable key"),
            (b"\xff\xfe\xfa", "is not YAML: UnicodeDecodeError"),
        ],
    )
    def test_that_is_no_configuration_is_refused(self, tmp_path, content, rule):
        file = tmp_path / "c.yaml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        (error,) = errors_of([], file)
        assert str(file) in error
        assert rule in error

    def test_that_is_missing_is_named(self, tmp_path):
        (error,) = errors_of([], tmp_path / "none.yaml")
        assert "none.yaml' cannot be read: No such file" in error


class TestScoreConfig:
    @pytest.mark.parametrize(
        ("overrides", "keys"),
        [
            (["source.key=id"], ["source.path"]),
            (["source.table=a", "source.path=b", "source.version=-1"], ["source.path", "source.version"]),
            (["source.table=a", "model.alias=a b"], ["model.alias"]),
            (["source.table=a", "warehouse.folder=null"], ["warehouse.artifacts"]),
            (["source.table=a", "warehouse.remote=sc://host"], ["warehouse.remote"]),
            (["source.table=a", "warehouse.folder=null", "warehouse.remote=http://h:1"], ["warehouse.artifacts"] * 2),
            (["source.table=a", "verify.rows=1000000000000"], ["verify.rows"]),
        ],
    )
    def test_refuses_settings_that_contradict(self, overrides, keys):
        found = [error.partition(":")[0] for error in errors_of(overrides, kind=ScoreConfig)]
        assert len(found) == len(keys)
        assert set(found) >= set(keys)

    def test_keeps_artifacts_with_the_embedded_tables(self):
        assert str(WarehouseConfig(folder="w").artifact_folder) == "w/artifacts"
        assert str(WarehouseConfig(folder=None, artifacts="/a").artifact_folder) == "/a"

    def test_is_stored_without_secrets(self):
        overrides = ["source.table=a", "notice.webhook=https://h/hush", "warehouse.spark={spark.x: hush}"]
        assert "hush" not in load_config(ScoreConfig, None, overrides).stored()
