"""Which field lines must pass, worked out one by one: a second opinion to headers.py, without patterns."""

from __future__ import annotations

LINKS = {b"location", b"content-location", b"link", b"refresh", b"set-cookie", b"set-cookie2"}
HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"),
    *(b"http2-settings", b"proxy-authenticate", b"proxy-authorization"),
}
OURS = {b"authorization", b"host", b"forwarded"}
FRAMING = {b"content-length", b"trailer", b"via"}  # no trailer may say these
OF_REQUEST = {  # what says something here must not say it in another spelling
    *(b"content-length", b"expect", b"via", b"max-forwards", b"origin", b"sec-fetch-site", b"sec-fetch-mode"),
}
OF_REQUEST |= {b"destination", b"if"}
OF_ANSWER = {b"content-length"} | LINKS
OF_THE_HOST = {b"strict-transport-security", b"clear-site-data"}  # whatever else is on localhost
NOT_A_FIELD = {b"close", b"content-length", b""}  # Connection may say them without taking anything away


def expected_request(came: list[bytes]) -> list[bytes]:
    """What of a caller's lines goes upstream, in this order and byte for byte."""
    hop = nominated(came)
    return [
        line
        for line in came
        if not _ours(line) and _name(line) not in HOP | hop and not _twin(line, OF_REQUEST)
    ]


def expected_answer(came: list[bytes]) -> list[bytes]:
    """What of an upstream's lines goes to the caller, without white space before their colons."""
    came = [
        b":".join((name.rstrip(b" \t"), value)) for name, _, value in (line.partition(b":") for line in came)
    ]
    hop = nominated(came)
    cut = HOP | OF_THE_HOST | hop
    return [line for line in came if _name(line) not in cut and not _twin(line, OF_ANSWER)]


def expected_trailers(head: list[bytes], came: list[bytes]) -> list[bytes]:
    """What passes of the lines behind a body; `head` are those before it."""
    cut = HOP | FRAMING | LINKS | OF_THE_HOST | {b"cookie", b"destination", b"if"} | nominated(head)
    return [line for line in came if not _ours(line) and _name(line) not in cut]


def nominated(lines: list[bytes]) -> set[bytes]:
    """The names that Connection fields name, in the spelling of `_name`."""
    options = [line.partition(b":")[2] for line in lines if line.partition(b":")[0].lower() == b"connection"]
    return {_spelled(option.strip(b" \t")) for option in b",".join(options).split(b",")} - NOT_A_FIELD


def _name(line: bytes) -> bytes:
    return _spelled(line.partition(b":")[0])


def _twin(line: bytes, names: set[bytes]) -> bool:
    return _name(line) in names and line.partition(b":")[0].lower() != _name(line)


def _spelled(name: bytes) -> bytes:
    """A CGI-like upstream sees one variable for all of these."""
    return b"-".join(name.lower().split(b"_")).strip(b"-")


def _ours(line: bytes) -> bool:
    begins = line.lower().replace(b"_", b"-").lstrip(b"-")
    return _name(line) in OURS or begins.startswith(b"x-forwarded-")
