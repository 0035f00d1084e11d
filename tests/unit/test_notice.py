"""The end of a night: one line, lines as JSON, and a webhook that is told what somebody has to act on."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.notice import noticed
from ptec_udf.config import NoticeConfig, ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, ErrorBudgetError
from ptec_udf.log import configure_log, logger
from tests.receiver import Receiver

NIGHT = {
    "run_id": "abc-1",
    "outcome": "done",
    "counts": {"ok": 5, "error": 1},
    "skipped": 3,
    "reused": 0,
    "drifted": ["all language: PSI 2.00 against nights, limit 0.26"],
    "retrain": False,
}


def of(notice: NoticeConfig) -> ScoreConfig:
    return ScoreConfig.model_validate({"source": {"table": "crm.companies"}, "notice": notice})


def night(config: NoticeConfig, result: dict[str, Any]) -> None:
    with noticed(of(config), "ptec score") as found:
        found |= result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night takes 754 seconds."""
    monkeypatch.setattr("jobs.notice.time", SimpleNamespace(monotonic=iter((100.0, 854.2)).__next__))


@pytest.mark.usefixtures("clock")
def test_one_line_sums_a_night_up(capsys: pytest.CaptureFixture[str]) -> None:
    night(NoticeConfig(), NIGHT)
    said = capsys.readouterr().err
    assert said == (
        "ptec score ended: run_id abc-1, outcome done, counts (ok 5, error 1), skipped 3, reused 0, retrain false, "
        "drifted 1, seconds 754\n"
    )


def test_lines_are_json_objects_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "ptec score")
    for text in ("run x: version 3", "warning: 2 rows have no 'key'", 'error: "quoted"\nand more'):
        logger.info(text)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "run x: version 3"),
        ("warning", "2 rows have no 'key'"),
        ("error", '"quoted"\nand more'),
    ]
    assert {line["command"] for line in lines} == {"ptec score"}
    assert all(line["at"].endswith("+00:00") for line in lines)


def test_a_quiet_night_tells_nobody(receiver: Receiver) -> None:
    night(NoticeConfig(webhook=receiver.url), NIGHT)
    assert receiver.got == []


def test_the_signal_to_train_again_is_told(receiver: Receiver) -> None:
    night(NoticeConfig(webhook=receiver.url), NIGHT | {"retrain": True})
    (message,) = receiver.got
    assert (message["event"], message["run_id"], message["drifted"]) == ("retrain", "abc-1", 1)
    assert message["text"].startswith("ptec score ended: run_id abc-1")
    night(NoticeConfig(webhook=receiver.url, webhook_on=["failed"]), NIGHT | {"retrain": True})
    assert len(receiver.got) == 1


