"""The field lines that must pass, decided one by one: a second headers.py, without regular expressions."""

from __future__ import annotations

LINKS = {b"location", b"content-location", b"link", b"refresh", b"set-cookie", b"set-cookie2"}
HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"),
    *(b"http2-settings", b"proxy-authenticate", b"proxy-authorization"),
}
OURS = {b"authorization", b"host", b"forwarded"}
FRAMING = {b"content-length", b"trailer", b"via"}  # not allowed in trailers
OF_REQUEST = {  # fields that the proxy acts on must not pass in another spelling
    *(b"content-length", b"expect", b"via", b"max-forwards", b"origin", b"sec-fetch-site", b"sec-fetch-mode"),
}
OF_REQUEST |= {b"destination", b"if"}
OF_ANSWER = {b"content-length"} | LINKS
OF_THE_HOST = {  # they would affect all of localhost, or let pages read
    *(b"strict-transport-security", b"clear-site-data"),
    *(b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-allow-headers"),
    *(b"access-control-allow-methods", b"access-control-allow-private-network"),
    *(b"access-control-expose-headers", b"access-control-max-age"),
}
NOT_A_FIELD = {b"close", b"content-length", b""}  # Connection options that remove no field


def expected_request(came: list[bytes]) -> list[bytes]:
    """The caller's lines that go upstream, in this order and byte for byte."""
    hop = nominated(came)
    return [
        line
        for line in came
        if not _ours(line) and _name(line) not in HOP | hop and not _twin(line, OF_REQUEST)
    ]


def expected_answer(came: list[bytes]) -> list[bytes]:
    """The upstream's lines that go to the caller, without white space before their colons."""
    came = [
        b":".join((name.rstrip(b" \t"), value)) for name, _, value in (line.partition(b":") for line in came)
    ]
    hop = nominated(came)
    cut = HOP | OF_THE_HOST | hop
    return [line for line in came if _name(line) not in cut and not _twin(line, OF_ANSWER)]


def expected_trailers(head: list[bytes], came: list[bytes]) -> list[bytes]:
    """The trailer lines that pass; `head`: the lines of the message's head."""
    cut = HOP | FRAMING | LINKS | OF_THE_HOST | {b"cookie", b"destination", b"if"} | nominated(head)
    return [line for line in came if not _ours(line) and _name(line) not in cut]


def nominated(lines: list[bytes]) -> set[bytes]:
    """The names listed in Connection fields, in the spelling of `_name`."""
    options = [line.partition(b":")[2] for line in lines if line.partition(b":")[0].lower() == b"connection"]
    return {_spelled(option.strip(b" \t")) for option in b",".join(options).split(b",")} - NOT_A_FIELD


def _name(line: bytes) -> bytes:
    return _spelled(line.partition(b":")[0])


def _twin(line: bytes, names: set[bytes]) -> bool:
    return _name(line) in names and line.partition(b":")[0].lower() != _name(line)


def _spelled(name: bytes) -> bytes:
    """One spelling for all names that are the same variable to a CGI-like upstream."""
    return b"-".join(name.lower().split(b"_")).strip(b"-")


def _ours(line: bytes) -> bool:
    begins = line.lower().replace(b"_", b"-").lstrip(b"-")
    return _name(line) in OURS or begins.startswith(b"x-forwarded-")
