"""Described requests: `steps`, `jwt`, `secrets` and `response` of [credentials.NAME]; grant = "request".

Rules about several of these keys are in step_checks.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from proxy.config.base import Table
from proxy.config.placeholders import Template, read_path, read_template
from proxy.config.references import REFERENCE, PublicValue, SecretValue, load_context, read_secret
from proxy.config.signing_keys import SigningKey, SigningKeyValue
from proxy.config.step_url import StepUrl, read_step_url
from proxy.config.values import FieldName, text_of
from proxy.secret import Secret

MOST_STEPS: Final = 8  # each may take limits.authorization_server_total
OURS: Final = "token-proxy sets this field itself - leave it out"
_OWN_FIELDS: Final = frozenset(  # in lower case: framing, the connection, and the encoding that we can read
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
OWN_CLAIMS: Final = ("iat", "exp", "jti")
HMACS: Final = ("HS256", "HS384", "HS512")
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "HS256", "HS384", "HS512",
]  # fmt: skip
NOT_JSON: Final = "JSON has no such value: expected a string, a number, true, false, a list or a table"
LARGEST: Final = 2**53  # integers beyond it differ between JSON parsers (RFC 8259 section 6)


def _fault(place: tuple[str | int, ...], sentence: str) -> ValidationError:
    """As if pydantic had found it at `place` within the value."""
    error = PydanticCustomError("value_error", "{error}", {"error": ValueError(sentence)})
    return ValidationError.from_exception_data("value", [InitErrorDetails(type=error, loc=place, input=None)])


def _template(value: object) -> Template:
    return value if isinstance(value, Template) else read_template(text_of(value))


def _field_value(value: object) -> Template:
    template = _template(value)
    if not template.literal.isascii() or not template.literal.isprintable():
        raise ValueError("expected the value of a header field: visible ASCII and spaces")
    if not template.parts:
        raise ValueError("an empty header field - leave it out")
    return template


def _fields(value: dict[str, Template]) -> dict[str, Template]:
    seen: set[str] = set()
    for name in value:
        if name.lower() in _OWN_FIELDS:
            raise _fault((name,), OURS)
        if name.lower() in seen:
            raise _fault((name,), "the same field twice: expected each only once")
        seen.add(name.lower())
    return value


def _url(value: object) -> StepUrl:
    return value if isinstance(value, StepUrl) else read_step_url(text_of(value))


def json_template(value: object, place: tuple[str | int, ...] = ()) -> Any:
    """JSON whose strings are templates. Raises ValidationError, with the place of the fault."""
    match value:
        case Template() | bool():
            return value
        case str():
            try:
                return read_template(value)
            except ValueError as error:
                raise _fault(place, str(error)) from None
        case int() if abs(value) <= LARGEST:
            return value
        case float() if value - value == 0:  # neither infinite nor NaN
            return value
        case list() | tuple():
            return [json_template(each, (*place, index)) for index, each in enumerate(value)]
        case dict():
            for name in value:
                if "{" in name:
                    raise _fault((*place, name), "a placeholder in a name: expected it in a value")
            return {name: json_template(each, (*place, name)) for name, each in value.items()}
    raise _fault(place, NOT_JSON)


def _form(value: object) -> dict[str, tuple[Template, ...]]:
    """Parameters by name, each with its values."""
    if not isinstance(value, dict):
        raise ValueError('expected a table: { name = "value" }')  # noqa: TRY004 (for pydantic)
    form: dict[str, tuple[Template, ...]] = {}
    for name, each in value.items():
        if "{" in name:
            raise _fault((name,), "a placeholder in a name: expected it in a value")
        many = each if isinstance(each, list | tuple) else [each]
        if not all(isinstance(one, str | Template) for one in many):
            raise _fault((name,), 'expected a string: "…", or a list of strings')
        form[name] = tuple(json_template(one, (name,)) for one in many)
    return form


def _claims(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError('expected a table: { iss = "…" }')  # noqa: TRY004 (for pydantic)
    for name in value:
        if name in OWN_CLAIMS:
            raise _fault((name,), "token-proxy adds this claim itself - leave it out")
    claims: dict[str, Any] = json_template(value)
    return claims


def _dotted(value: object) -> str:
    text = text_of(value)
    read_path(text)
    return text


_SIGNING_KEY: Final[TypeAdapter[SigningKey]] = TypeAdapter(SigningKeyValue)


def _key(value: object, info: ValidationInfo) -> SigningKey | Secret:
    """A secret for HMACs, a private key for the others."""
    algorithm = info.data.get("alg")
    if isinstance(value, SigningKey | Secret):
        return value
    if algorithm is None:  # it has a fault of its own
        return Secret("")
    if algorithm in HMACS:
        return read_secret(value, info)
    key = _SIGNING_KEY.validate_python(value, context=info.context)
    if algorithm not in key.algorithms and load_context(info).secrets:
        raise ValueError(
            f"this key can't sign with {algorithm}: expected alg = " + " or ".join(key.algorithms)
        )
    return key


_ANY: Final = WithJsonSchema({"type": "object"})
_TEXT: Final = WithJsonSchema({"type": "string"})
FieldTemplate = Annotated[Template, PlainValidator(_field_value), _TEXT]
DottedPath = Annotated[str, PlainValidator(_dotted), _TEXT]


def _has_body_with_method(value: Any, info: ValidationInfo) -> Any:
    if value is not None and info.data.get("method") == "GET":
        raise ValueError('a GET has no body - leave it out, or choose method = "POST"')
    return value


def _is_only_body(value: Any, info: ValidationInfo) -> Any:
    if value is not None and info.data.get("json_body") is not None:
        raise ValueError("json is set too: expected only one of the two")
    return _has_body_with_method(value, info)


class Step(Table):
    """One request. Placeholders may stand in values: {jwt}, {secret.NAME}, {step1.PATH}; `{{` is a brace."""

    method: Literal["GET", "POST", "PUT", "PATCH"] = Field("POST", description="The request's method.")
    url: Annotated[StepUrl, PlainValidator(_url), _TEXT] = Field(
        description="The request's URL: https, or http on loopback. Placeholders may stand in its path."
    )
    headers: Annotated[dict[FieldName, FieldTemplate], AfterValidator(_fields)] = Field(
        {}, description="Header fields of the request."
    )
    json_body: Annotated[
        Annotated[Any, PlainValidator(lambda value: None if value is None else json_template(value)), _ANY],
        AfterValidator(_has_body_with_method),
    ] = Field(None, alias="json", description="A JSON body.")
    form: Annotated[
        Annotated[Any, PlainValidator(lambda value: None if value is None else _form(value)), _ANY],
        AfterValidator(_is_only_body),
    ] = Field(None, description="A body of form parameters, instead of json.")


class Jwt(Table):
    """A JWT for {jwt}, signed anew for each login."""

    alg: Algorithm = Field(description="The algorithm of the signature.")
    key: Annotated[SigningKey | Secret, PlainValidator(_key), WithJsonSchema(REFERENCE)] = Field(
        description="The private key, by reference; for HS256 and its like the shared secret."
    )
    key_id: PublicValue | None = Field(None, description="The key's id: the header member `kid`.")
    claims: Annotated[Any, PlainValidator(_claims), _ANY] = Field(
        {},
        description="Its claims; iat (60 s back), exp and jti are added. {secret.NAME} may stand in values.",
    )
    lifetime: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, strict=True)] = Field(
        540, description="Seconds from now to exp."
    )


def _is_only_expiry(value: str | None, info: ValidationInfo) -> str | None:
    if value is not None and info.data.get("expires_at") is not None:
        raise ValueError("expires_at is set too: expected only one of the two")
    return value


class TokenPlace(Table):
    """Where the last step's JSON has the token: dotted paths."""

    token: DottedPath = Field(description='The token, e.g. "data.token".')
    expires_at: DottedPath | None = Field(
        None, description="When it expires: ISO 8601, or Unix time in seconds or milliseconds."
    )
    expires_in: Annotated[DottedPath | None, AfterValidator(_is_only_expiry)] = Field(
        None, description="Its lifetime in seconds."
    )


def _some(value: tuple[Step, ...]) -> tuple[Step, ...]:
    if len(value) > MOST_STEPS:
        raise ValueError(f"too many steps: expected at most {MOST_STEPS}")
    return value


def _secret_text(value: Secret) -> Secret:
    if any(character in value.reveal() for character in "\r\n\0"):
        raise ValueError("a line break or NUL in the secret: expected one line of text")
    return value


def _secret_name(name: str) -> str:
    if not name or not all(each.isascii() and (each.isalnum() or each in "_-") for each in name):
        raise ValueError("expected a name for {secret.NAME}: letters, digits, _ and -")
    return name


Steps = Annotated[tuple[Step, ...], AfterValidator(_some)]
StepSecrets = dict[
    Annotated[str, AfterValidator(_secret_name)], Annotated[SecretValue, AfterValidator(_secret_text)]
]
