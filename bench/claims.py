"""Whether a peer does the work that it is measured for: neither less of it nor something else."""

from __future__ import annotations

import json
import socket
from collections import Counter
from urllib.parse import urlsplit

from start import Started

PATIENCE = 5.0  # seconds for a response
BODY = b'{"note":"' + b"x" * 4085 + b'"}'
REQUEST = (
    "POST {path}/items/7?page=2&cursor=a%20b HTTP/1.1\r\nHost: {host}\r\nUser-Agent: python-httpx/0.28.1\r\n"
    "Accept: application/json\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    "X-Request-Id: 6f2c\r\nAuthorization: Bearer a-placeholder\r\nContent-Length: {length}\r\n"
    "Connection: {connection}\r\n\r\n"
)
RELAYED = ("user-agent", "accept", "traceparent", "x-request-id")


def unmet(run: Started, token: str, *, pools: bool) -> str | None:
    """The first thing that the proxy does not do as the others; None if there is none.

    `run` leads to the API that pushes (push.py), which tells what it received. `pools`: its connections to
    the upstream outlive those of the callers.
    """
    for connection in ("keep-alive", "close") if pools else ("keep-alive",):
        try:
            head, body = _ask(run, connection)
            if not head.startswith("HTTP/1.1 200"):
                return f"a POST got {head[:40]!r}"
            seen = json.loads(body)
            fault = judge(seen["head"], seen["body"], f"localhost:{run.upstream_port}", token)
        except (OSError, ValueError) as error:
            return f"a POST with Connection: {connection} got no complete response: {error!r}"
        if fault or "\netag:" not in head.lower():
            return fault or "it drops ETag"
    return None


def judge(head: str, body: int, host: str, token: str) -> str | None:
    """Compare a request as the API received it with REQUEST."""
    line, *fields = head.strip().split("\r\n")
    pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    names, sent = Counter(name for name, _ in pairs), dict(pairs)
    faults = {
        f"it requests {line!r}": line != "POST /seen/items/7?page=2&cursor=a%20b HTTP/1.1",
        "it sends a field twice": max(names.values()) > 1,
        f"it sends Host: {sent.get('host')}": sent.get("host") != host,
        "it does not replace Authorization": sent.get("authorization") != f"Bearer {token}",
        "it closes its connection to the upstream": sent.get("connection", "").lower() == "close",
        f"it relays {body} bytes of a body of {len(BODY)}": body != len(BODY),
    }
    faults |= {f"it drops {name}": name not in sent for name in RELAYED}
    return next((fault for fault, found in faults.items() if found), None)


def _ask(run: Started, connection: str) -> tuple[str, bytes]:
    """Head and body of the response; raises OSError if there is none, or if the proxy does not close."""
    base = urlsplit(run.base + "seen")
    head = REQUEST.format(path=base.path, host=base.netloc, length=len(BODY), connection=connection)
    with socket.create_connection(("127.0.0.1", run.port), PATIENCE) as caller:
        caller.sendall(head.encode() + BODY)
        got = b""
        while piece := caller.recv(65536):
            got += piece
            text, end, body = got.partition(b"\r\n\r\n")
            _, counted, rest = text.lower().partition(b"\r\ncontent-length:")
            if connection == "close":
                continue
            if end and counted and len(body) >= int(rest.split(b"\r\n")[0]):
                return text.decode("latin-1"), body
    text, _, body = got.partition(b"\r\n\r\n")
    return text.decode("latin-1"), body
