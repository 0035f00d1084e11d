"""The end of a run is one line, and a webhook is notified when somebody has to act."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ptec_jobs.notice import notify_on_exit
from ptec_udf.config import ScoreConfig
from ptec_udf.errors import ConfigError, ErrorBudgetError
from tests.receiver import Receiver
from tests.site import load_config

RESULT = {
    "run_id": "abc-1",
    "outcome": "done",
    "counts": {"ok": 5, "error": 1},
    "skipped": 3,
    "reused": 0,
    "drifted": ["all status: PSI 2.00 against runs, limit 0.25"],
    "retrain": False,
}


def config(**notice: Any) -> ScoreConfig:
    return ScoreConfig.model_validate({"source": {"table": "crm.companies"}, "notice": notice})


def end(result: dict[str, Any], **notice: Any) -> None:
    with notify_on_exit(config(**notice), "ptec score") as found:
        found |= result


class TestLine:
    def test_sums_up_a_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        end(RESULT)
        assert capsys.readouterr().err == (
            "ptec score ended: run_id abc-1, outcome done, counts (ok 5, error 1), skipped 3, reused 0, retrain false, "
            "drifted 1, seconds 0\n"
        )


class TestWebhook:
    def test_hears_nothing_of_a_quiet_run(self, receiver: Receiver) -> None:
        end(RESULT, webhook=receiver.url)
        assert receiver.got == []

    def test_hears_the_signal_to_retrain(self, receiver: Receiver) -> None:
        end(RESULT | {"retrain": True}, webhook=receiver.url)
        (message,) = receiver.got
        assert (message["event"], message["run_id"], message["drifted"]) == ("retrain", "abc-1", 1)
        assert message["text"].startswith("ptec score ended: run_id abc-1")
        end(RESULT | {"retrain": True}, webhook=receiver.url, webhook_on=["failed"])
        assert len(receiver.got) == 1

    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            (ErrorBudgetError("12 of 40 companies have errors\n  9 keys: 'a'", "x"), "12 of 40 companies have errors"),
            (ConfigError(["source: one", "two"]), "source: one"),
            (ValueError("the text of a company"), "ValueError"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
        ],
    )
    def test_hears_a_failure_without_company_text(self, receiver: Receiver, error: BaseException, shown: str) -> None:
        with pytest.raises(type(error)), notify_on_exit(config(webhook=receiver.url), "ptec score"):
            raise error
        (message,) = receiver.got
        assert (message["event"], message["error"]) == ("failed", shown)
        run = {"source": "crm.companies", "alias": "champion", "database": "ptec", "host": socket.gethostname()}
        assert run.items() <= message.items()
        facts = ", ".join(f"{name} {value}" for name, value in run.items())
        assert message["text"] == f"ptec score ended: outcome failed, error {shown}, seconds 0 ({facts})"

    def test_that_fails_is_tried_again_and_ends_no_run(
        self, receiver: Receiver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for answers in ([503, 200], [500] * 3, [302] * 3):
            receiver.answers = list(answers)
            end(RESULT | {"retrain": True}, webhook=receiver.url)
            assert receiver.answers == []
        for url in ("http://127.0.0.1:1/secret-token", "http://a..b/secret-token"):
            end(RESULT | {"retrain": True}, webhook=url)
        shown = capsys.readouterr().err
        for status in (500, 302):
            assert f"warning: the webhook at 127.0.0.1 did not accept the message: HTTP status {status}" in shown
        assert "secret-token" not in shown


class TestSecrets:
    @pytest.mark.parametrize(
        ("override", "error"),
        [
            ("notice.webhook=ftp://host/secret-token", "notice.webhook: must be an address that begins with https://"),
            ("notice.webhook=https://host:port/secret-token", "notice.webhook: must be an address"),
            ("notice.webhook='https://ho st/secret-token'", "notice.webhook: must be an address"),
            ("notice=https://host/secret-token", "notice: "),
            ("notice.webhook: [secret-token", "--set takes"),
            ("notice.webhook=[secret-token", "--set notice.webhook: the value is not YAML"),
            ("warehouse.remote=sc://host;token=secret-token", "warehouse.remote: must be an address"),
            ("warehouse.remote=sc://user:secret-token@host", "warehouse.remote: must be an address"),
            ("warehouse.spark=[secret-token]", "warehouse.spark: "),
            ("warehouse.spark={spark.hadoop.fs.s3a.secret.key: [secret-token]}", "warehouse.spark.spark.hadoop"),
        ],
    )
    def test_are_not_quoted_by_errors(self, override: str, error: str) -> None:
        with pytest.raises(ConfigError) as refused:
            load_config(ScoreConfig, None, ["source.table=x", override])
        assert any(one.startswith(error) for one in refused.value.errors), refused.value.errors
        assert "secret-token" not in str(refused.value)
