"""The header fields attached to a request: built once per token, never per request.

Another authentication scheme or field is a change in this module only.
"""

from __future__ import annotations

from typing import Final

from proxy.secret import Secret

_SCHEME: Final = b"Bearer"  # RFC 6750 section 2.1


class Attachment:
    """The header fields of a token. Each token has its own object: compare by identity.

    `fields` is ready to be written: each field is preceded by CR LF. `access_token` is for the command that
    prints it.
    """

    __slots__ = ("access_token", "fields")

    def __init__(self, access_token: Secret) -> None:
        self.access_token = access_token
        self.fields: bytes = b"\r\nAuthorization: %b %b" % (_SCHEME, access_token.reveal().encode("ascii"))

    def __repr__(self) -> str:
        return "Attachment(***)"
