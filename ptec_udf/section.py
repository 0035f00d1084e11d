"""The base of all configuration sections, and helpers for their validators."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from pydantic.config import JsonDict

SECRET: JsonDict = {"secret": True}  # json_schema_extra of a field whose values no message may quote


class Section(BaseModel):
    """A part of a configuration: unknown keys and values of another type are errors, and values cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


def refuse(errors: Iterable[str]) -> None:
    """Raise a ValueError with all errors of a validator, each once; ``messages_of`` separates them."""
    if different := dict.fromkeys(errors):
        raise ValueError("\n".join(different))


def messages_of(error: Any) -> list[str]:
    """Return the messages of one pydantic error, without its key; several where ``refuse`` raised it."""
    return str(error["msg"]).removeprefix("Value error, ").split("\n")


def address(*schemes: str) -> AfterValidator:
    """Return a validator of addresses with one of these schemes; its message does not quote a secret."""
    host_and_port = r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[1-9][0-9]{0,4})?"
    pattern = re.compile(rf"({'|'.join(schemes)})://{host_and_port}(/[!-~]*)?")
    begins = " or ".join(f"{scheme}://" for scheme in schemes)
    rule = f"must be an address that begins with {begins}, then host and port, and a slash if more follows"

    def check(value: SecretStr) -> SecretStr:
        if not pattern.fullmatch(value.get_secret_value()):
            raise ValueError(rule)
        return value

    return AfterValidator(check)
