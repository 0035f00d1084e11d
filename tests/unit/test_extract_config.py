"""Faults in the configuration of an extract are found before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError
from training.data.config import ExtractConfig

GOOD = ["source.table=crm.companies", "template='{name}'", "labels.column=industries", "out=extract"]


def test_what_is_not_set_has_its_default() -> None:
    config = load_config(ExtractConfig, None, GOOD)

    assert (config.labels.delimiter, config.labels.exclude, config.labels.min_positives) == (None, [], 15)
    assert (config.split.column, config.split.dev, config.split.test) == (None, 0.1, 0.1)
    assert config.overwrite is False


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        (
            "template='{a} {} {'",
            r"template: template has an empty field at character 5; (.|\n)*an unbalanced .{. at character 8",
        ),
        ("labels.min_positives=0", "labels.min_positives: .*greater than or equal to 1"),
        ("split.dev=1", "split.dev: .*less than 1"),
        ("split={dev: 0.5, test: 0.5}", "split: dev \\+ test must be below 1"),
        ("labels.delimiter=''", "labels.delimiter: .*at least 1 character"),
    ],
)
def test_a_fault_names_its_place_and_rule(override: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        load_config(ExtractConfig, None, [*GOOD, override])
