"""A peer that does less than the others, or something else, is left out of the comparison."""

import claims
import pytest

TOKEN = "the-token"
HOST = "localhost:4711"
HEAD = (
    "POST /seen/items/7?page=2&cursor=a%20b HTTP/1.1\r\nHost: localhost:4711\r\nUser-Agent: httpx\r\n"
    "Accept: application/json\r\ntraceparent: 00-1-2-01\r\nX-Request-Id: 6f2c\r\n"
    "Authorization: Bearer the-token\r\nContent-Length: 4096\r\n"
)


def test_a_proxy_that_does_its_work_is_compared() -> None:
    assert len(claims.BODY) == 4096
    assert claims.judge(HEAD, 4096, HOST, TOKEN) is None


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("POST /seen", "POST /api/seen", "it requests 'POST /api/seen"),
        ("a%20b", "a b", "it requests"),
        ("localhost:4711", "127.0.0.1:80", "it sends Host: 127.0.0.1:80"),
        ("Bearer the-token", "Bearer a-placeholder", "it does not replace Authorization"),
        ("Accept:", "Authorization: Bearer a-placeholder\r\nAccept:", "it sends a field twice"),
        ("Accept:", "Connection: close\r\nAccept:", "it closes its connection to the upstream"),
        ("traceparent: 00-1-2-01\r\n", "", "it drops traceparent"),
        ("X-Request-Id: 6f2c\r\n", "", "it drops x-request-id"),
    ],
)
def test_a_proxy_that_does_not_is_told_apart(before: str, after: str, fault: str) -> None:
    assert before in HEAD
    found = claims.judge(HEAD.replace(before, after), 4096, HOST, TOKEN)
    assert found is not None
    assert found.startswith(fault)


def test_a_body_that_is_cut_is_found() -> None:
    assert claims.judge(HEAD, 4095, HOST, TOKEN) == "it relays 4095 bytes of a body of 4096"
