"""The interface of a method of client authentication."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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


Method = Callable[[Request], Awaitable[Authenticated]]
