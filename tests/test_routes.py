"""The route table: matching and precedence."""

from dataclasses import dataclass

import pytest

from proxy.routes import RouteTable, is_prefix


@dataclass(frozen=True)
class Place:
    host: str
    prefix: bytes


CRM, CRM_API, ANY = Place("", b"/crm"), Place("", b"/crm/api"), Place("", b"")
NAMED, NAMED_CRM = Place("crm.internal", b""), Place("crm.internal", b"/crm")
ALL = RouteTable([ANY, CRM, NAMED, CRM_API, NAMED_CRM])

MATCHES = [  # host, path, route
    ("localhost", b"/crm", CRM),
    ("localhost", b"/crm/", CRM),
    ("localhost", b"/crm?x", CRM),
    ("localhost", b"/crm/api/1", CRM_API),
    ("localhost", b"/crmx", ANY),
    ("localhost", b"/crm%2Fa", ANY),
    ("localhost", b"/CRM/a", ANY),
    ("crm.internal", b"/crm/a", NAMED_CRM),
    ("crm.internal", b"/crm/api", NAMED_CRM),
    ("crm.internal", b"/other", NAMED),
]


@pytest.mark.parametrize(("host", "path", "route"), MATCHES)
def test_host_and_path_come_before_host_before_the_longest_path(host, path, route):
    assert ALL.match(host, path) is route


def test_no_route_matches_other_requests():
    assert RouteTable([CRM, NAMED]).match("localhost", b"/other") is None
    assert RouteTable([CRM]).match("localhost", b"*") is None


def test_many_routes_are_found_by_their_whole_prefix():
    depths = [Place("", b"/a" * depth) for depth in range(1, 40)]
    table = RouteTable([*depths, ANY, Place("", b"/long-name-without-a-slash")])
    for depth, place in enumerate(depths, start=1):
        assert table.match("localhost", b"/a" * depth) is place
        assert table.match("localhost", b"/a" * depth + b"/x?/a/a") is place
    assert table.match("localhost", b"/" + b"a" * 10_000) is ANY
    assert table.match("localhost", b"//a") is ANY


def test_a_prefix_matches_whole_segments():
    assert is_prefix(b"/a", b"/a/b")
    assert not is_prefix(b"/a", b"/ab")
