"""What is attached to a request: made once a token, never per request.

Another authentication scheme or another field is a change here and nowhere else.
"""

from __future__ import annotations

from typing import Final

from proxy.secret import Secret

_SCHEME: Final = b"Bearer"  # RFC 6750 section 2.1


class Attachment:
    """The fields that a token puts on a request. Its identity tells one token from the next.

    `fields` is ready to be written: each field is preceded by CR LF. `access_token` is the token itself, for
    the command that prints it.
    """

    __slots__ = ("access_token", "fields")

    def __init__(self, access_token: Secret) -> None:
        self.access_token = access_token
        self.fields: bytes = b"\r\nAuthorization: %b %b" % (_SCHEME, access_token.reveal().encode("ascii"))

    def __repr__(self) -> str:
        return "Attachment(***)"
