"""What all parts of a configuration have in common."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr


class Section(BaseModel):
    """A part of a configuration: unknown keys are faults, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def check_address(address: SecretStr, *schemes: str) -> None:
    """Refuse what is no address of one of some schemes; the address itself is not told, since it may hold a secret.

    Raises:
        ValueError: saying the rule.
    """
    told = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(address.get_secret_value())
        fits = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        fits = fits and not {"@", ";"} & set(parts.netloc)  # a password, or a token without the slash before it
    except ValueError:
        fits = False
    if not fits or not address.get_secret_value().isascii() or " " in address.get_secret_value():
        raise ValueError(
            f"must be an address that begins with {told}, then host and port (a number), and a slash if more comes"
        )
