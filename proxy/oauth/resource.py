"""Resource indicators (RFC 8707): the APIs that a token is requested for. Pure."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential

RESOURCE: Final = "resource"
Parameters = dict[str, str | list[str]]  # a list repeats the parameter


def parameters(credential: Credential) -> Parameters:
    """Of the authorization request and of every token request (RFC 8707 sections 2.1 and 2.2).

    A refresh without it gets a token for other resources, at some servers, than the login asked for.
    """
    return {RESOURCE: list(credential.resource)} if credential.resource else {}
