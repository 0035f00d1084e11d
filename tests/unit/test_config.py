"""A configuration is read with its overrides, and everything wrong with it is said at once."""

from __future__ import annotations

import pytest

from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError
from ptec_udf.faults import switches_for_numbers
from training.benchmark.config import BenchmarkConfig
from training.config import TrainConfig
from training.data.config import ExtractConfig
from training.search.config import SearchConfig

TRAIN = ["extract=/x", "out=/y"]


def faults_of(kind, file=None, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(kind, file, overrides)
    return caught.value.errors


def test_file_is_read_and_overrides_win_in_order(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("extract: e\nout: o\nprompt: {n_tokens: 5}\nseed: 1\n")
    config = load_config(TrainConfig, file, ["seed=2", "seed=3", "stopping.metric=macro_f1"])
    assert (config.extract, config.prompt.n_tokens, config.seed) == ("e", 5, 3)
    assert config.stopping.metric == "macro_f1"
    assert config.prompt.kind == "deep"


@pytest.mark.parametrize(
    ("override", "read"),
    [("most_rows=500", 500), ("most_rows=", None), ("most_rows=null", None), ("most_rows= 20", 20)],
)
def test_override_is_read_as_yaml(override, read):
    assert load_config(TrainConfig, None, [*TRAIN, override]).most_rows == read


def test_override_may_hold_equals_signs_lists_and_quoted_numbers():
    overrides = ["source.path=/d/year=2026", "template=a {b}", "labels.column=l", "out=o"]
    config = load_config(ExtractConfig, None, [*overrides, "labels.exclude=[x, y]", "labels.delimiter='1'"])
    assert config.source.path == "/d/year=2026"
    assert config.labels.exclude == ["x", "y"]
    assert config.labels.delimiter == "1"


def test_override_opens_sections_that_the_file_leaves_empty(tmp_path):
    file = tmp_path / "score.yaml"
    file.write_text("source:\n")
    assert load_config(ScoreConfig, file, ["source.table=crm.companies"]).source.table == "crm.companies"


def test_all_faults_are_named_at_once():
    overrides = ["nonsense", "out=/y", "seed=-1", "promt.kind=deep", "dtype=float16", "prompt.n_tokens=many"]
    faults = faults_of(TrainConfig, overrides=overrides)
    expected = [
        ("--set takes dotted.key=value", "'nonsense'"),
        ("extract: must be set", ""),
        ("seed: ", "was: -1"),
        ("promt: unknown key", "did you mean 'prompt'?"),
        ("dtype: ", "was: 'float16'"),
        ("prompt.n_tokens: ", "was: 'many'"),
    ]
    assert len(faults) == len(expected)
    for start, end in expected:
        assert [fault for fault in faults if fault.startswith(start) and fault.endswith(end)]


def test_unknown_key_of_a_section_is_named_with_the_nearest():
    (fault,) = faults_of(TrainConfig, overrides=[*TRAIN, "optimiser.promt_lr=1"])
    assert fault == "optimiser.promt_lr: unknown key; did you mean 'prompt_lr'?"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["loss.focus_negatives=2"], "loss: pos_weight_power must be 0 with focus or margin"),
        (["loss.margin=1e-9", "loss.pos_weight_power=0"], "loss: margin must be 0 or at least 0.001, was: 1e-09"),
    ],
)
def test_losses_that_cannot_be_computed_or_undone_are_refused(settings, fault):
    (found,) = faults_of(TrainConfig, overrides=[*TRAIN, *settings])
    assert found.startswith(fault)


def test_unknown_key_that_is_near_to_none_lists_what_is_allowed():
    (fault,) = faults_of(TrainConfig, overrides=[*TRAIN, "prompt.zzz=1"])
    assert fault == "prompt.zzz: unknown key; allowed here: init, kind, n_tokens, text, upper_layers"


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("seed", "takes dotted.key=value, there is no '=' after the key in 'seed'"),
        ("=5", "takes dotted.key=value"),
        ("seed.low=5", "--set seed.low: 'seed' is a value, not a section"),
        ("seed=[1", "--set seed: the value is not YAML"),
        ("seed=2026-02-30", "--set seed: the value is not YAML"),
        ("seed=" + "[" * 5_000, "--set seed: the value is not YAML"),
    ],
)
def test_wrong_form_of_an_override_is_refused(tmp_path, override, rule):
    file = tmp_path / "train.yaml"
    file.write_text("extract: e\nout: o\nseed: 1\n")
    (fault,) = faults_of(TrainConfig, file, [override])
    assert rule in fault
    assert not {"5", "[1"} & set(fault.split())  # a value may be a secret


