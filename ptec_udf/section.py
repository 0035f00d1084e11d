"""The base of all configuration sections, and helpers for their validators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr
from pydantic.config import JsonDict

SECRET: JsonDict = {"secret": True}
"""``json_schema_extra`` of a field whose values no message may quote."""


class Section(BaseModel):
    """A part of a configuration: unknown keys and values of another type are errors, and values cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


def refuse(errors: Iterable[str]) -> None:
    """Raise all errors that a validator found, each once; do nothing without any.

    Raises:
        ValueError: with one error a line; ``messages_of`` takes them apart.
    """
    if different := dict.fromkeys(errors):
        raise ValueError("\n".join(different))


def messages_of(error: Any) -> list[str]:
    """Return the messages of one pydantic error, without its key; several where ``refuse`` raised it."""
    return str(error["msg"]).removeprefix("Value error, ").split("\n")


def check_address(address: SecretStr, *schemes: str) -> None:
    """Refuse anything but an address of one of some schemes; the message does not quote it, since it may be a secret.

    Raises:
        ValueError: with the rule.
    """
    text = address.get_secret_value()
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        is_valid &= not {"@", ";"} & set(parts.netloc)  # a password, or a token without the slash before it
    except ValueError:
        is_valid = False
    if not is_valid or not text.isascii() or " " in text:
        begins = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(
            f"must be an address that begins with {begins}, then host and port (a number), and a slash if more follows"
        )
