"""The judgement of heads compared with the one before it (old_judgement.py): the same verdict on each.

That must hold whatever was judged before: proxy/http remembers names, lines and heads. So heads are judged in
sequences, once with an empty memory and once with one that has lasted for the whole process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from proxy.http.body import CHUNKED, LENGTH, NONE, UNTIL_CLOSE, Chunked, Length, UntilClose
from proxy.http.key_fields import KnownKeys, PresentedKey
from proxy.http.malformed import MalformedRequest, MalformedResponse
from proxy.http.message import END, HeadLimits
from proxy.http.plain import SCANNER, Scanner
from proxy.http.request_head import read_request
from proxy.http.response_head import read_response

from . import old_judgement as old

HEADER_SIZE, FIELD_SIZE, FIELDS = 8192, 6000, 32  # small, so that they are reached
KEY, PLAIN, DIGEST = b"tpk_" + b"k" * 43, b"a-plain-key-of-length", b"a-key-known-by-its-digest"
KINDS = {NONE: None, LENGTH: "length", CHUNKED: "chunked", UNTIL_CLOSE: "until close"}
BODIES = {NONE: type(None), LENGTH: Length, CHUNKED: Chunked, UNTIL_CLOSE: UntilClose}
READ = {  # all that anything outside of proxy/http looks at, or its framing depends on
    *(b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"via"),
    *(b"max-forwards", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"destination", b"if"),
}
READ_WITH_KEYS = READ | {
    *(b"token-proxy-key", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"private-token"),
}


def known_keys() -> KnownKeys:
    digests = frozenset(hashlib.sha256(key).digest() for key in (KEY, PLAIN, DIGEST))
    return KnownKeys(digests, [PLAIN], [hashlib.sha256(DIGEST).digest()])


class Pair:
    """The limits of both judgements, and the memory of one."""

    def __init__(self, keys: KnownKeys | None = None, scanner: Scanner | None = SCANNER) -> None:
        self.new = HeadLimits(HEADER_SIZE, FIELD_SIZE, FIELDS, keys, scanner)
        self.old = old.Limits(FIELD_SIZE, FIELDS, keys)

    def compare(self, head: bytes) -> None:
        """Judge it as a request, as a response, and as one to HEAD."""
        assert self.of_request(head) == self.of_old_request(head)
        for method in (b"GET", b"HEAD"):
            assert self.of_response(head, method) == self.of_old_response(head, method)

    def of_request(self, data: bytes) -> object:
        try:
            request = read_request(data, self.new)
        except MalformedRequest as error:
            return error.detail, error.kind
        fields, body = request.fields, request.body
        assert type(body) is BODIES[fields.framing]
        assert body is None or not isinstance(body, Length) or body.remaining == fields.length
        assert not isinstance(body, Chunked) or (body.nominated, body.keys) == (
            fields.nominated,
            self.new.keys,
        )
        assert (request.forwarded_fields, request.authority) == (fields.forwarded_fields, fields.authority)
        return (
            (request.method, request.target, fields.block, fields.forwarded_fields, dict(fields.index)),
            (KINDS[fields.framing], fields.length, fields.nominated if fields.framing == CHUNKED else None),
            (fields.keep_alive, fields.http10, fields.authority, fields.needs_checks, fields.has_links),
            list(_told(fields.keys)),
            request.wants_websocket,
        )

    def of_old_request(self, data: bytes) -> object:
        try:
            request = old.read_request(data, self.old)
        except MalformedRequest as error:
            return error.detail, error.kind
        fields = request.fields
        names = READ if self.old.keys is None else READ_WITH_KEYS
        index = {name: values for name, values in fields.index.items() if name in names}
        upgrades = [value.lower() for value in fields.index.get(b"upgrade", [])]
        return (
            (request.method, request.target, fields.block, fields.forwarded_fields, index),
            _framing(fields.framing),
            (fields.keep_alive, fields.http10, fields.authority, fields.needs_checks, fields.has_links),
            list(_told(fields.keys)),
            request.method == b"GET" and not fields.http10 and upgrades == [b"websocket"],
        )

    def of_response(self, data: bytes, method: bytes) -> object:
        try:
            head = read_response(data, method, self.new)
        except MalformedResponse as error:
            return str(error), error.kind
        body = head.body()
        assert type(body) is (Length if head.framing == NONE else BODIES[head.framing])
        if isinstance(body, Length):
            assert body.remaining == (head.length if head.framing == LENGTH else 0)
        if isinstance(body, Chunked):
            assert (body.nominated, body.keys) == (head.nominated, None)
        return (
            (head.status, head.status_line, head.block, head.forwarded_fields),
            (
                KINDS[head.framing],
                head.length if head.framing == LENGTH else 0,
                head.nominated if head.framing == CHUNKED else None,
            ),
            (head.chunked, head.keep_alive, head.needs_rewrite, head.has_links),
        )

    def of_old_response(self, data: bytes, method: bytes) -> object:
        try:
            head = old.read_response(data, method, self.old)
        except MalformedResponse as error:
            return str(error), error.kind
        return (
            (head.status, head.status_line, head.block, head.forwarded_fields),
            _framing(head.framing),
            (head.chunked, head.keep_alive, head.needs_rewrite, head.has_links),
        )


def _framing(framing: old.Framing | None) -> object:
    if framing is None:
        return None, 0, None
    return framing.kind, framing.length, framing.nominated if framing.kind == "chunked" else None


def _told(keys: Iterable[PresentedKey]) -> Iterator[object]:
    for key in keys:
        yield key.value, key.digest, key.is_explicit, key.needs_preflight


LASTING = Pair(), Pair(known_keys())
FIRST_LINES = b"GET /x?1 HTTP/1.1", b"POST /x HTTP/1.0", b"HTTP/1.1 200 OK", b"HTTP/1.0 204 No Content"


def same_heads(data: bytes) -> None:
    """Heads, each ended by an empty line, but for the last one; and each of them below other first lines."""
    parts = data.split(END)
    heads = [part + END for part in parts]
    heads += [line + b"\r\n" + part + END for part in parts for line in FIRST_LINES]
    for pair in (Pair(), Pair(known_keys()), *LASTING):
        for head in (*heads, *reversed(heads)):
            pair.compare(head)
