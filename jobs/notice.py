"""The end of a run: one line, and a message to a webhook when somebody has to act."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ptec_udf.config import ScoreConfig
from ptec_udf.errors import PtecError
from ptec_udf.log import configure_log, logger
from ptec_udf.nightly.runs import FAILED

RETRAIN = "retrain"

_MAX_TRIES = 3
_TIMEOUT_S = 10.0
_FACTS = ("run_id", "model_id", "source_version", "outcome", "counts", "skipped", "reused", "retrain")


@contextmanager
def notify_on_exit(config: ScoreConfig, command: str) -> Iterator[dict[str, Any]]:
    """Log how a command ended, and notify the webhook of a failure or of the signal to retrain.

    Yield a mapping for the command's result.
    """
    configure_log(config.notice.log, command)
    started, result = time.monotonic(), dict[str, Any]()
    try:
        yield result
    except BaseException as error:
        # The message of another library may quote a text.
        message = str(error).partition("\n")[0] if isinstance(error, PtecError) else ""
        facts = {"run_id": getattr(error, "run_id", None), "outcome": FAILED, "error": message or type(error).__name__}
        _report(config, command, FAILED, facts, started)
        raise
    facts = {name: result.get(name) for name in _FACTS} | {"drifted": len(result.get("drifted") or ())}
    _report(config, command, RETRAIN if result.get("retrain") else None, facts, started)


def _report(config: ScoreConfig, command: str, event: str | None, facts: dict[str, Any], started: float) -> None:
    """Log the facts as one line, and send them to the webhook if it wants the event."""
    facts = {name: value for name, value in facts.items() if value not in (None, {})}
    facts["seconds"] = round(time.monotonic() - started)
    line = f"{command} ended: {_join(facts)}"
    if config.notice.webhook is not None and event in config.notice.webhook_on:
        run = {"source": config.source.table or config.source.path}
        run |= {"model": config.model.id} if config.model.id else {"alias": config.model.alias}
        run |= {"database": config.warehouse.database, "host": socket.gethostname()}
        message = {"text": f"{line} ({_join(run)})", "command": command, "event": event} | facts | run
        _send(config.notice.webhook.get_secret_value(), message)
    logger.info(line)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: following it would send a GET without the message."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return no request."""


def _send(url: str, message: dict[str, Any]) -> None:
    """Post a message; a failure is logged with the host alone, since the address may be a secret."""
    body = json.dumps(message, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    opener, reason = urllib.request.build_opener(_NoRedirect), ""
    for attempt in range(_MAX_TRIES):
        time.sleep(2.0**attempt if attempt else 0.0)
        try:
            with opener.open(request, timeout=_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            reason = f"HTTP status {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = type(error).__name__
    logger.warning(f"the webhook at {urlsplit(url).hostname} did not accept the message: {reason}")


def _join(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in facts.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_join(value)})"
    return str(value).lower() if isinstance(value, bool) else str(value)
