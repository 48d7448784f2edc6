"""The key `origins` of a route: web pages that may call it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.load import load
from proxy.config.values import _page_origin
from proxy.errors import ConfigError

CONFIG = """
[credentials.c]
client_id = "app"
issuer = "https://login.example"
[[routes]]
path = "/a"
upstream = "https://a.example"
credential = "c"
origins = {origins}
"""


def origins(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(origins=text))
    return load(file, {"HOME": str(tmp_path)}).config.routes[0].origins


GOOD = [
    "https://app.example",
    "https://app.example:8443",
    "http://localhost:3000",
    "http://app.localhost:65535",
    "http://127.0.0.1:5173",
    "http://[::1]:3000",
    "https://xn--bcher-kva.example",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
]


def test_origins_are_kept_as_browsers_send_them(tmp_path):
    assert origins(tmp_path, GOOD) == tuple(GOOD)
    assert origins(tmp_path, []) == ()


BAD = {
    "*": "every web page",
    "null": "any sandboxed page",
    "": "expected an origin",
    "app.example": "expected an origin",
    "https://app.example/": "expected an origin",
    "https://app.example/path": "expected an origin",
    "https://*.app.example": "expected an origin",
    "https://APP.example": "in lower case",
    "HTTPS://app.example": "in lower case",
    "https://user@app.example": "expected an origin",
    "https://app.example?x": "expected an origin",
    "https://app.example#x": "expected an origin",
    "https://b\u00fccher.example": "expected an origin",
    "https://app.example\n": "expected an origin",
    "https://app.example https://b.example": "expected an origin",
    "https://::1": "expected an origin",
    "https://[::1": "expected an origin",
    "https://[app.example]": "expected an origin",
    "https://.": "expected an origin",
    "https://app.example:": "expected an origin",
    "https://app.example:65536": "expected an origin",
    "https://app.example:443": "leave a default port out",
    "http://app.example:80": "leave a default port out",
    "https://app.example:0": "leave a default port out",
    "https://app.example:08443": "leave a default port out",
    "file://": "expected an origin",
}


@pytest.mark.parametrize(("text", "expected"), BAD.items())
def test_a_value_that_no_browser_sends_is_a_fault(tmp_path, text, expected):
    with pytest.raises(ConfigError) as raised:
        origins(tmp_path, f'["https://good.example", {quoted(text)}]')
    (fault,) = raised.value.faults
    assert expected in fault.message
    assert (fault.line, fault.column) == (9, 36)


def quoted(text):
    return '"' + text.replace("\n", "\\n") + '"'


@pytest.mark.parametrize("text", ['"https://app.example"', "[1]", "{}"])
def test_it_is_a_list_of_strings(tmp_path, text):
    with pytest.raises(ConfigError):
        origins(tmp_path, text)


@given(st.text(max_size=40) | st.from_regex(r"\A[a-z]{1,5}://[a-z0-9.:\[\]-]{0,20}\Z"))
def test_what_is_taken_has_no_character_that_could_end_a_field(text):
    try:
        taken = _page_origin(text)
    except ValueError:
        return
    assert taken == text
    assert taken.isascii()
    assert taken.isprintable()
    assert " " not in taken
