"""Keys of [credentials.NAME] for the grants jwt_bearer, token_exchange and password.

As in values.py, a fault is a ValueError whose message holds nothing of a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from proxy.config.base import MissingKey, Table
from proxy.config.client_auth import PlatformFile
from proxy.config.grants import Requirements, requirements_of
from proxy.config.references import REFERENCE, load_context, read_secret
from proxy.config.signing_keys import UNREAD, SigningKey, read_signing_key
from proxy.config.values import Endpoint, FieldName
from proxy.secret import MASK

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 (RFC 8693 section 3)
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
OUR_CLAIMS: Final = frozenset({"exp", "iat", "jti", "nbf"})
SERVICE_ACCOUNT: Final = "service_account"  # `type` in Google's files
_UNREAD_ENDPOINT: Final = "https://unread.invalid/token"
_ENDPOINT: Final[TypeAdapter[str]] = TypeAdapter(Endpoint)
_DEEPEST: Final = 8  # levels of a claim


@dataclass(frozen=True, slots=True)
class AssertionKey:
    """A key that signs assertions (RFC 7523), and what its file says besides."""

    signing: SigningKey
    issuer: str = ""  # client_email of a service account; "" for a key alone
    token_endpoint: str = ""  # its token_uri

    @property
    def is_service_account(self) -> bool:
        return bool(self.issuer)

    def __str__(self) -> str:
        return MASK


def read_assertion_key(text: str) -> AssertionKey:
    """PEM, a JWK, or a service-account key file of Google. Raises ValueError."""
    members = _json(text)
    if members.get("type") != SERVICE_ACCOUNT and "private_key" not in members:
        return AssertionKey(read_signing_key(text))
    email, pem, uri = (members.get(name) for name in ("client_email", "private_key", "token_uri"))
    if not (isinstance(email, str) and email and isinstance(pem, str) and isinstance(uri, str)):
        raise ValueError(
            "not a service-account key file: expected client_email, private_key and token_uri in it"
        )
    try:
        endpoint = _ENDPOINT.validate_python(uri)
    except ValidationError:
        raise ValueError("its token_uri is no URL for secrets: expected https://host/path") from None
    kid = members.get("private_key_id")
    signing = replace(read_signing_key(pem), kid=kid if isinstance(kid, str) else "")
    return AssertionKey(signing, email, endpoint)


def _json(text: str) -> Mapping[str, Any]:
    try:
        members = json.loads(text) if text.lstrip().startswith("{") else {}
    except ValueError:
        raise ValueError("not JSON: expected a service-account key file, a JWK, or PEM") from None
    return members if isinstance(members, dict) else {}


class SubjectField(Table):
    """The caller's own token, in a field of its request."""

    header: FieldName = Field(description="The field with the caller's own token.")

    @property
    def field(self) -> bytes:
        """In lower case."""
        return self.header.lower().encode("ascii")


def _subject(value: object) -> object:
    is_field = isinstance(value, dict) and value.keys() == {"header"}
    is_file = isinstance(value, dict) and value.keys() == {"file"}
    if not (is_field or is_file or isinstance(value, SubjectField | Path)):
        raise ValueError('expected { header = "Authorization" } or { file = "name" }')
    return value


def _kind_of_subject(value: object) -> str:
    is_field = isinstance(value, SubjectField) or (isinstance(value, dict) and "header" in value)
    return "a field" if is_field else "a file"


def _assertion_key(value: object, info: ValidationInfo) -> AssertionKey:
    if isinstance(value, AssertionKey):
        return value
    secret = read_secret(value, info)
    if isinstance(value, dict) and not load_context(info).secrets:
        return AssertionKey(UNREAD, "unread", _UNREAD_ENDPOINT)
    return read_assertion_key(secret.reveal())


def is_claim(name: str) -> str:
    if name in OUR_CLAIMS:
        raise ValueError("token-proxy sets this claim itself - leave it out")
    return name


def _claim(value: object) -> object:
    if not _is_json(value, _DEEPEST):
        raise ValueError("expected a string, a number, true, false, a list or a table of these")
    return value


def _is_json(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_json(each, depth - 1) for each in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_json(each, depth - 1) for each in value)
    is_finite = not isinstance(value, float) or abs(value) < float("inf")
    return isinstance(value, str | int | float | bool) and is_finite


AssertionKeyValue = Annotated[AssertionKey, PlainValidator(_assertion_key), WithJsonSchema(REFERENCE)]
Subject = Annotated[
    Annotated[
        Annotated[SubjectField, Tag("a field")] | Annotated[PlatformFile, Tag("a file")],
        Discriminator(_kind_of_subject),
    ],
    BeforeValidator(_subject),
]


def _uri(value: str) -> str:
    if not _URI.fullmatch(value):
        raise ValueError(f"expected the URI of a token type, like {ACCESS_TOKEN}")
    return value


TokenTypeUri = Annotated[str, AfterValidator(_uri)]
Claim = Annotated[Any, PlainValidator(_claim), WithJsonSchema({})]
ClaimName = Annotated[str, AfterValidator(is_claim)]


# -- rules of several keys; each is a validator of the last of them


def only_for_its_grant(value: Any, info: ValidationInfo) -> Any:
    """A key that only some grants have."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value and asks is not None and info.field_name not in asks.keys:
        raise ValueError(f'grant = "{name}" does not use this key - {_remedy(info, asks)}')
    return value


def _remedy(info: ValidationInfo, asks: Requirements) -> str:
    if info.field_name != "audience":
        return "leave it out"
    params = "authorize_params" if asks.redirects else "token_params"
    return f'did you mean {params} = {{ audience = "…" }}?'


def has_its_assertion(value: Path | None, info: ValidationInfo) -> Path | None:
    """Of `assertion`."""
    asks = requirements_of(info.data.get("grant", ""))
    if asks is None or "assertion" not in asks.keys or "key" not in info.data:
        return value
    has_key = info.data["key"] is not None
    if value is not None and (has_key or info.data.get("claims")):
        raise ValueError(
            "key or claims are set too: expected a file of ready assertions, or a key that signs them"
        )
    if value is None and not has_key:
        raise MissingKey(
            'key is missing - { file = "service-account.json" } or a PEM file; or assertion, a file with '
            "one that is signed already"
        )
    return value


def has_its_issuer(value: Any, info: ValidationInfo) -> Any:
    """Of `claims`: an assertion names who it is from (RFC 7523 section 3)."""
    key, client_id = info.data.get("key"), info.data.get("client_id")
    if key is not None and client_id == "" and not key.is_service_account and "iss" not in value:
        raise MissingKey("client_id is missing - or the claim iss: who the assertion is from")
    return value


def is_needed(value: Any, info: ValidationInfo) -> Any:
    """A key without which its grant sends nothing."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value is None and asks is not None and info.field_name in asks.keys:
        raise MissingKey(f'{info.field_name} is missing - grant = "{name}" sends one')
    return value