@pytest.mark.parametrize(
    ("kind", "overrides", "rule"),
    [
        (ScoreConfig, ["source.table=a", "source.path=/b"], "exactly one of table and path"),
        (ScoreConfig, ["source.key=id"], "exactly one of table and path"),
        (TrainConfig, [*TRAIN, "prompt.text=words"], "text must be set with init: text, and only then"),
        (TrainConfig, [*TRAIN, "prompt.init=text"], "text must be set with init: text, and only then"),
        (WarehouseConfig, ["folder=null"], "artifacts: must be set"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(kind, overrides, rule):
    (fault,) = faults_of(kind, overrides=overrides)
    assert rule in fault


@pytest.mark.parametrize(
    ("overrides", "rules"),
    [
        (["shadows=[champion]"], ["named 'champion'"]),
        (["shadows=['a b']"], ["shadows.0: ", "was: 'a b'"]),
        (["shadows=challenger"], ["shadows: ", "must be a list, such as [challenger]", "was: 'challenger'"]),
    ],
)
def test_shadows_that_are_wrong_in_the_file_are_refused(overrides, rules):
    (fault,) = faults_of(ScoreConfig, overrides=["source.table=a", *overrides])
    assert [rule for rule in rules if rule not in fault] == []


@pytest.mark.parametrize(
    ("kind", "overrides", "starts"),
    [
        (ScoreConfig, ["source.table=a", "source.path=b", "source.version=-1"], ["source.path", "source.version"]),
        (ScoreConfig, ["source.table=a", "shadows=[champion]", "slice_texts=0"], ["shadows", "slice_texts"]),
        (ScoreConfig, ["source.table=a", "source.path=b", "shadows=[champion]"], ["source.path", "shadows"]),
        (ScoreConfig, ["source.table=1", "shadows=[a, a]"], ["source.table", "shadows"]),
        (WarehouseConfig, ["folder=null", "database=a-b"], ["artifacts", "database"]),
    ],
)
def test_a_contradiction_is_named_beside_other_faults(kind, overrides, starts):
    assert sorted(fault.partition(":")[0] for fault in faults_of(kind, overrides=overrides)) == sorted(starts)


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["engine.threads=true"], "engine.threads: must be a number, was: True"),
        (["slice_texts=true"], "slice_texts: must be a number, was: True"),
        (["verify.rows=1000000000000"], "less than or equal to 100000"),
        (["verify.seed=99999999999999999999"], "less than or equal to 9223372036854775807"),
        (["engine.threads=99999999999"], "less than or equal to 1024"),
    ],
)
def test_numbers_that_nothing_could_be_done_with_are_refused(overrides, rule):
    (fault,) = faults_of(ScoreConfig, overrides=["source.table=a", *overrides])
    assert rule in fault


@pytest.mark.parametrize(
    ("kind", "values", "where"),
    [
        (TrainConfig, {"layers": [-1, True]}, ["layers.1"]),
        (TrainConfig, {"optimiser": {"batch_rows": True}, "seed": False}, ["optimiser.batch_rows", "seed"]),
        (BenchmarkConfig, {"seeds": [True]}, ["seeds.0"]),
        (BenchmarkConfig, {"methods": {"a": {"method": "knn", "n_seeds": True}}}, ["methods.a.n_seeds"]),
        (SearchConfig, {"space": {"head_dropout": {"low": False}}}, ["space.head_dropout.low"]),
        (ScoreConfig, {"engine": {"dtype": True}, "shadows": True, "retry_errors": True}, []),
        (ScoreConfig, {"warehouse": {"spark": {"spark.ui.enabled": True}}}, []),
    ],
)
def test_a_switch_is_no_number_wherever_it_stands(kind, values, where):
    found = switches_for_numbers(kind, values)
    assert [fault.partition(": must be a number, was: ")[0] for fault in found] == where


def test_settings_that_contradict_each_other_in_several_ways_are_refused_with_all_of_them():
    shadows = ["source.table=a", "model.id=feedfeed", "shadows=[feedfeed, b, b, champion]"]
    own, twice = faults_of(ScoreConfig, overrides=shadows)
    assert "named 'feedfeed'" in own
    assert "named more often: 'b'" in twice
    training = ["extract=e", "out=o", "layers=[-9]", "prompt.upper_layers=0", "prompt.kind=none", "auxiliary={}"]
    training += ["pooling=label_attention", "members=3", "combine=logits", "processes=65"]
    faults = faults_of(TrainConfig, overrides=training)
    assert [fault.partition(" must")[0] for fault in faults] == ["layers", "pooling", "combine", "processes"]


def test_shares_that_leave_no_train_are_refused():
    overrides = ["source.table=a", "template=x {b}", "labels.column=l", "out=o", "split.dev=.5", "split.test=.5"]
    (fault,) = faults_of(ExtractConfig, overrides=overrides)
    assert fault.startswith("split: dev + test must be below 1")
    assert "was: 1" in fault


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("a: [", "is not YAML"),
        ("a: 2026-02-30", "is not YAML: ValueError"),
        ("source: {table: a}\nseed: 1\nsource: {table: b}", "is not YAML: a key stands twice in one place, line 3"),
        ("source: {table: a, key: k, table: b}", "is not YAML: a key stands twice in one place, line 1"),
        ("- a\n", "must hold keys and values"),
        ("? [a]\n: b", "is not YAML: found unhashable key"),
        (b"\xff\xfe\xfa", "must be text in UTF-8"),
    ],
)
def test_file_that_is_no_configuration_is_refused(tmp_path, content, rule):
    file = tmp_path / "c.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    (fault,) = faults_of(TrainConfig, file)
    assert str(file) in fault
    assert rule in fault


def test_several_mappings_may_be_merged_into_one(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("source:\n  <<: {key: k, version: 1}\n  <<: {table: a}\n  version: 2\n")
    source = load_config(ScoreConfig, file).source
    assert (source.table, source.key, source.version) == ("a", "k", 2)


def test_missing_file_is_named(tmp_path):
    (fault,) = faults_of(TrainConfig, tmp_path / "none.yaml")
    assert "none.yaml" in fault
    assert "cannot be read" in fault


def test_configuration_cannot_be_changed():
    config = load_config(TrainConfig, None, TRAIN)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 5


def test_artifacts_stand_beside_the_embedded_tables():
    assert str(WarehouseConfig(folder="w").artifact_folder) == "w/artifacts"
    assert str(WarehouseConfig(folder=None, artifacts="/a").artifact_folder) == "/a"
