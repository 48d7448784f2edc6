"""A described request as a real server parses it: no value changes its shape."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from proxy.config.placeholders import read_template
from proxy.config.steps import Step
from proxy.demo.serve import running
from proxy.oauth.step_request import Request, UnfitValue, Values, request_of
from proxy.secret import Secret

NASTY = "\r\n\0{}\"'%/.\\?#&=+; :@é\u2028\ud800,[]<x1"
WHOLE = [
    "..",
    ".",
    "%2e%2e",
    "%252e",
    "../..",
    "..%2f",
    "..\\",
    "..;a",
    "a/../b",
    "{jwt}",
    "{{",
    "x\r\nX-Evil: 1",
]
WHOLE += [
    "x HTTP/1.1\r\n\r\nGET /evil",
    '","admin":true,"x":"',
    "a&admin=true",
    "?admin=1",
    "#",
    "\0",
    "",
    " ",
    "//",
]
TEXTS = st.one_of(st.sampled_from(WHOLE), st.text(st.sampled_from(NASTY), max_size=12), st.text(max_size=12))
SCALARS = st.one_of(TEXTS, st.integers(-(2**70), 2**70), st.booleans(), st.floats(allow_nan=False), st.none())
FOREIGN = st.one_of(SCALARS, st.lists(TEXTS, max_size=2), st.dictionaries(TEXTS, TEXTS, max_size=2))
FIELDS = {"Authorization": "Bearer {secret.S}", "X-Both": "a{secret.S}b{step1.v}"}
PATH = "/fixed/{secret.S}/with-{step1.v}-inside/{secret.S}{step1.v}/end"
FORM = {"one": "{secret.S}", "two": ["{step1.v}", "x{secret.S}", "{{"], "three": "fixed"}
JSON = {"a": "{secret.S}", "b": {"c": ["{step1.v}", 7, True], "d": "x{step1.v}y{secret.S}"}, "e": "{{jwt}"}


def step(**keys):
    return Step.model_validate(keys)


def values_of(secret, value):
    return Values({"S": Secret(secret)} if secret else {}, "", ({"v": value},))


def made(secret, value, **keys) -> Request | None:
    try:
        return request_of(step(url="http://127.0.0.1:1/", **keys), values_of(secret, value))
    except UnfitValue:
        return None


def text_of(value):
    return value if isinstance(value, str) else json.dumps(value)


class Recorder:
    """A server that keeps what its parser makes of each request."""

    def __init__(self):
        self.seen = []
        self.url = ""

    async def note(self, request):
        self.seen.append((request.method, request.raw_path, list(request.raw_headers), await request.read()))
        return web.json_response({})


@pytest.fixture
async def recorder():
    found = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.note)
    async with running(app) as found.url:
        yield found


WHAT = {
    "path": {"method": "GET"},
    "fields": {"method": "GET", "headers": FIELDS},
    "form": {"form": FORM},
    "json": {"json": JSON},
}


async def sent(recorder, fetcher, credential, request):
    recorder.seen.clear()
    await fetcher.fetch(
        credential, request.method, URL(request.url, encoded=True), request.headers, request.body
    )
    assert len(recorder.seen) == 1
    return recorder.seen[0]


@pytest.mark.parametrize("kind", WHAT)
async def test_the_parsed_request_has_the_described_shape(recorder, fetcher, credential, kind):
    caller = credential(issuer=recorder.url)
    url = recorder.url + (PATH if kind == "path" else "/fixed") + "?a=b"
    described = step(url=url, **WHAT[kind])
    plain = request_of(described, values_of("s", "v"))
    shape = _shape(await sent(recorder, fetcher, caller, plain))
    count = {"sent": 0, "refused": 0}
    for secret, value in _examples():
        try:
            request = request_of(described, values_of(secret, value))
        except UnfitValue:
            count["refused"] += 1
            continue
        count["sent"] += 1
        parsed = await sent(recorder, fetcher, caller, request)
        assert _shape(parsed) == shape
        CHECKS[kind](parsed, secret, value)
    assert min(count.values()) >= 10, count


def _examples():
    """A fixed number of drawn pairs: a server and a loop can't be used inside @given."""
    drawn = [(text, text) for text in WHOLE]

    @settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    @given(TEXTS, FOREIGN)
    def draw(secret, value):
        drawn.append((secret, value))

    draw()
    return drawn


