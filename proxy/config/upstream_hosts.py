"""Upstreams whose host is in the token response, and the list of hosts that are allowed there. Pure.

As in address.py, a fault is a ValueError whose message is shown to the author of the configuration.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import PlainValidator, WithJsonSchema

from proxy.config.address import LARGEST_PORT, Upstream, read_host, read_upstream
from proxy.config.literals import stands_for_a_variable
from proxy.config.step_url import is_dot_segment
from proxy.config.values import text_of

LONGEST: Final = 1024  # characters of a value that is kept; a URL of a host is much shorter
KNOWN: Final = (
    "instance_url",
    "api_domain",
)  # kept although no route names them yet: Salesforce; Zoho, Pipedrive
EXPECTED: Final = (
    'expected "{instance_url}/base": a member of the token response, in place of https and the host'
)
_TEMPLATE: Final = re.compile(r"(?:(https?)://)?\{([^{}]*)\}(/.*)?", re.DOTALL)
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")  # a dotted path
_PATTERN: Final = re.compile(r"(\*\*?\.)?([^*:]+|\[[^\]]*\])(?::([0-9]{1,5}))?")
PATTERN: Final = (
    'expected "api.example.com", "*.example.com" (one whole label) or "**.example.com" (one or more)'
)


def read_template(text: str) -> Upstream:
    """An upstream with a placeholder for its host. Raises ValueError."""
    parts = _TEMPLATE.fullmatch(text)
    if parts is None:
        raise ValueError(f"a placeholder stands for the whole host: {EXPECTED}")
    if parts[1] == "http":
        raise ValueError("such an upstream is always https: " + EXPECTED)
    if not _FIELD.fullmatch(parts[2]):
        raise ValueError(f"a placeholder names a member of the token response: {EXPECTED}")
    base = read_upstream(f"https://host{parts[3] or ''}").base
    return Upstream("https", "", 443, base, field=parts[2])


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`labels` before the name: "" for none, "*" for one, "**" for one or more."""

    labels: str
    name: str  # in lower case
    port: int = 443

    def fits(self, host: str, port: int) -> bool:
        """Whether the host, in lower case, is allowed."""
        if port != self.port:
            return False
        if not self.labels or is_ip(host):
            return not self.labels and host == self.name
        before, dot, _ = host.rpartition(f".{self.name}")
        is_below = bool(dot) and host.endswith(f".{self.name}")
        labels = before.split(".")
        return is_below and all(labels) and (self.labels == "**" or len(labels) == 1)

    def __str__(self) -> str:
        port = "" if self.port == 443 else f":{self.port}"
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.labels}{'.' if self.labels else ''}{name}{port}"


def read_pattern(text: str) -> HostPattern:
    """Raises ValueError."""
    parts = _PATTERN.fullmatch(text)
    labels, name, port = parts.groups() if parts else (None, "", None)
    is_bracketed = name.startswith("[")
    host = read_host(name[1:-1] if is_bracketed else name)
    number = int(port or 443)
    if not host or (":" in host) != is_bracketed or not 0 < number <= LARGEST_PORT:
        raise ValueError(PATTERN)
    if labels and (is_ip(host) or "." not in host):
        raise ValueError(f"this fits hosts of anybody - {PATTERN}")
    return HostPattern((labels or "").removesuffix("."), host, number)


class NotAllowed(Exception):
    """A value in a token response is no upstream of the route. The text says why, and holds none of it."""


def resolve(template: Upstream, value: str, allowed: Iterable[HostPattern]) -> Upstream:
    """The upstream that `value` leads to: an https URL, or a host and port. Raises NotAllowed."""
    text = value if "://" in value else f"https://{value}"
    try:
        found = read_upstream(text)
    except ValueError:
        raise NotAllowed("is no https URL and no host") from None
    if found.scheme != "https":
        raise NotAllowed("is not https")
    if any(is_dot_segment(segment) for segment in found.base.split("/")):
        raise NotAllowed("is no https URL and no host")
    if not any(pattern.fits(found.host, found.port) for pattern in allowed):
        raise NotAllowed("leads to a host that is not in upstream_hosts")
    return replace(found, base=found.base + template.base, field=template.field)


def fields_by_credential(routes: Iterable[tuple[str, Upstream]]) -> dict[str, tuple[str, ...]]:
    """The members of token responses that routes name, by credential. `routes`: credential and upstream."""
    found: dict[str, set[str]] = {}
    for credential, upstream in routes:
        if upstream.field:
            found.setdefault(credential, set()).add(upstream.field)
    return {name: tuple(sorted(fields)) for name, fields in found.items()}


def is_kept(value: object) -> bool:
    """Whether a member of a token response is kept: it may be what a route needs."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isascii() and value.isprintable()


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _upstream(value: object) -> Upstream:
    if isinstance(value, Upstream):
        return value
    text = text_of(value)
    is_template = "{" in text and not stands_for_a_variable(text)
    return read_template(text) if is_template else read_upstream(text)


def _pattern(value: object) -> HostPattern:
    return value if isinstance(value, HostPattern) else read_pattern(text_of(value))


UpstreamValue = Annotated[Upstream, PlainValidator(_upstream), WithJsonSchema({"type": "string"})]
AllowedHost = Annotated[HostPattern, PlainValidator(_pattern), WithJsonSchema({"type": "string"})]
