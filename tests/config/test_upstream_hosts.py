"""Upstreams that a token response names: the faults of their keys, and what the list allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.address import Upstream
from proxy.config.upstream_hosts import NotAllowed, read_pattern, read_template, resolve

from .conftest import Complaints, Load

HEAD = '[credentials.x]\nissuer = "https://a.example"\nclient_id = "x"\n'
HEAD += '[[routes]]\npath = "/x"\ncredential = "x"\n'
HOSTS = 'upstream_hosts = ["*.my.salesforce.com"]'
WHOLE = 'expected "{instance_url}/base": a member of the token response, in place of https and the host'
LIST = 'expected "api.example.com", "*.example.com" (one whole label) or "**.example.com" (one or more)'
UPSTREAMS = [  # a value of upstream, with a list of hosts; the fault, in column 12 of line 7
    ("https://{instance_url}.example/x", f"a placeholder stands for the whole host: {WHOLE}"),
    ("https://api.{domain}/x", f"a placeholder stands for the whole host: {WHOLE}"),
    ("https://api.example/{path}", f"a placeholder stands for the whole host: {WHOLE}"),
    ("{a}{b}", f"a placeholder stands for the whole host: {WHOLE}"),
    ("{a", f"a placeholder stands for the whole host: {WHOLE}"),
    ("{a}:8443/x", f"a placeholder stands for the whole host: {WHOLE}"),
    ("{}", f"a placeholder names a member of the token response: {WHOLE}"),
    ("{a b}", f"a placeholder names a member of the token response: {WHOLE}"),
    ("{a..b}", f"a placeholder names a member of the token response: {WHOLE}"),
    ("http://{a}", f"such an upstream is always https: {WHOLE}"),
    ("{a}/../x", "empty, dot or unencoded segments in the path: expected /name/name"),
    ("{a}/x?y", "a query is not allowed in an upstream: expected https://host/base"),
]


@pytest.mark.parametrize(("upstream", "sentence"), UPSTREAMS)
def test_a_fault_in_the_upstream(complaints: Complaints, upstream: str, sentence: str) -> None:
    assert complaints(f'{HEAD}upstream = "{upstream}"\n{HOSTS}') == [f"7:12: {sentence}"]


BAD_HOSTS = ["", "*", "**", "*.", "a*.example.com", "*a.example.com", "a.*.com", "*.*.example.com"]
BAD_HOSTS += ["***.example.com", "https://a.example", "a.example/x", "a.example:0", "a.example:70000"]
BAD_HOSTS += ["a.example:x", "a b", "::1"]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_fault_in_the_list(complaints: Complaints, host: str) -> None:
    (found,) = complaints(f'{HEAD}upstream = "{{a}}"\nupstream_hosts = ["{host}"]')
    assert found == f"8:19: {LIST}"


@pytest.mark.parametrize("host", ["*.com", "**.com", "*.localhost", "*.127.0.0.1", "**.10.0.0.1"])
def test_a_pattern_for_hosts_of_anybody_is_a_fault(complaints: Complaints, host: str) -> None:
    (found,) = complaints(f'{HEAD}upstream = "{{a}}"\nupstream_hosts = ["{host}"]')
    assert found == f"8:19: this fits hosts of anybody - {LIST}"


MISSING = "upstream_hosts is missing - a token response names the host: list the allowed ones"
FIXED = 'this upstream is fixed - leave upstream_hosts out, or write "{instance_url}/base"'
PLAIN = "a host from a token response is always reached by https - leave plaintext out"
NAMED = "a token response names the host, which its certificate must have: leave server_name out"
TABLES = [
    ('upstream = "{a}/x"', [f"4:1: {MISSING}"]),
    ('upstream = "{a}/x"\nupstream_hosts = []', [f"4:1: {MISSING}"]),
    (f'upstream = "https://a.example"\n{HOSTS}', [f"8:18: {FIXED}"]),
    (f'upstream = "{{a}}"\n{HOSTS}\nplaintext = true', [f"7:12: {PLAIN}"]),
    (f'upstream = "{{a}}"\n{HOSTS}\ntls = {{ server_name = "a.example" }}', [f"9:7: {NAMED}"]),
]


@pytest.mark.parametrize(("lines", "expected"), TABLES)
def test_a_fault_in_the_route(complaints: Complaints, lines: str, expected: list[str]) -> None:
    assert complaints(HEAD + lines) == expected


def test_a_route_names_what_its_credential_keeps(load_text: Load) -> None:
    more = '[[routes]]\npath = "/y"\ncredential = "x"\nupstream = "https://{a.host}"\n' + HOSTS
    config = load_text(f'{HEAD}upstream = "{{instance_url}}/services"\n{HOSTS}\n{more}').config
    assert config.credentials["x"].upstream_fields == ("a.host", "instance_url")
    assert [str(route.upstream) for route in config.routes] == ["{instance_url}/services", "{a.host}"]
    assert load_text(f'{HEAD}upstream = "https://a.example"').config.credentials["x"].upstream_fields == ()


FITS = [  # pattern, host, port, whether it fits
    ("api.example.com", "api.example.com", 443, True),
    ("API.example.com", "api.example.com", 443, True),
    ("api.example.com", "api.example.com", 8443, False),
    ("api.example.com:8443", "api.example.com", 8443, True),
    ("api.example.com", "xapi.example.com", 443, False),
    ("api.example.com", "x.api.example.com", 443, False),
    ("*.example.com", "a.example.com", 443, True),
    ("*.example.com", "example.com", 443, False),
    ("*.example.com", "a.b.example.com", 443, False),
    ("*.example.com", ".example.com", 443, False),
    ("*.example.com", "aexample.com", 443, False),
    ("*.example.com", "a.example.com.evil.org", 443, False),
    ("*.example.com", "evil.org", 443, False),
    ("**.example.com", "a.b.example.com", 443, True),
    ("**.example.com", "a.example.com", 443, True),
    ("**.example.com", "example.com", 443, False),
    ("**.example.com", "a..example.com", 443, False),
    ("**.example.com", "a.example.com.example.com", 443, True),
    ("*.example.com", "example.com.example.com", 443, False),
    ("127.0.0.1:8443", "127.0.0.1", 8443, True),
    ("[::1]", "::1", 443, True),
    ("localhost", "localhost", 443, True),
]


@pytest.mark.parametrize(("pattern", "host", "port", "fits"), FITS)
def test_a_pattern(pattern: str, host: str, port: int, fits: bool) -> None:
    assert read_pattern(pattern).fits(host, port) is fits


@pytest.mark.parametrize("pattern", ["a.example", "*.a.example", "**.a.example:8443", "[::1]:8443"])
def test_a_pattern_is_written_as_it_is_read(pattern: str) -> None:
    assert str(read_pattern(pattern)) == pattern


ALLOWED = [read_pattern("*.my.salesforce.com"), read_pattern("www.wrike.com"), read_pattern("127.0.0.1:8443")]
VALUES = [  # template, value, upstream
    ("{u}/services", "https://acme.my.salesforce.com", "https://acme.my.salesforce.com/services"),
    ("{u}/services", "https://acme.my.salesforce.com/", "https://acme.my.salesforce.com/services"),
    ("{u}", "https://ACME.my.salesforce.com:443/a/b", "https://acme.my.salesforce.com/a/b"),
    ("{u}/c", "https://acme.my.salesforce.com/a/b", "https://acme.my.salesforce.com/a/b/c"),
    ("https://{u}/api/v4", "www.wrike.com", "https://www.wrike.com/api/v4"),
    ("https://{u}/api/v4", "https://www.wrike.com", "https://www.wrike.com/api/v4"),
    ("{u}", "127.0.0.1:8443", "https://127.0.0.1:8443"),
]


@pytest.mark.parametrize(("template", "value", "upstream"), VALUES)
def test_a_value_that_is_allowed(template: str, value: str, upstream: str) -> None:
    found = resolve(read_template(template), value, ALLOWED)
    assert f"https://{found.authority}{found.base}" == upstream
    assert str(found).startswith("{u}")  # what a server sent is not shown


REFUSED = [
    "http://acme.my.salesforce.com",
    "ftp://acme.my.salesforce.com",
    "javascript://acme.my.salesforce.com",
    "unix:/run/x.sock",
    "unix:/run/x.sock:/base",
    "https://evil.example",
    "https://evil.example/.my.salesforce.com",
    "https://evil.example?.my.salesforce.com",
    "https://evil.example#.my.salesforce.com",
    "https://evil.example\\.my.salesforce.com",
    "https://acme.my.salesforce.com@evil.example",
    "https://x:y@acme.my.salesforce.com",
    "https://acme.my.salesforce.com:8443",
    "https://acme.my.salesforce.com:0",
    "https://acme.my.salesforce.com.evil.example",
    "https://acme.my.salesforce.com.",
    "https://my.salesforce.com",
    "https://.my.salesforce.com",
    "https://a.b.my.salesforce.com",
    "https://acme.my.salesforce.com/a/../b",
    "https://acme.my.salesforce.com/%2e%2e/b",
    "https://acme.my.salesforce.com/a%2F..%2Fb",
    "https://acme.my.salesforce.com/a?b=c",
    "https://acmé.my.salesforce.com",
    "https://acme.my.salesforce.com\r\nX: y",
    " https://acme.my.salesforce.com",
    "https://127.0.0.1",
    "https://[::1]",
    "https://169.254.169.254",
    "https://2130706433",
    "https:",
    "https://",
    "://",
    "/",
    "",
]


@pytest.mark.parametrize("value", REFUSED)
def test_a_value_that_is_refused(value: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        resolve(read_template("{u}/services"), value, ALLOWED)
    assert value not in str(caught.value) or not value.strip("/")


@given(st.text(st.sampled_from("https:/@.?#[]\\%acme.my.salesforce.com0\r\n é*"), max_size=60))
def test_whatever_a_server_sends_the_host_is_on_the_list(value: str) -> None:
    try:
        found = resolve(read_template("{u}/services"), value, ALLOWED)
    except NotAllowed:
        return
    assert isinstance(found, Upstream)
    assert (found.scheme, found.unix_path) == ("https", "")
    labels = found.host.split(".")
    is_salesforce = labels[1:] == ["my", "salesforce", "com"] and labels[0] and found.port == 443
    assert is_salesforce or (found.host, found.port) in {("www.wrike.com", 443), ("127.0.0.1", 8443)}
    assert found.base.endswith("/services")
