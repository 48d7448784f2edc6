"""What is remembered of heads: bounded, without credentials, and given up when something else is judged."""

import gc
import hashlib

import pytest

from proxy.http import lines
from proxy.http.key_fields import KnownKeys, PresentedKey
from proxy.http.lines import MOST_LINES, MOST_LINES_OF_NAME, MOST_NAMES, MOST_REFUSED
from proxy.http.message import LONGEST, SLOTS, HeadLimits
from proxy.http.request_head import read_request
from proxy.http.response_head import MOST_STATUS_LINES, read_response

KEY = b"tpk_" + b"k" * 43


def limits(*, keys=None):
    return HeadLimits(header_size=131072, field_size=32768, fields=200, keys=keys)


def known_keys(*values):
    return KnownKeys(frozenset(hashlib.sha256(value).digest() for value in values), values, ())


def request(*fields, line=b"GET / HTTP/1.1"):
    return b"\r\n".join([line, b"Host: a", *fields, b"", b""])


def response(*fields, line=b"HTTP/1.1 200 OK"):
    return b"\r\n".join([line, b"Content-Length: 0", *fields, b"", b""])


def remembered(root):
    """All bytes that are reachable from it, but through classes and modules."""
    found, todo, seen = [], [root], set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes):
            found.append(thing)
        todo += gc.get_referents(thing)
    return found


def test_the_same_fields_are_judged_once_whatever_the_target():
    known = limits()
    first = read_request(request(b"X: 1", line=b"GET /a HTTP/1.1"), known)
    second = read_request(request(b"X: 1", line=b"POST /b HTTP/1.1"), known)
    assert second.fields is first.fields
    assert (first.method, second.target) == (b"GET", b"/b")


def test_fields_of_the_same_length_are_judged_apart():
    known = limits()
    first = read_request(request(b"X: 1"), known)
    second = read_request(request(b"X: 2"), known)
    assert first.fields.block.replace(b"1", b"2") == second.fields.block


def test_the_version_belongs_to_the_fields():
    known = limits()
    assert read_request(request(), known).fields.keep_alive
    assert not read_request(request(line=b"GET / HTTP/1.0"), known).fields.keep_alive
    assert read_request(request(), known).fields.keep_alive


def test_the_method_belongs_to_a_response():
    known = limits()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    for _ in range(2):
        assert not read_response(head, b"GET", known).body().done
        assert read_response(head, b"HEAD", known).body().done
    assert read_response(head, b"GET", known) is read_response(head, b"GET", known)


def test_each_message_has_a_body_of_its_own():
    known = limits()
    head = request(b"Content-Length: 5")
    first, second = read_request(head, known), read_request(head, known)
    assert first.fields is second.fields
    assert first.body is not second.body
    head = response()
    again = read_response(head, b"GET", known)
    assert again.body() is not read_response(head, b"GET", known).body()


SECRETS = [
    b"Authorization: Bearer s3cret",
    b"Proxy-Authorization: Basic s3cret",
    b"Cookie: sid=s3cret",
    b"Set-Cookie: sid=s3cret",
    b"X-Api-Key: s3cret",
    b"Token-Proxy-Key: s3cret",
    b"private_token: s3cret",
    b"X-Vault-Token: s3cret",
]


@pytest.mark.parametrize("line", SECRETS)
@pytest.mark.parametrize("keys", [None, (b"another-key-of-a-caller",), (b"s3cret",)])
def test_no_credential_is_remembered(line, keys):
    known = limits(keys=keys and known_keys(*keys))
    for _ in range(2):
        read_request(request(line), known)
        read_response(response(line), b"GET", known)
    tables = [(table._lines, table._names) for table in (known.requests, known.responses)]
    heads = [known.last_requests, known.last_responses, known.last_to_head]
    assert not any(b"s3cret" in each for each in remembered([tables, heads, known.statuses]))


@pytest.mark.parametrize("name", [b"Accept", b"User-Agent", b"X-Odd"])
@pytest.mark.parametrize("key", [KEY, b"a-plain-key-of-length"])
def test_a_key_that_has_strayed_into_another_field_is_not_remembered(name, key):
    known = limits(keys=known_keys(key))
    head = read_request(request(name + b": " + key), known)
    assert key not in head.forwarded_fields
    del head
    assert not any(key in each for each in remembered([known.last_requests, list(known.requests._lines)]))


def test_a_key_that_becomes_known_is_cut_from_the_same_head_too():
    """A key that is known by its digest only is looked for in the form `Bearer KEY` once it has been used."""
    key = b"a-key-known-by-its-digest"
    digest = hashlib.sha256(key).digest()
    keys = KnownKeys(frozenset([digest]), (), [digest])
    known = limits(keys=keys)
    head = request(b"X-Odd: Bearer " + key)
    assert key in read_request(head, known).forwarded_fields
    keys.learn(PresentedKey(key, is_explicit=False, needs_preflight=True))
    assert key not in read_request(head, known).forwarded_fields


def test_another_configuration_remembers_nothing():
    head = request(b"X-Odd: " + KEY)
    assert KEY in read_request(head, limits()).forwarded_fields
    assert KEY not in read_request(head, limits(keys=known_keys(KEY))).forwarded_fields


def size(known):
    return len(known._names), len(known._lines)


def test_the_memory_is_bounded_whatever_is_sent():
    known = limits()
    for number in range(MOST_REFUSED + MOST_LINES):
        fields = [b"X-%d: %d" % (number, number), b"Accept: %d" % number, b"y" * (1 + number % 300) + b": 1"]
        fields += [
            spelling + b": %d" % number for spelling in (b"accept", b"ACCEPT", b"User-Agent", b"SERVER")
        ]
        read_request(request(*fields, b"Z: " + b"z" * number), known)
        read_response(response(*fields, line=b"HTTP/1.1 200 %d" % number), b"GET", known)
        for table in (known.requests, known.responses):
            names, lines_ = size(table)
            assert names <= MOST_NAMES
            assert lines_ <= MOST_LINES
    assert len(known.statuses) <= MOST_STATUS_LINES
    assert len(known.last_requests) == len(known.last_responses) == SLOTS
    heads = [each for each in known.last_requests if each is not None]
    assert all(len(each.block) <= LONGEST for each in heads)
    assert sum(map(len, remembered(known))) < 1 << 20


def test_a_name_whose_values_vary_evicts_nothing():
    known = limits().requests
    known.sort(b"\r\nHost: a\r\nUser-Agent: x")
    for number in range(10 * MOST_LINES_OF_NAME):
        known.sort(b"\r\nHost: a\r\nAccept: %d\r\nETag: %d" % (number, number))
    assert size(known) == (4, 2 + MOST_LINES_OF_NAME)


def test_a_memory_that_was_filled_on_purpose_learns_again():
    known = limits().requests
    for number in range(2 * MOST_LINES_OF_NAME):
        known.sort(b"\r\nUser-Agent: %d" % number)
    known.sort(b"\r\nUser-Agent: everyday")
    assert b"User-Agent: everyday" not in known._lines
    for _ in range(MOST_REFUSED):
        known.sort(b"\r\nUser-Agent: everyday")
    assert b"User-Agent: everyday" in known._lines


def test_the_names_of_lines_that_are_remembered_hold_no_credentials():
    judge = limits().requests._rules.judge
    assert [name for name in lines.STABLE if judge(name)[1] & lines.rules.SECRET] == []
