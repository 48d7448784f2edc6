import base64

import pytest

from proxy.config.address import Address, Upstream, read_address, read_egress, read_upstream

ADDRESSES = [
    ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
    ("127.0.0.1:0", Address("127.0.0.1", 0)),
    ("localhost:8080", Address("localhost", 8080)),
    ("[::1]:8080", Address("::1", 8080)),
    ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ("unix:/run/token-proxy.sock", Address("", 0, "/run/token-proxy.sock")),
    ("unix:/odd:name", Address("", 0, "/odd:name")),
]
NOT_ADDRESSES = [
    "",
    ":8080",
    "8080",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "127.0.0.1:80 ",
    "127.0.0.1:٨٠",
    "::1:8080",
    "[127.0.0.1]:8080",
    "[localhost]:8080",
    "[::1%eth0]:8080",
    "[]:8080",
    "http://127.0.0.1:8080",
    "user@localhost:8080",
    "unix:relative.sock",
    "unix:",
    "unix:/with\0nul",
]
UPSTREAMS = [  # text, upstream, Host field
    ("https://api.example", Upstream("https", "api.example", 443, ""), "api.example"),
    ("https://API.example/", Upstream("https", "api.example", 443, ""), "api.example"),
    ("https://api.example:443/v1/", Upstream("https", "api.example", 443, "/v1"), "api.example"),
    ("https://api.example:8443/v1", Upstream("https", "api.example", 8443, "/v1"), "api.example:8443"),
    ("http://127.0.0.1:8080/a%20b", Upstream("http", "127.0.0.1", 8080, "/a%20b"), "127.0.0.1:8080"),
    ("http://localhost", Upstream("http", "localhost", 80, ""), "localhost"),
    ("https://[2001:db8::1]/x", Upstream("https", "2001:db8::1", 443, "/x"), "[2001:db8::1]"),
    ("https://[::1]:444", Upstream("https", "::1", 444, ""), "[::1]:444"),
    ("https://my_service:8080", Upstream("https", "my_service", 8080, ""), "my_service:8080"),
    ("unix:/run/api.sock", Upstream("http", "localhost", 80, "", "/run/api.sock"), "localhost"),
    ("unix:/run/api.sock:/v1", Upstream("http", "localhost", 80, "/v1", "/run/api.sock"), "localhost"),
    ("unix:/run/api.sock:/", Upstream("http", "localhost", 80, "", "/run/api.sock"), "localhost"),
]
NOT_UPSTREAMS = [
    "",
    "api.example",
    "//api.example",
    "ftp://api.example",
    "https://",
    "https:///path",
    "https://api.example:0",
    "https://api.example:99999",
    "https://api.example:x",
    "https://user@api.example",
    "https://user:password@api.example",
    "https://@api.example",
    "https://api.example?query",
    "https://api.example/?",
    "https://api.example#fragment",
    "https://api.example/#",
    "https://api example",
    "https://api\nexample",
    "https://-.example",
    "https://bücher.example",
    "https://[::1",
    "https://[::1%25eth0]/",
    "https://api.example/../x",
    "https://api.example/./x",
    "https://api.example//x",
    "https://api.example/a\\b",
    "https://api.example/%zz",
    "unix:relative.sock:/base",
    "unix:/run/api.sock:base",
    "unix:/run/api.sock:/base?query",
]
EGRESS = [  # text, address, user
    ("http://egress:3128", "egress:3128", None),
    ("http://egress", "egress:80", None),
    ("http://[::1]:3128/", "[::1]:3128", None),
    ("http://me:password@egress:3128", "egress:3128", b"me:password"),
    ("http://me:@egress:3128", "egress:3128", b"me:"),
    ("http://m%40e:p%3Aw%C3%A4@egress:3128", "egress:3128", b"m@e:p:w\xc3\xa4"),
    ("http://me:pass@word@egress:3128", "egress:3128", b"me:pass@word"),
]
NOT_EGRESS = [
    "",
    "egress:3128",
    "https://egress:3128",
    "socks5://egress:1080",
    "http://",
    "http://:canary@",
    "http://egress:3128/canary",
    "http://egress:3128?canary",
    "http://egress:3128#canary",
    "http://canary@egress:3128",
    "http://me:can/ary@egress:3128",
    "http://me:canary@egress:99999",
    "http://me:can\r\nary@egress:3128",
    "http://me:canäry@egress:3128",
]
LOCAL = ["http://localhost:80", "http://127.9.9.9", "http://[::1]", "unix:/run/api.sock"]
NOT_LOCAL = [
    "http://localhost.example",
    "http://10.0.0.1",
    "http://127.1",
    "http://[::]",
    "http://2130706433",
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_an_address_is_parsed_and_formatted(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert str(read_address(text)) == text


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .+"):
        read_address(text)


@pytest.mark.parametrize(("text", "upstream", "authority"), UPSTREAMS)
def test_an_upstream_is_parsed_with_its_host_field(text: str, upstream: Upstream, authority: str) -> None:
    assert read_upstream(text) == upstream
    assert upstream.authority == authority


@pytest.mark.parametrize("text", NOT_UPSTREAMS)
def test_an_invalid_upstream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .+") as refused:
        read_upstream(text)
    assert "password" not in str(refused.value).replace("user and password", "")


@pytest.mark.parametrize(("text", "address", "user"), EGRESS)
def test_an_egress_proxy_is_parsed(text: str, address: str, user: bytes | None) -> None:
    egress = read_egress(text)
    assert str(egress.address) == address
    shown = egress.authorization.reveal() if egress.authorization else None
    assert shown == (user and f"Basic {base64.b64encode(user).decode()}")
    assert "password" not in repr(egress)


@pytest.mark.parametrize("text", NOT_EGRESS)
def test_an_invalid_egress_proxy_is_refused_without_showing_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .+") as refused:
        read_egress(text)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", LOCAL)
def test_loopback_and_unix_sockets_are_local(text: str) -> None:
    assert read_upstream(text).is_local


@pytest.mark.parametrize("text", NOT_LOCAL)
def test_lookalikes_of_loopback_are_not_local(text: str) -> None:
    assert not read_upstream(text).is_local
