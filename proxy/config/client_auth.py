"""The methods of client authentication, and the keys of a credential that each uses.

How a method authenticates is in oauth/client_auth/, which is above this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from proxy.config import mcp_keys
from proxy.config.base import MissingKey, Table
from proxy.config.credential_checks import asked
from proxy.config.references import ExistingFile, existing_file
from proxy.config.signing_keys import HMAC, SigningKey

ClientAuth = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "none",
]

# The keys of which a method needs one, the usual one first. It uses no other.
USES: Final[Mapping[ClientAuth, tuple[str, ...]]] = {
    "client_secret_basic": ("client_secret",),
    "client_secret_post": ("client_secret",),
    "client_secret_jwt": ("client_secret",),
    "private_key_jwt": ("client_key", "client_assertion"),
    "tls_client_auth": ("tls.cert",),
    "self_signed_tls_client_auth": ("tls.cert",),
    "none": (),
}
# The methods by the key that is given, the default one first; the server's metadata may name another.
BY_KEY: Final[Mapping[str, tuple[ClientAuth, ...]]] = {
    "client_secret": ("client_secret_basic", "client_secret_post", "client_secret_jwt"),
    "client_key": ("private_key_jwt",),
    "client_assertion": ("private_key_jwt",),
    "tls.cert": ("tls_client_auth", "self_signed_tls_client_auth"),
}
# Those of clients that token-proxy registers itself, by preference: their secret comes with the registration.
REGISTERED: Final[tuple[ClientAuth, ...]] = (*BY_KEY["client_secret"], "none")
_ALONE: Final = (
    "client_secret",
    "client_key",
    "client_assertion",
)  # a certificate may be there for the network
_NEEDS: Final[Mapping[str, str]] = {
    "client_secret": "sends one",
    "client_key": 'signs with one, or client_assertion = { file = "…" } sends what the platform has signed',
    "tls.cert": 'presents one: tls = { cert = "…", key = "…" }',
}
NONE_SENDS_NOTHING: Final = "none sends no secret - choose another client_auth, or leave client_secret out"


class AuthorizationServerTLS(Table):
    """TLS to the authorization server."""

    ca: ExistingFile | None = Field(None, description="Trust this authority instead of the system's.")
    cert: ExistingFile | None = Field(
        None, description="The client certificate chain, PEM: for tls_client_auth, or where the network asks."
    )
    key: ExistingFile | None = Field(
        None, description="The certificate's private key, PEM.", validate_default=True
    )

    @field_validator("key")
    @classmethod
    def _goes_with_cert(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "cert" in info.data and (info.data["cert"] is None) != (value is None):
            raise MissingKey(f"{'key' if value is None else 'cert'} is missing - cert and key go together")
        return value


def _platform_file(value: object, info: ValidationInfo) -> Path:
    """`{ file = "name" }` alone: a platform writes no variables, and what it writes expires."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, dict) or value.keys() != {"file"} or not isinstance(value["file"], str):
        raise ValueError('expected a file that the platform writes: { file = "name" }')
    return existing_file(value["file"], info)


_PLATFORM_FILE: Final = {
    "type": "string",
    "description": "The path of the file; relative to the configuration file. Read again for each use.",
}
# A file that is read again for each use
PlatformFile = Annotated[
    Path,
    PlainValidator(_platform_file),
    WithJsonSchema(
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"file": _PLATFORM_FILE},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            ]
        }
    ),
]


def given(fields: Mapping[str, object]) -> list[str]:
    """The keys of BY_KEY that a credential has. `fields`: its values by name."""
    tls = fields.get("tls")
    has_certificate = isinstance(tls, AuthorizationServerTLS) and tls.cert is not None
    return [key for key in BY_KEY if (has_certificate if key == "tls.cert" else fields.get(key) is not None)]


def allowed_by(fields: Mapping[str, object]) -> tuple[ClientAuth, ...]:
    """The methods that a credential's keys allow, the default one first."""
    keys = given(fields)
    return BY_KEY[keys[0]] if keys else ("none",)


# -- validators


def is_of_a_key(value: str | None, info: ValidationInfo) -> str | None:
    """Of client_key_id."""
    if value is not None and info.data.get("client_key", "") is None:
        raise MissingKey("client_key is missing - client_key_id is its id")
    return value


def has_its_audience(value: str | None, info: ValidationInfo) -> str | None:
    """Of assertion_audience."""
    if value == "issuer" and info.data.get("issuer", "") is None:
        raise MissingKey('issuer is missing - or assertion_audience = "endpoint"')
    return value


def fits_the_key(value: str | None, info: ValidationInfo) -> str | None:
    """Of assertion_alg."""
    key = info.data.get("client_key")
    known = key.algorithms if isinstance(key, SigningKey) else HMAC
    if value is not None and "client_key" in info.data and value not in known:
        raise ValueError("it does not fit the key: expected " + " or ".join(known))
    return value


def has_its_key(method: ClientAuth | None, info: ValidationInfo) -> ClientAuth | None:
    """Of client_auth."""
    if any(name not in info.data for name in ("client_secret", "client_key", "client_assertion", "tls")):
        return method
    if mcp_keys.is_registered(info):
        if method not in {None, *REGISTERED}:
            raise MissingKey(f'client_id is missing - no client can be registered for "{method}"')
        return method
    keys = given(info.data)
    exclusive = [key for key in keys if key in _ALONE]
    name, asks = asked(info)
    if method is not None:
        _check_keys(method, keys, exclusive)
    if len(exclusive) > 1:
        raise ValueError(f"{' and '.join(exclusive)} are given: expected one of them")
    if method is None and not keys and asks is not None and asks.needs_secret:
        raise MissingKey(f'client_secret is missing - grant = "{name}" needs one, or client_auth = "none"')
    return method


def _check_keys(method: ClientAuth, keys: list[str], exclusive: list[str]) -> None:
    """Raises ValueError."""
    needed = USES[method]
    if needed and not set(needed) & set(keys):
        raise MissingKey(f'{needed[0]} is missing - client_auth = "{method}" {_NEEDS[needed[0]]}')
    unused = next((key for key in exclusive if key not in needed), None)
    if unused is None:
        return
    if (method, unused) == ("none", "client_secret"):
        raise ValueError(NONE_SENDS_NOTHING)
    raise ValueError(f"{method} does not use {unused} - choose another client_auth, or leave {unused} out")
