"""Forms: only what our own pages send is read, and whatever else is sent has an error of ours."""

from urllib.parse import urlencode, urlsplit

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.admin import forms

ODD_TYPES = [
    "application/x-www-form-urlencoded; charset=bogus",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=rot13",
    "application/x-www-form-urlencoded; charset=undefined",
    "application/x-www-form-urlencoded; charset=",
    'application/x-www-form-urlencoded; charset="',
    "application/x-www-form-urlencoded, text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=" + "x" * 100,
    "text/plain",
    "application/json",
    "application/octet-stream",
    "nonsense",
    "",
]
FORM = "application/x-www-form-urlencoded"


class Poster:
    """Sends forms with the cookie and the Origin of a page of ours; only so does anyone read them."""

    def __init__(self, world, page):
        self._world = world
        host = urlsplit(world.admin).netloc
        self._head = (
            f"POST /refresh/person HTTP/1.1\r\nHost: {host}\r\nOrigin: {world.admin}\r\n"
            f"Cookie: token_proxy_browser={page.cookies['token_proxy_browser'].value}\r\n"
        )

    async def send(self, body, *lines):
        fields = "".join(f"{line}\r\n" for line in lines)
        return await self._world.raw(self._head + fields + "\r\n" + body)

    async def form(self, body, *, kind=FORM):
        return await self.send(body, f"Content-Type: {kind}", f"Content-Length: {len(body)}")


@pytest.fixture
async def poster(world):
    return Poster(world, await world.browser.get("/login/person"))


def no_traceback(caplog):
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", ODD_TYPES)
async def test_another_content_type_is_415(poster, caplog, kind):
    assert (await poster.form("csrf=x", kind=kind))[0] == 415
    no_traceback(caplog)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity", "bogus", "GZIP, gzip"])
async def test_a_content_encoding_is_415(poster, caplog, coding):
    status, _ = await poster.send(
        "csrf=x", f"Content-Type: {FORM}", f"Content-Encoding: {coding}", "Content-Length: 6"
    )
    assert status == 415
    no_traceback(caplog)


@pytest.mark.parametrize(
    "lines", [(), (f"Content-Type: {FORM}", "Content-Type: text/plain"), (f"Content-Type: {FORM}",) * 2]
)
async def test_one_content_type_is_expected(poster, caplog, lines):
    status, _ = await poster.send("csrf=x", *lines, "Content-Length: 6")
    assert status in {400, 415}
    no_traceback(caplog)


async def test_a_refusal_does_not_wait_for_the_form(poster):
    assert (await poster.send("", "Content-Type: text/plain", "Content-Length: 100"))[0] == 415
    assert (await poster.send("", f"Content-Type: {FORM}", "Content-Length: 1000000"))[0] == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("csrf=%ff", 400),
        ("csrf=%00", 403),
        ("csrf=\N{SNOWMAN}", 400),
        ("csrf=a&csrf=b", 400),
        ("a&" * 8_000, 400),
        ("csrf=%zz", 403),
        ("csrf", 403),
        ("", 403),
        ("&".join(f"f{number}=" for number in range(100_000)), 413),
    ],
)
async def test_a_form_that_is_none_of_ours(poster, caplog, body, status):
    assert (await poster.form(body))[0] == status
    no_traceback(caplog)


CHUNKED = (f"Content-Type: {FORM}", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        ("6\r\ncsrf=x\r\n0\r\n\r\n", {403}),
        ("6\r\ncsrf=x\r\n0\r\nX-Trailer: CANARY\r\n\r\n", {403, 400}),
        ("6\r\ncsrf=x\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n", {403, 400}),
        ("6;ext=CANARY\r\ncsrf=x\r\n0\r\n\r\n", {403, 400}),
        ("zz\r\nCANARY", {400}),
        ("6\r\ncsrf=xCANARY\r\n0\r\n\r\n", {400}),
        ("fffffffffffffffff\r\n", {400}),
        ("5000\r\n" + "x" * 0x5000 + "\r\n0\r\n\r\n", {413}),
    ],
)
async def test_chunks_and_trailers(poster, caplog, body, statuses):
    status, response = await poster.send(body, *CHUNKED)
    assert status in statuses
    assert "CANARY" not in response
    no_traceback(caplog)


async def test_a_form_as_our_pages_send_it_is_accepted(world):
    form = {"csrf": await world.browser.csrf()}
    for kind in (FORM, f"{FORM}; charset=UTF-8", f"{FORM}; charset=utf-8"):
        body = urlencode(form)
        poster = Poster(world, await world.browser.get("/login/person"))
        assert (await poster.form(body, kind=kind))[0] == 503, "no token to refresh: it was read"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=forms.MAX_FIELDS))
def test_what_a_browser_encodes_is_read_as_it_was(form):
    assert forms.parse(urlencode(form).encode()) == form


@given(st.binary(max_size=500))
@example(b"csrf=%ff")
@example(b"=" * 100)
def test_any_bytes_are_a_form_or_a_bad_request(body):
    try:
        form = forms.parse(body)
    except web.HTTPBadRequest:
        return
    assert all(isinstance(part, str) for field in form.items() for part in field)
