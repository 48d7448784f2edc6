"""Rules about several keys of [credentials.NAME]; each is a validator of the last of them (see base.Table).

A rule for keys of one subject that grows beyond a few lines has a module of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Discriminator, Tag, ValidationInfo, ValidatorFunctionWrapHandler

from proxy.config.base import MissingKey
from proxy.config.grants import Requirements, requirements_of
from proxy.config.route_fields import visible
from proxy.secret import Secret

# Parameters that token-proxy sends itself. "uri" is an argument of the Authlib function that takes them.
LOGIN_PARAMETERS: Final = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "dpop_jkt",
        "redirect_uri",
        "response_type",
        "state",
        "uri",
    }
)
TOKEN_PARAMETERS: Final = frozenset(
    {
        "client_assertion",
        "client_assertion_type",
        "client_secret",
        "code",
        "code_verifier",
        "grant_type",
        "redirect_uri",
        "refresh_token",
    }
)
NOT_A_SEED: Final = 'only for grant = "refresh_token" - change the grant, or leave the key out'
NOT_A_VALUE: Final = 'only for grant = "static" - change the grant, or leave the key out'
REFRESH_AT: Final = 0.8


def asked(info: ValidationInfo) -> tuple[str, Requirements | None]:
    """The grant's name, and what it asks; None if the grant itself has a fault."""
    name = info.data.get("grant", "")
    return name, requirements_of(name)


def is_no_document(value: Secret) -> Secret:
    """Of client_secret, which people take from a file like Google's client_secret.json."""
    text = value.reveal()
    if text.lstrip().startswith("{") and '"client_secret"' in text:
        raise ValueError("a whole JSON document: expected the client_secret in it alone")
    return value


def has_its_client(value: object, valid: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Of client_id, "" where there is none. `value` is None where the key is left out."""
    _, asks = asked(info)
    if value is not None:
        return valid(value)
    if is_without(info, "mcp") and (asks is None or asks.client == "required"):
        raise MissingKey("client_id is missing - this table requires it")
    return ""


def is_without(info: ValidationInfo, *keys: str) -> bool:
    """Whether none of the keys is given, not even with a fault."""
    return all(info.data.get(key, "") is None for key in keys)


def has_a_token_endpoint(value: str | None, info: ValidationInfo) -> str | None:
    _, asks = asked(info)
    key = info.data.get("key")
    if value is None and key is not None and info.data.get("issuer") is None:
        value = key.token_endpoint or None
    is_needed = asks is None or asks.server == "required"
    if value is None and is_needed and is_without(info, "issuer", "mcp"):
        raise MissingKey("issuer is missing - or token_endpoint, where there is no discovery")
    return value


def has_logins_to_push(value: bool, info: ValidationInfo) -> bool:
    """Of par."""
    name, asks = asked(info)
    if value and asks is not None and not asks.redirects:
        raise ValueError(f'grant = "{name}" has no logins in a browser - leave the key out')
    endpoint = "pushed_authorization_request_endpoint"
    if value and is_without(info, "issuer", "mcp", endpoint):
        raise MissingKey(f"{endpoint} is missing - or issuer, where there is discovery")
    return value


def has_an_authorization_endpoint(value: str | None, info: ValidationInfo) -> str | None:
    return _has_its_login_endpoint("authorization_endpoint", value, info)


def has_a_device_authorization_endpoint(value: str | None, info: ValidationInfo) -> str | None:
    name, asks = asked(info)
    if value is not None and asks is not None and not asks.logs_in:
        raise ValueError(f'grant = "{name}" has no logins - leave the key out')
    return _has_its_login_endpoint("device_authorization_endpoint", value, info)


def _has_its_login_endpoint(key: str, value: str | None, info: ValidationInfo) -> str | None:
    _, asks = asked(info)
    is_needed = asks is not None and asks.login_endpoint == key and is_without(info, "issuer", "mcp")
    if value is None and is_needed and "token_endpoint" in info.data:  # else the issuer is reported
        raise MissingKey(f"{key} is missing - or issuer, where there is discovery")
    return value


def has_scopes_once(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Of authorize_params, whose `scope` is for servers that want commas between scopes."""
    if "scope" in value and info.data.get("scopes"):
        raise ValueError("scope is sent by `scopes`: expected only one of the two")
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
    name, asks = asked(info)
    if value is not None and asks is not None and not asks.has_refresh_tokens and not asks.is_fixed:
        raise ValueError(f'grant = "{name}" has no refresh tokens - leave the key out')
    return value


def is_not_below_idle(value: float | None, info: ValidationInfo) -> float | None:
    """Of refresh_token_lifetime."""
    if value is not None and value < (info.data.get("refresh_token_idle") or 0):
        raise ValueError("shorter than refresh_token_idle: expected at least as long")
    return value


def has_a_seed(value: object, info: ValidationInfo) -> object:
    """Of refresh_token."""
    name, asks = asked(info)
    if asks is not None and asks.has_seed and value is None:
        raise MissingKey(f'refresh_token is missing - grant = "{name}" starts from one')
    if asks is not None and not asks.has_seed and value is not None:
        raise ValueError(NOT_A_SEED)
    return value


def is_its_own(value: Secret | None, info: ValidationInfo) -> Secret | None:
    """Of value."""
    name, asks = asked(info)
    if asks is not None and asks.is_fixed and value is None:
        raise MissingKey(f'value is missing - grant = "{name}" attaches it')
    if asks is not None and not asks.is_fixed and value is not None:
        raise ValueError(NOT_A_VALUE)
    return None if value is None else visible(value)


def _none_of(ours: frozenset[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name in ours:
            raise ValueError("token-proxy sends this parameter itself - leave it out")
        return name

    return AfterValidator(check)


_ParameterValue = Annotated[
    Annotated[str, Tag("a string")] | Annotated[list[str], Tag("a list")],
    Discriminator(lambda value: "a list" if isinstance(value, list) else "a string"),
]
LoginParameters = Annotated[
    dict[Annotated[str, _none_of(LOGIN_PARAMETERS)], _ParameterValue], AfterValidator(has_scopes_once)
]
TokenParameters = dict[Annotated[str, _none_of(TOKEN_PARAMETERS)], _ParameterValue]