def _shape(parsed):
    """Everything but the values."""
    method, path, headers, body = parsed
    names = [name.lower() for name, _ in headers]
    content = dict(headers).get(b"Content-Type", b"")
    if b"json" in content:
        return method, path, names, _skeleton(json.loads(body))
    if b"form" in content:
        return method, path, names, [name for name, _ in parse_qsl(body.decode(), keep_blank_values=True)]
    assert body == b""
    return method, path.count("/"), path.partition("?")[2], _fixed(path), names


def _fixed(path):
    """The segments that have no placeholder."""
    segments = path.partition("?")[0].split("/")
    if segments[1:] == ["fixed"]:
        return path
    return [segments[at] for at in (1, 5)], segments[3].startswith("with-"), segments[3].endswith("-inside")


def _skeleton(value):
    if isinstance(value, dict):
        return {name: _skeleton(each) for name, each in value.items()}
    return [_skeleton(each) for each in value] if isinstance(value, list) else "value"


def _path(parsed, secret, value):
    text = text_of(value)
    segments = [unquote(each, errors="strict") for each in parsed[1].partition("?")[0].split("/")[1:]]
    assert segments == ["fixed", secret, f"with-{text}-inside", f"{secret}{text}", "end"]
    path = parsed[1].partition("?")[0]
    while unquote(path) != path:
        path = unquote(path)
    assert not {".", ".."} & set(path.replace("\\", "/").split("/"))


def _fields(parsed, secret, value):
    headers = dict(parsed[2])
    assert headers[b"Authorization"] == f"Bearer {secret}".encode()
    assert headers[b"X-Both"] == f"a{secret}b{text_of(value)}".encode()


def _form(parsed, secret, value):
    pairs = parse_qsl(parsed[3].decode(), keep_blank_values=True, strict_parsing=True)
    text = text_of(value)
    assert pairs == [("one", secret), ("two", text), ("two", f"x{secret}"), ("two", "{"), ("three", "fixed")]


def _json(parsed, secret, value):
    found = json.loads(parsed[3])
    both = f"x{text_of(value)}y{secret}"
    assert found == {"a": secret, "b": {"c": [value, 7, True], "d": both}, "e": "{jwt}"}


CHECKS = {"path": _path, "fields": _fields, "form": _form, "json": _json}


@given(TEXTS, FOREIGN)
@example("a\nb", "v")
@example("s", "a\0b")
@example("s", "")
@example("s", None)
@example("s", ["v"])
@example("s", float("inf"))
def test_what_is_sent_has_no_line_break_nul_or_gap(secret, value):
    for kind in WHAT.values():
        request = made(secret, value, **{**kind, "headers": FIELDS})
        if request is None:
            continue
        assert not set("\r\n\0") & set("".join(request.headers.values()) + request.url + (request.body or ""))
        assert isinstance(value, str | int | float)
        json.dumps(value, allow_nan=False)
        assert not set("\r\n\0") & set(secret + text_of(value))


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\r\n"])
@pytest.mark.parametrize("kind", WHAT)
def test_line_breaks_and_nul_are_refused_everywhere(kind, character):
    keys = {**WHAT[kind], "url": "http://127.0.0.1:1" + PATH}
    assert request_of(step(**keys), values_of("s", "v"))
    for secret, value in ((f"a{character}b", "v"), ("s", f"{character}v"), ("s", f"v{character}")):
        if kind == "json" or "{secret" in str(keys):
            with pytest.raises(UnfitValue):
                request_of(step(**keys), values_of(secret, value))


def test_a_number_that_stands_alone_stays_a_number():
    request = request_of(
        step(url="http://127.0.0.1:1/a", json={"id": "{step1.v}", "text": "n{step1.v}"}), values_of("s", 7)
    )
    assert json.loads(request.body) == {"id": 7, "text": "n7"}


def test_the_fields_that_are_sent_by_default_can_be_replaced():
    described = step(
        url="http://127.0.0.1:1/a",
        json={},
        headers={"accept": "text/plain", "CONTENT-TYPE": "application/vnd.api+json", "user-agent": "mine"},
    )
    headers = request_of(described, Values()).headers
    assert headers == {
        "Accept": "text/plain",
        "Content-Type": "application/vnd.api+json",
        "User-Agent": "mine",
    }


@given(st.text(st.sampled_from("{}jwt.secretAstep1 x"), max_size=20))
def test_a_template_is_read_and_written_alike(text):
    try:
        template = read_template(text)
    except ValueError:
        return
    assert read_template(str(template)) == template
