"""Accepted values of the Host field."""

import pytest

from proxy.hosts import REMEMBERED, Hosts, is_localhost

READ = [  # value of the Host field, the host; None: not accepted
    ("localhost", "localhost"),
    ("LOCALHOST:80", "localhost"),
    ("127.0.0.1:8080", "127.0.0.1"),
    ("[::1]", "::1"),
    ("[::1]:8080", "::1"),
    ("Crm.Internal", "crm.internal"),
    ("10.0.0.7:8080", "10.0.0.7"),
    ("evil.example", None),
    ("crm.internal.evil.example", None),
    ("xlocalhost", None),
    ("localhost.", None),
    ("localhost:80:80", None),
    ("localhost@evil.example", None),
    ("local host", None),
    ("127.1", None),
    ("2130706433", None),
    ("0x7f000001", None),
    ("0.0.0.0", None),
    ("::1", None),
    ("[::ffff:127.0.0.1]", None),
    ("10.0.0.8", None),
    ("", None),
    (":80", None),
    ("*", None),
]


@pytest.mark.parametrize(("value", "host"), READ)
def test_only_own_names_and_addresses_are_accepted(value, host):
    hosts = Hosts(["crm.internal"])
    assert hosts.read(value, "10.0.0.7") == host
    assert hosts.read(value, "10.0.0.7") == host  # again, from the cache


def test_a_unix_socket_has_no_local_address():
    assert Hosts([]).read("10.0.0.7", "") is None


def test_the_cache_is_bounded_when_a_caller_varies_the_port():
    hosts = Hosts([])
    for port in range(REMEMBERED + 50):
        assert hosts.read(f"localhost:{port}", "") == "localhost"
    assert len(hosts._known) == REMEMBERED


def test_an_address_of_ours_is_accepted_where_it_is_ours_only():
    hosts = Hosts([])
    for _ in range(2):  # the second time from the cache
        assert hosts.read("10.0.0.7:8080", "10.0.0.7") == "10.0.0.7"
        assert hosts.read("10.0.0.7:8080", "10.0.0.8") is None
        assert hosts.read("10.0.0.7:8080", "") is None
    assert hosts.known("10.0.0.7:8080") is None
    for port in range(REMEMBERED + 50):
        assert hosts.read(f"10.0.0.7:{port}", "10.0.0.7") == "10.0.0.7"
    assert len(hosts._by_address) == REMEMBERED


LEADS_HERE = [
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1",
        "[::1]",
        "crm.internal",
        "Crm.Internal.",
        "10.0.0.7",
    ),
    *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
    *("[::ffff:a00:7]", "10.7"),
]
LEADS_ELSEWHERE = [
    "evil.example",
    "crm.internal.evil.example",
    "127.0.0.2",
    "10.0.0.8",
    "[::2]",
    "",
    "xlocalhost",
    "1",
]


def test_a_url_leads_here_however_its_host_is_written():
    hosts = Hosts(["crm.internal"])
    assert [host for host in LEADS_HERE if not hosts.leads_here(host, "10.0.0.7")] == []
    assert [host for host in LEADS_ELSEWHERE if hosts.leads_here(host, "10.0.0.7")] == []


def test_what_is_localhost():
    assert all(map(is_localhost, ("localhost", "crm.localhost", "127.0.0.1", "127.8.9.1", "::1")))
    assert not any(
        map(is_localhost, ("", "crm.internal", "localhost.example", "10.0.0.7", "::2", "xlocalhost"))
    )
