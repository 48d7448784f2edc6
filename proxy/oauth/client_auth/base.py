"""The interface of a method of client authentication."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from proxy.config.client_auth import ClientAuth
from proxy.config.model import Credential


@dataclass(frozen=True, slots=True)
class Choice:
    """How a client authenticates at one server, by its configuration and the server's metadata."""

    method: ClientAuth
    algorithm: str = ""  # of the JWT that we sign
    audience: str = ""  # of the JWT that we sign


@dataclass(frozen=True, slots=True)
class Request:
    """A POST, not authenticated yet."""

    credential: Credential
    choice: Choice
    body: str  # form-encoded
    now: float  # Unix seconds, by the server's clock where it is known


@dataclass(frozen=True, slots=True)
class Authenticated:
    body: str
    authorization: str = ""  # the header field; "": none


def with_parameters(body: str, added: Mapping[str, str]) -> str:
    """The form with these, but for those that it has: a repeated one is refused (RFC 6749 section 3.2)."""
    known = {name for name, _ in parse_qsl(body, keep_blank_values=True)}
    missing = {name: value for name, value in added.items() if name not in known}
    return "&".join(part for part in (body, urlencode(missing)) if part)


Method = Callable[[Request], Awaitable[Authenticated]]
