"""Accepted values of the Host field."""

import pytest

from proxy.hosts import REMEMBERED, Hosts

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
