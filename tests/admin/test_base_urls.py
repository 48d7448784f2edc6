"""The base URL of a route, by its place and the open listeners."""

import pytest
import trustme

from proxy.admin.base_urls import Listening, base_url, name_for, names_in
from proxy.config.address import read_address
from proxy.config.model import ListenerTLS, Route

ACCEPTED = {"localhost", "127.0.0.1", "::1", "proxy.internal"}


def route(**more):
    return Route.model_validate({"name": "crm", "upstream": "https://a.example", "credential": "crm", **more})


def listening(text, tls=None, own=None):
    return Listening(read_address(text), tls, own)


@pytest.mark.parametrize(
    ("place", "listeners", "url"),
    [
        ({"path": "/crm"}, ["127.0.0.1:8080"], "http://127.0.0.1:8080/crm"),
        ({"path": "/"}, ["127.0.0.1:8080"], "http://127.0.0.1:8080"),
        ({"path": "/a/b"}, ["[::1]:8080"], "http://[::1]:8080/a/b"),
        ({"path": "/crm"}, ["localhost:8080"], "http://localhost:8080/crm"),
        ({"path": "/crm"}, ["0.0.0.0:8080"], "http://127.0.0.1:8080/crm"),
        ({"path": "/crm"}, ["[::]:8080"], "http://[::1]:8080/crm"),
        ({"path": "/crm"}, ["10.0.0.1:1", "127.0.0.1:2"], "http://127.0.0.1:2/crm"),
        ({"path": "/crm"}, ["10.0.0.1:1", "0.0.0.0:2"], "http://127.0.0.1:2/crm"),
        ({"path": "/crm"}, ["10.0.0.1:1", "10.0.0.2:2"], "http://10.0.0.1:1/crm"),
        ({"path": "/crm"}, ["unix:/run/a.sock", "127.0.0.1:2"], "http://127.0.0.1:2/crm"),
        ({"path": "/crm"}, ["unix:/run/a.sock"], None),
        ({"path": "/crm"}, [], None),
        ({"host": "crm.localhost"}, ["127.0.0.1:8080"], "http://crm.localhost:8080"),
        ({"host": "crm.internal", "path": "/x"}, ["127.0.0.1:8080"], "http://crm.internal:8080/x"),
    ],
)
def test_the_base_url_of_a_place(place, listeners, url):
    assert base_url(route(**place), map(listening, listeners), ACCEPTED) == url


def test_a_listener_of_its_own():
    listeners = [listening("127.0.0.1:8080"), listening("127.0.0.1:9001", own="crm")]
    listeners.append(listening("127.0.0.1:9002", own="other"))
    assert base_url(route(listen="127.0.0.1:0"), listeners, ACCEPTED) == "http://127.0.0.1:9001"
    assert base_url(route(path="/crm"), listeners, ACCEPTED) == "http://127.0.0.1:8080/crm"
    assert base_url(route(listen="127.0.0.1:0"), listeners[:1], ACCEPTED) is None


@pytest.fixture
def certified(tmp_path):
    def certified(*names):
        made = trustme.CA().issue_cert(*names)
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(key)
        return ListenerTLS(cert=cert, key=key)

    return certified


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["proxy.internal", "127.0.0.1"], "127.0.0.1"),
        (["localhost"], "localhost"),
        (["elsewhere.example", "proxy.internal"], "proxy.internal"),
        (["elsewhere.example"], "127.0.0.1"),
        (["*.internal"], "127.0.0.1"),
    ],
)
def test_with_tls_the_host_is_a_name_of_the_certificate(certified, names, host):
    listeners = [listening("127.0.0.1:8443", certified(*names))]
    assert base_url(route(path="/crm"), listeners, ACCEPTED) == f"https://{host}:8443/crm"


def test_with_tls_a_route_of_a_host_keeps_it(certified):
    listeners = [listening("127.0.0.1:8443", certified("127.0.0.1"))]
    assert base_url(route(host="crm.internal"), listeners, ACCEPTED) == "https://crm.internal:8443"


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_can_not_be_read_has_no_names(tmp_path, content):
    (tmp_path / "cert.pem").write_bytes(content)
    assert names_in(tmp_path / "cert.pem") == []
    assert names_in(tmp_path / "none.pem") == []
    assert name_for("127.0.0.1", [], ACCEPTED) == "127.0.0.1"
