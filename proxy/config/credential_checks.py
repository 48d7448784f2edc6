"""Rules about several keys of [credentials.NAME]; each is a validator of the last of them (see base.Table).

A rule for keys of one subject that grows beyond a few lines has a module of its own.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import AfterValidator, ValidationInfo, ValidatorFunctionWrapHandler

from proxy.config import mcp_keys
from proxy.config.base import MissingKey
from proxy.config.grants import Requirements, requirements_of

# Parameters that token-proxy sends itself. "uri" is an argument of the Authlib function that takes them.
LOGIN_PARAMETERS: Final = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "uri",
    }
)
TOKEN_PARAMETERS: Final = frozenset(
    {"client_secret", "code", "code_verifier", "grant_type", "redirect_uri", "refresh_token"}
)
NONE_SENDS_NOTHING: Final = "none sends no secret - choose another client_auth, or leave client_secret out"
NOT_A_SEED: Final = 'only for grant = "refresh_token" - change the grant, or leave the key out'
REFRESH_AT: Final = 0.8


def none_of(ours: frozenset[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name in ours:
            raise ValueError("token-proxy sends this parameter itself - leave it out")
        return name

    return AfterValidator(check)


def _asked(info: ValidationInfo) -> tuple[str, Requirements | None]:
    """The grant's name, and what it asks; None if the grant itself has a fault."""
    name = info.data.get("grant", "")
    return name, requirements_of(name)


def has_its_client(value: object, valid: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Of client_id, "" where there is none. `value` is None where the key is left out."""
    name, asks = _asked(info)
    if value is not None and asks is not None and asks.client == "none":
        raise ValueError(f'grant = "{name}" has no client - leave the key out')
    if value is not None:
        return valid(value)
    if is_without(info, "mcp") and (asks is None or asks.client == "required"):
        raise MissingKey("client_id is missing - this table requires it")
    return ""


def is_without(info: ValidationInfo, *keys: str) -> bool:
    """Whether none of the keys is given, not even with a fault."""
    return all(info.data.get(key, "") is None for key in keys)


def has_a_token_endpoint(value: str | None, info: ValidationInfo) -> str | None:
    name, asks = _asked(info)
    if value is not None and asks is not None and asks.server == "none":
        raise ValueError(f'grant = "{name}" has no authorization server - leave the key out')
    is_needed = asks is None or asks.server == "required"
    if value is None and is_needed and is_without(info, "issuer", "mcp"):
        raise MissingKey("issuer is missing - or token_endpoint, where there is no discovery")
    return value


def has_an_authorization_endpoint(value: str | None, info: ValidationInfo) -> str | None:
    _, asks = _asked(info)
    by_hand = asks is not None and asks.logs_in and is_without(info, "issuer", "mcp")
    if value is None and by_hand and "token_endpoint" in info.data:  # else the issuer is reported
        raise MissingKey("authorization_endpoint is missing - or issuer, where there is discovery")
    return value


def has_its_secret(value: str | None, info: ValidationInfo) -> str | None:
    """Of client_auth."""
    if "client_secret" not in info.data:
        return value
    has_secret = info.data["client_secret"] is not None
    if mcp_keys.is_registered(info):
        return value
    if value == "none" and has_secret:
        raise ValueError(NONE_SENDS_NOTHING)
    if value not in {None, "none"} and not has_secret:
        raise MissingKey(f'client_secret is missing - client_auth = "{value}" sends one')
    name, asks = _asked(info)
    if value is None and not has_secret and asks is not None and asks.needs_secret:
        raise MissingKey(f'client_secret is missing - grant = "{name}" needs one, or client_auth = "none"')
    return value


def accepts_something(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Of token_types."""
    if value == ():
        raise ValueError("an empty list accepts no token - expected a type, or no token_types")
    return value


def is_within_the_lifetime(value: float | None, info: ValidationInfo) -> float | None:
    """Of refresh_window."""
    lifetime = info.data.get("access_token_lifetime")
    if value is not None and lifetime is not None and value >= lifetime:
        raise ValueError("longer than the token lives: expected less than access_token_lifetime")
    if value is not None and info.data.get("refresh_at", REFRESH_AT) != REFRESH_AT:
        raise ValueError("refresh_at is set too: expected only one of the two")
    return value


def has_refresh_tokens(value: float | None, info: ValidationInfo) -> float | None:
    """Of refresh_token_idle and refresh_token_lifetime."""
    name, asks = _asked(info)
    if value is not None and asks is not None and not asks.has_refresh_tokens:
        raise ValueError(f'grant = "{name}" has no refresh tokens - leave the key out')
    return value


def is_not_below_idle(value: float | None, info: ValidationInfo) -> float | None:
    """Of refresh_token_lifetime."""
    if value is not None and value < (info.data.get("refresh_token_idle") or 0):
        raise ValueError("shorter than refresh_token_idle: expected at least as long")
    return value


def has_a_seed(value: object, info: ValidationInfo) -> object:
    """Of refresh_token."""
    name, asks = _asked(info)
    if asks is not None and asks.has_seed and value is None:
        raise MissingKey(f'refresh_token is missing - grant = "{name}" starts from one')
    if asks is not None and not asks.has_seed and value is not None:
        raise ValueError(NOT_A_SEED)
    return value
