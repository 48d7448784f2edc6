"""A described request, with values in place of its placeholders. Pure.

A value never changes the shape of the request: it is put into parsed JSON, percent-encoded into a segment of
the path, form-encoded into a parameter, or put into a header field as it is. What can't be is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from proxy.config.placeholders import Placeholder, Template, find
from proxy.config.step_url import StepUrl, is_dot_segment
from proxy.config.steps import Step
from proxy.secret import Secret

LONGEST: Final = 32 * 1024  # characters of a value; more does not fit into a header field of most servers
_REFUSED: Final = frozenset("\r\n\0")
_OVERRIDES: Final = {name.lower(): name for name in ("Accept", "Content-Type", "User-Agent")}  # our defaults


class UnfitValue(Exception):
    """A placeholder has no value, or one that can't stand in its place."""


@dataclass(frozen=True, slots=True)
class Values:
    """What placeholders stand for. `responses`: the parsed JSON of the steps before."""

    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    jwt: str = field(default="", repr=False)
    responses: tuple[object, ...] = field(default=(), repr=False)

    def of(self, placeholder: Placeholder) -> str | float:
        """Raises UnfitValue."""
        value = self._found(placeholder)
        if isinstance(value, str):
            return _plain(value)
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            _plain(_text(value))
            return value
        raise UnfitValue("there is no such value, or it is a list, a table or no finite number")

    def _found(self, placeholder: Placeholder) -> object:
        match placeholder.kind:
            case "jwt":
                return self.jwt
            case "secret":
                secret = self.secrets.get(placeholder.name)
                return secret.reveal() if secret is not None else None
        if placeholder.step > len(self.responses):
            return None
        return find(self.responses[placeholder.step - 1], placeholder.path)


@dataclass(frozen=True, slots=True)
class Request:
    """`url` is encoded: it must be sent as it is."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: str | None = field(repr=False)


def request_of(step: Step, values: Values) -> Request:
    """Raises UnfitValue."""
    body, content_type = _body(step, values)
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = content_type
    for name, template in step.headers.items():
        headers[_OVERRIDES.get(name.lower(), name)] = _field(template, values)
    return Request(step.method, _url(step.url, values), headers, body)


def filled(value: Any, values: Values) -> Any:
    """JSON with values in place of its templates. Raises UnfitValue."""
    match value:
        case Template():
            return _in_json(value, values)
        case list():
            return [filled(each, values) for each in value]
        case dict():
            return {name: filled(each, values) for name, each in value.items()}
    return value


def _body(step: Step, values: Values) -> tuple[str | None, str]:
    if step.json_body is not None:
        return json.dumps(filled(step.json_body, values)), "application/json"
    if step.form is not None:
        pairs = [(name, _joined(each, values)) for name, many in step.form.items() for each in many]
        return urlencode(pairs), "application/x-www-form-urlencoded"
    return None, ""


def _in_json(template: Template, values: Values) -> str | float:
    """The value itself, a number too, where the placeholder is alone."""
    match template.parts:
        case (Placeholder() as alone,):
            return values.of(alone)
    return _joined(template, values)


def _joined(template: Template, values: Values) -> str:
    return "".join(part if isinstance(part, str) else _text(values.of(part)) for part in template.parts)


def _field(template: Template, values: Values) -> str:
    text = _joined(template, values)
    if not text or not text.isascii() or not text.isprintable() or text != text.strip(" "):
        raise UnfitValue("it can't stand in a header field")  # RFC 9110 section 5.5
    return text


def _url(url: StepUrl, values: Values) -> str:
    segments = (_segment(segment, values) for segment in url.segments)
    return f"{url.origin}/{'/'.join(segments)}{url.query}"


def _segment(segment: Template, values: Values) -> str:
    encoded = "".join(
        part if isinstance(part, str) else quote(_text(values.of(part)), safe="") for part in segment.parts
    )
    if any(segment.placeholders) and is_dot_segment(encoded):
        raise UnfitValue("a server may take it for another path")
    return encoded


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(text: str) -> str:
    if not text or len(text) > LONGEST or not _REFUSED.isdisjoint(text):
        raise UnfitValue("it is empty, too long, or has a line break or NUL")
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can contain
        raise UnfitValue("it is not text") from None
    return text
