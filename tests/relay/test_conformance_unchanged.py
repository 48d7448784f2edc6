"""A12: nothing is unpacked, remembered, followed or taken from the environment."""

import gzip
import hashlib

import pytest

from .conformance_rows import arrives, request
from .conformance_sides import conforming

BOMB = gzip.compress(bytes(32 * 2**20))  # 32 KiB that decompress to 32 MiB
LENGTH = b"Content-Length: %d" % len(BOMB)
HEADS = {
    "its own coding": [b"Content-Encoding: gzip"],
    "its own coding, twice": [b"Content-Encoding: gzip, gzip"],
    "another coding": [b"Content-Encoding: br"],
    "no coding": [],
}


@pytest.fixture
async def side(tmp_path):
    async with conforming(tmp_path) as made:
        yield made


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("said", HEADS)
async def test_a_decompression_bomb_passes_unchanged_both_ways(side, said):
    lines = [*HEADS[said], LENGTH]
    answer = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]) + BOMB
    side.upstream.answers.append(([answer], "stay"))
    with side.caller() as caller:
        await caller.say(request(b"POST /up/x", *lines, body=BOMB))
        (heard,) = await caller.hear()
    (arrived,) = side.upstream.take()
    assert digest(heard.raw) == digest(answer)
    assert digest(arrived.raw) == digest(side.fill(arrives(b"POST /base/x", *lines, body=BOMB)))


async def test_no_cookie_is_stored(side):
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=of-a; Path=/\r\nContent-Length: 0\r\n\r\n"
    side.upstream.answers.append(([answer], "stay"))
    plain = side.fill(arrives(b"GET /base/x"))
    with side.caller() as one, side.caller() as other:
        for caller in (one, other, one):
            await caller.say(request(b"GET /up/x"))
            await caller.hear()
            assert [message.raw for message in side.upstream.take()] == [plain]
    assert side.upstream.connections == 1


async def test_no_redirect_is_followed(side):
    answer = b"HTTP/1.1 307 Go\r\nLocation: /base/elsewhere\r\nContent-Length: 0\r\n\r\n"
    side.upstream.answers.append(([answer], "stay"))
    with side.caller() as caller:
        await caller.say(request(b"POST /up/x", b"Content-Length: 1", body=b"x"))
        (heard,) = await caller.hear()
    assert heard.raw == answer.replace(b"/base/", b"/up/")
    assert len(side.upstream.take()) == 1


async def test_the_environment_changes_nothing(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\ndefault login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "")
    async with conforming(tmp_path) as side:
        with side.caller() as caller:
            await caller.say(request(b"GET /up/x"))
            await caller.hear()
        (arrived,) = side.upstream.take()
        assert arrived.raw == side.fill(arrives(b"GET /base/x"))
