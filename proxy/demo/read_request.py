# mypy: allow-untyped-calls
"""Requests in the form that Authlib requires: read completely, as Authlib is not async."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web
from authlib.oauth2.rfc6749 import OAuth2Payload, OAuth2Request

from proxy.demo.faults import Renewal


class Parameters(OAuth2Payload):
    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            self._lists[name].append(value)
        self._data = {name: values[0] for name, values in self._lists.items()}

    @property
    def data(self) -> dict[str, str]:
        return self._data

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return self._lists


class ReadRequest(OAuth2Request):
    """A request for Authlib. Build `uri` from the issuer, not from the Host field: Authlib refuses one that
    is neither https nor loopback.
    """

    # Set by Authlib:
    payload: Any
    client: Any
    user: Any
    authorization_code: Any
    refresh_token: Any

    def __init__(
        self,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        pairs: Iterable[tuple[str, str]],
        renewal: Renewal | None = None,
    ) -> None:
        """`renewal`: as required by a fault, or None."""
        super().__init__(method, uri, headers=headers)
        self.payload = Parameters(pairs)
        self.renewal = renewal

    @property
    def form(self) -> dict[str, str]:
        data: dict[str, str] = self.payload.data
        return data


async def read_form(request: web.Request) -> list[tuple[str, str]]:
    """The posted parameters, without those that have no value (RFC 6749 section 3.2)."""
    if request.content_type != "application/x-www-form-urlencoded":
        return []
    return parse_qsl((await request.read()).decode("utf-8", "replace"))


def basic_credentials(headers: Mapping[str, str]) -> tuple[str, str]:
    """Client id and secret, form-decoded (RFC 6749 section 2.3.1); two empty strings if there are none.

    Authlib's own function does not decode "+" and fails for bytes that are not UTF-8.
    """
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except ValueError:  # not base64, or not UTF-8
        return "", ""
    return unquote_plus(client_id), unquote_plus(secret)
