"""`attach` of [credentials.NAME]: where the token goes in a request to the upstream. Pure.

The places are made into bytes in tokens/attachment.py; what routes may not do beside them: attach_checks.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetPydanticSchema,
    Tag,
    ValidationInfo,
    field_validator,
)

from proxy.config.base import MissingKey, Table
from proxy.config.route_fields import AUTHORIZATION, plain, settable
from proxy.config.values import FieldName

EXPECTED: Final = (
    'expected where the token goes: { header = "X-Api-Key", scheme = "" }, { query = "access_token" } or '
    '{ basic_user = "x-access-token" }'
)
_SCHEME: Final = re.compile(r"(?:[\x21-\x7e]+(?: [\x21-\x7e]+)*)?")
_USER: Final = re.compile(r"[^:\x00-\x1f\x7f]*")  # RFC 7617 section 2
_KINDS: Final = ("header", "query", "basic_user")


def _scheme(text: str) -> str:
    if not _SCHEME.fullmatch(text):
        raise ValueError('expected an authentication scheme like "Bearer", or "" for the bare token')
    return text


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError("a user of Basic authentication has no colon: expected a name without it")
    return text


def _parameter(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError('expected the name of a query parameter, like "access_token"')
    return text


class AttachField(Table):
    """In a header field."""

    header: Annotated[FieldName, AfterValidator(settable)] = Field(
        "Authorization", description='The header field, like "X-Api-Key".'
    )
    scheme: Annotated[str, AfterValidator(_scheme)] | None = Field(
        None,
        description='What precedes the token in it, like "Bearer" (default in Authorization); "": nothing.',
        validate_default=True,
    )

    @field_validator("scheme")
    @classmethod
    def _is_decided(cls, value: str | None, info: ValidationInfo) -> str | None:
        header = info.data.get("header", AUTHORIZATION)
        if value is None and plain(header) != AUTHORIZATION:
            raise MissingKey(
                f'scheme is missing - "" puts the bare token into {header}, "Bearer" that before it'
            )
        return value

    @property
    def field(self) -> str:
        return plain(self.header)


class AttachQuery(Table):
    """In a parameter of the query: URLs are logged in many places."""

    query: Annotated[str, AfterValidator(_parameter)] = Field(
        description="The query parameter that takes the token. URLs are logged in many places: warned about."
    )

    @property
    def field(self) -> str:
        return ""


class AttachBasic(Table):
    """As the password of HTTP Basic authentication (RFC 7617)."""

    basic_user: Annotated[str, AfterValidator(_user)] = Field(
        description="The user of Basic authentication; the token is the password."
    )

    @property
    def field(self) -> str:
        return AUTHORIZATION


Attach = AttachField | AttachQuery | AttachBasic


def _known_kind(value: object) -> object:
    return value if isinstance(value, list | tuple) else _known_place(value)


def _known_place(value: object) -> object:
    if isinstance(value, Attach):
        return value
    if not isinstance(value, dict) or len(set(_KINDS) & value.keys()) > 1:
        raise ValueError(EXPECTED)
    return value


def _kind(value: object) -> str:
    if isinstance(value, list | tuple):
        return "several"
    if isinstance(value, AttachQuery) or (isinstance(value, dict) and "query" in value):
        return "a parameter"
    is_basic = isinstance(value, AttachBasic) or (isinstance(value, dict) and "basic_user" in value)
    return "a password" if is_basic else "a field"


def _each_once(value: Attach | tuple[Attach, ...]) -> tuple[Attach, ...]:
    several = value if isinstance(value, tuple) else (value,)
    if not several:
        raise ValueError(EXPECTED)
    places = [each.query if isinstance(each, AttachQuery) else (each.field,) for each in several]
    if len(set(places)) < len(places):
        raise ValueError("two tokens in one place: expected each field and parameter once")
    return several


_OneOf = (
    Annotated[AttachField, Tag("a field")]
    | Annotated[AttachQuery, Tag("a parameter")]
    | Annotated[AttachBasic, Tag("a password")]
)
_Item = Annotated[_OneOf, Discriminator(_kind), BeforeValidator(_known_place)]
_OneOrMore = Annotated[
    Annotated[AttachField, Tag("a field")]
    | Annotated[AttachQuery, Tag("a parameter")]
    | Annotated[AttachBasic, Tag("a password")]
    | Annotated[tuple[_Item, ...], Tag("several")],
    Discriminator(_kind),
    BeforeValidator(_known_kind),
    AfterValidator(_each_once),
]
Attachments = Annotated[tuple[Attach, ...], GetPydanticSchema(lambda _type, handler: handler(_OneOrMore))]
