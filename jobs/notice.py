"""What a night says when it ends: one line, and a message to a webhook when somebody has to act."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ptec_udf.config import NoticeConfig, ScoreConfig
from ptec_udf.errors import PtecError
from ptec_udf.log import configure_log, logger
from ptec_udf.nightly.runs import FAILED

RETRAIN = "retrain"

_TRIES = 3
_TIMEOUT_S = 10.0


@contextmanager
def noticed(night: ScoreConfig, command: str) -> Iterator[dict[str, Any]]:
    """Say how a command ended, and tell the webhook of a failure or that it is time to train again.

    Args:
        night: what is scored, which tells one night from another; and under ``notice`` what is told, and where.
        command: its name.

    Yields:
        A mapping to be filled with the command's result.
    """
    config = night.notice
    configure_log(config.log, command)
    started, result = time.monotonic(), dict[str, Any]()
    try:
        yield result
    except BaseException as error:
        run_id = getattr(error, "run_id", None)  # None where no run had begun
        failed: dict[str, Any] = {"event": FAILED, "run_id": run_id, "outcome": FAILED}
        failed |= {"error": _first_line(error), "seconds": round(time.monotonic() - started)}
        _end(config, {"command": command} | failed, _which(night))
        raise
    shadows = {name: shadow["outcome"] for name, shadow in (result.get("shadows") or {}).items()}
    names = ("run_id", "model_id", "source_version", "outcome", "counts", "skipped", "reused", "retrain")
    told = {"command": command, "event": _event(result, shadows, config.webhook_on)} | {
        name: result.get(name) for name in names
    }
    told |= {"drifted": len(result.get("drifted") or ()), "seconds": round(time.monotonic() - started)}
    _end(config, told | ({"shadows": shadows} if shadows else {}), _which(night))


def _which(night: ScoreConfig) -> dict[str, Any]:
    """Say which night it is, of those that a webhook may hear of."""
    return {
        "source": night.source.table or night.source.path,
        **({"model": night.model.id} if night.model.id else {"alias": night.model.alias}),
        "database": night.warehouse.database,
        "host": socket.gethostname(),
    }


def _event(result: dict[str, Any], shadows: dict[str, str], wanted: Sequence[str]) -> str | None:
    """Say what somebody should know of: a shadow that failed counts as a failure, since nothing else tells of it.

    Of both, a failure, unless the signal to train again alone is wanted: the message holds both all the same.
    """
    events = [FAILED] if FAILED in shadows.values() else []
    events += [RETRAIN] if result.get("retrain") else []
    return next((event for event in events if event in wanted), None)


def _end(config: NoticeConfig, told: dict[str, Any], which: dict[str, Any]) -> None:
    """Send the line where somebody is to act on it, with what tells this night from others, and print it.

    Sent first, since it cannot be printed where the disk of a log is full.
    """
    facts = {
        name: value for name, value in told.items() if value not in (None, {}) and name not in ("command", "event")
    }
    line = f"{told['command']} ended: " + ", ".join(f"{name} {_plain(value)}" for name, value in facts.items())
    if config.webhook is not None and told["event"] in config.webhook_on:
        said = f"{line} ({', '.join(f'{name} {value}' for name, value in which.items())})"
        _send(config.webhook.get_secret_value(), {"text": said} | told | which)
    logger.info(line)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an error: what would be sent on is a GET without the message."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return no request."""


_opener = urllib.request.build_opener(_NoRedirect)


def _send(url: str, message: dict[str, Any]) -> None:
    """Post a message; that it cannot be delivered is said, and changes nothing else.

    The address may hold a secret, so that only its host is named.
    """
    body = json.dumps(message, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    for attempt in range(1, _TRIES + 1):
        try:
            with _opener.open(request, timeout=_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            fault = f"it answered {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            fault = type(error).__name__
        if attempt < _TRIES:
            time.sleep(2.0**attempt)
    logger.warning(f"the webhook at {urlsplit(url).hostname} could not be told: {fault}")


def _first_line(error: BaseException) -> str:
    """Say what failed; of errors that are not our own only their kind, since a message may quote a text."""
    return str(error).splitlines()[0] if isinstance(error, PtecError) and str(error) else type(error).__name__


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {part}" for name, part in value.items()) + ")"
    return str(value).lower() if isinstance(value, bool) else str(value)