@pytest.mark.usefixtures("receiver", "clock")  # in this order: both set the time
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ErrorBudgetError(
                "12 of 40 companies have errors\n  9 without a score: keys 'a'", "more than 0.1 have errors"
            ),
            "12 of 40 companies have errors",
        ),
        (ConfigError(["source: one", "two"]), "source: one"),
        (ValueError("the text of a company"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_failure_is_told_without_what_it_may_quote(
    receiver: Receiver, capsys: pytest.CaptureFixture[str], error: BaseException, told: str
) -> None:
    with pytest.raises(type(error)), noticed(of(NoticeConfig(webhook=receiver.url)), "ptec score"):
        raise error
    (message,) = receiver.got
    assert (message["event"], message["error"]) == ("failed", told)
    line = f"ptec score ended: outcome failed, error {told}, seconds 754"
    assert capsys.readouterr().err == f"{line}\n"
    which = {"source": "crm.companies", "alias": "champion", "database": "ptec", "host": socket.gethostname()}
    assert which.items() <= message.items()
    assert message["text"] == f"{line} ({', '.join(f'{name} {value}' for name, value in which.items())})"


def test_a_failure_is_told_although_the_disk_of_the_log_is_full(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        with pytest.raises(OSError, match="No space left"), noticed(of(NoticeConfig(webhook=receiver.url)), "night"):
            logger.info("a line")
        with suppress(OSError):  # what is left in the buffer
            full.close()
    assert [(one["event"], one["error"]) for one in receiver.got] == [("failed", "OSError")]


def test_a_shadow_that_failed_is_told(receiver: Receiver) -> None:
    night(NoticeConfig(webhook=receiver.url), NIGHT | {"shadows": {"challenger": {"outcome": "failed"}}})
    assert receiver.got[0]["event"] == "failed"
    assert receiver.got[0]["shadows"] == {"challenger": "failed"}


def test_a_failed_shadow_does_not_hide_the_signal_from_who_wants_it_alone(receiver: Receiver) -> None:
    both = NIGHT | {"retrain": True, "shadows": {"challenger": {"outcome": "failed"}}}
    night(NoticeConfig(webhook=receiver.url, webhook_on=["retrain"]), both)
    night(NoticeConfig(webhook=receiver.url), both)
    assert [(one["event"], one["retrain"]) for one in receiver.got] == [("retrain", True), ("failed", True)]


def test_a_webhook_that_fails_is_tried_again_and_never_ends_a_night(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [503, 200]
    night(NoticeConfig(webhook=receiver.url), NIGHT | {"retrain": True})
    assert len(receiver.got) == 2
    receiver.answers = [500] * 3
    night(NoticeConfig(webhook=receiver.url), NIGHT | {"retrain": True})
    assert (len(receiver.got), receiver.answers) == (5, [])
    receiver.answers = [302] * 3
    night(NoticeConfig(webhook=receiver.url), NIGHT | {"retrain": True})
    night(NoticeConfig(webhook="http://127.0.0.1:1/secret-token"), NIGHT | {"retrain": True})
    night(NoticeConfig(webhook="http://a..b/secret-token"), NIGHT | {"retrain": True})
    said = capsys.readouterr().err
    for code in (500, 302):
        assert f"warning: the webhook at 127.0.0.1 could not be told: it answered {code}" in said
    assert "secret-token" not in said


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "notice.webhook=ftp://host/secret-token",
            "notice.webhook: must be an address that begins with https:// or http",
        ),
        ("notice.webhook=https://host:port/secret-token", "notice.webhook: must be an address"),
        ("notice.webhook='https://ho st/secret-token'", "notice.webhook: must be an address"),
        ("notice=https://host/secret-token", "notice: "),
        ("notice.webhook: [secret-token", "--set takes"),
        ("notice.webhook=[secret-token", "--set notice.webhook: the value is not YAML"),
        (
            "warehouse={folder: null, artifacts: x, remote: 'http://h/secret-token'}",
            "warehouse.remote: must be an address",
        ),
        ("warehouse.remote=sc://host/;token=secret-token", "warehouse.remote: must be null unless warehouse.folder"),
        ("warehouse.remote=sc://host;token=secret-token", "warehouse.remote: must be an address"),
        ("warehouse.remote=sc://user:secret-token@host", "warehouse.remote: must be an address"),
        ("warehouse.spark=spark.hadoop.fs.s3a.secret.key=secret-token", "warehouse.spark: "),
        ("warehouse.spark=[secret-token]", "warehouse.spark: "),
        ("warehouse.spark={spark.hadoop.fs.s3a.secret.key: [secret-token]}", "warehouse.spark.spark.hadoop"),
    ],
)
def test_an_address_that_is_none_is_refused_untold(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(ScoreConfig, None, ["source.table=x", override])
    assert any(fault.startswith(says) for fault in refused.value.errors), refused.value.errors
    assert "secret-token" not in str(refused.value)


def test_a_file_that_is_not_yaml_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "score.yaml").write_text("notice:\n  webhook: 'https://host/secret-token\n", "utf-8")
    with pytest.raises(ConfigError, match=r"is not YAML: .*, line ") as refused:
        load_config(ScoreConfig, tmp_path / "score.yaml")
    assert "secret-token" not in str(refused.value)


def test_secrets_are_in_no_dump() -> None:
    config = load_config(ScoreConfig, None, ["source.table=x", "notice.webhook=https://host/secret-token"])
    assert "secret-token" not in config.model_dump_json() + str(config)
    again = ScoreConfig.model_validate(config.model_dump())
    assert again.notice.webhook == config.notice.webhook
    warehouse = "warehouse={folder: null, artifacts: x, remote: 'sc://h/;token=secret-token', spark: {a: secret-token}}"
    assert "secret-token" not in load_config(ScoreConfig, None, ["source.table=x", warehouse]).stored()
