"""A token as requests carry it, in the places of `attach`: built once per token, never per request.

Another place is a class in config/attach.py and a line in this module only.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from proxy.config.attach import Attach, AttachBasic, AttachField, AttachQuery
from proxy.http import query
from proxy.secret import Secret

SCHEME: Final = "Bearer"  # RFC 6750 section 2.1
_DEFAULT: Final = (AttachField(),)


class Attachment:
    """The parts of a request that carry a token. Each token has its own object: compare by identity.

    `fields` is ready to be written: each field is preceded by CR LF. `query` has parameters, which replace
    those called `parameters` (http/query.py). `access_token` is for programs that get it themselves.
    `upstreams` has the members of token responses that may name the upstream.
    """

    __slots__ = ("access_token", "fields", "parameters", "query", "upstreams")

    def __init__(
        self,
        access_token: Secret,
        places: Sequence[Attach] = (),
        scheme: str = SCHEME,
        upstreams: Iterable[tuple[str, str]] = (),
    ) -> None:
        """`scheme`: where the place names none. Raises UnicodeEncodeError for a token that is not ASCII."""
        self.upstreams: Mapping[str, str] = dict(upstreams)
        self.access_token = access_token
        token = access_token.reveal()
        places = places or _DEFAULT
        self.fields: bytes = b"".join(_field(each, token, scheme) for each in places)
        self.query: bytes = b"&".join(
            _parameter(each, token) for each in places if isinstance(each, AttachQuery)
        )
        self.parameters = parameters_of(places)

    def __repr__(self) -> str:
        return "Attachment(***)"

    # -- only asked on routes whose credential has `dpop`: see proofs.py

    def fields_for(self, _method: bytes, _origin: str, _target: bytes) -> bytes:
        """`fields`, and those that differ for each request."""
        return self.fields

    def learn(self, _origin: str, _block: bytes) -> bool:
        """Read the fields of an upstream's response; whether the same request has better ones now."""
        return False


def at_once(attachment: Attachment) -> Awaitable[Attachment]:
    """A result that is known at once. A future, since a coroutine that is not awaited causes a warning."""
    future: asyncio.Future[Attachment] = asyncio.get_running_loop().create_future()
    future.set_result(attachment)
    return future


def parameters_of(places: Sequence[Attach]) -> frozenset[bytes]:
    """The names of the query's parameters that take the token; as `query.spelled`."""
    names = [each.query for each in places if isinstance(each, AttachQuery)]
    return frozenset(query.spelled(quote(name, safe="").encode("ascii")) for name in names)


def _field(place: Attach, token: str, default_scheme: str) -> bytes:
    if isinstance(place, AttachQuery):
        return b""
    if isinstance(place, AttachBasic):  # RFC 7617 section 2.1
        pair = base64.b64encode(f"{place.basic_user}:{token}".encode()).decode("ascii")
        return f"\r\nAuthorization: Basic {pair}".encode("ascii")
    scheme = default_scheme if place.scheme is None else place.scheme
    return f"\r\n{place.header}: {f'{scheme} ' if scheme else ''}{token}".encode("ascii")


def _parameter(place: AttachQuery, token: str) -> bytes:
    return f"{quote(place.query, safe='')}={quote(token, safe='')}".encode("ascii")
