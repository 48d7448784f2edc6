"""The response to a pushed authorization request (RFC 9126). Pure."""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import AuthorizationServerError
from proxy.oauth import documents, token_response
from proxy.oauth.documents import UnreadableDocument
from proxy.oauth.fetch import Reply

_REQUEST_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,2048}")  # it goes into a URL


def read(reply: Reply, now: float) -> str:
    """The request_uri. `now`: Unix seconds. Raises AuthorizationServerError."""
    if not 200 <= reply.status < 300:  # errors are those of the token endpoint: RFC 9126 section 2.3
        token_response.parse(reply.status, reply.headers, reply.body, now=now)
    try:
        document = documents.read(reply.headers, reply.body, ("request_uri",))
    except UnreadableDocument as error:
        raise AuthorizationServerError("transient", error.error) from None
    uri = document.members.get("request_uri")
    if not isinstance(uri, str) or not _REQUEST_URI.fullmatch(uri):
        raise AuthorizationServerError("misconfigured", "no_request_uri")
    return uri
