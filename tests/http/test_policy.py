"""Policies: each row of the grammar; and every path against a second implementation (naive_policy.py)."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from proxy.http.malformed import MalformedRequest
from proxy.http.policy import LONGEST, Denial, Policy, read_path
from proxy.http.target import read_target

from . import naive_policy

FITS = [  # pattern, path, whether it fits
    # a segment is compared as a whole
    ("/messages", b"/messages", True),
    ("/messages", b"/message", False),
    ("/messages", b"/messagesx", False),
    ("/messages", b"/messages/1", False),
    ("/messages/1", b"/messages", False),
    ("/", b"", True),
    ("/", b"/", True),
    ("/", b"/a", False),
    # * is one segment
    ("/*", b"/a", True),
    ("/*", b"", False),
    ("/*", b"/", False),
    ("/*", b"/a/b", False),
    ("/messages/*/send", b"/messages/1/send", True),
    ("/messages/*/send", b"/messages//send", False),
    ("/messages/*/send", b"/messages/1/2/send", False),
    # or a part of one
    ("/v1.*", b"/v1.0", True),
    ("/v1.*", b"/v1.", True),
    ("/v1.*", b"/v2.0", False),
    ("/*.json", b"/a.json", True),
    ("/*.json", b"/a.json.exe", False),
    ("/a*b*c", b"/axbxc", True),
    ("/a*b*c", b"/abc", True),
    ("/a*b*c", b"/acb", False),
    ("/a*a", b"/a", False),
    ("/*b*c*", b"/abcb", True),
    ("/a*b", b"/a/b", False),
    # ** is any number of segments, none too
    ("/m/**", b"/m", True),
    ("/m/**", b"/m/", True),
    ("/m/**", b"/m/1/2/3", True),
    ("/m/**", b"/mm", False),
    ("/**", b"", True),
    ("/**", b"/a/b", True),
    ("/**/send", b"/send", True),
    ("/**/send", b"/a/b/send", True),
    ("/**/send", b"/a/b/resend", False),
    ("/a/**/b/**/c", b"/a/b/c", True),
    ("/a/**/b/**/c", b"/a/x/b/y/z/c", True),
    ("/a/**/b/**/c", b"/a/x/c/b", False),
    ("/a/**/b/c", b"/a/b/x/b/c", True),
    ("/**/**", b"/a", True),
    ("/**/b/**/c/**", b"/b/c/b", True),  # the first b counts
    ("/**/b/c", b"/b/c/x/b/c", True),  # and here the last
    # case-sensitive
    ("/Messages", b"/messages", False),
    ("/messages", b"/MESSAGES", False),
    # decoded until it is stable
    ("/messages", b"/%6Dessages", True),
    ("/messages", b"/%6dessages", True),
    ("/messages", b"/%256Dessages", True),
    ("/messages", b"/%25256Dessages", True),
    ("/Messages", b"/%4Dessages", True),
    ("/a b", b"/a%20b", True),
    ("/ünï", b"/%C3%BCn%c3%af", True),
    ("/*", b"/%FF%FE", True),
    ("/100*", b"/100%", True),  # a stray percent sign is data
    # ;… cut
    ("/messages", b"/messages;v=1", True),
    ("/messages/1", b"/messages;v=1/1;w=2;x", True),
    ("/messages", b"/messages%3Bv=1", True),
    ("/messages", b"/messages%253Bv=1", True),
    ("/messages/1", b"/messages/;x/1", True),
    # empty segments and a last / dropped
    ("/messages/1", b"/messages//1", True),
    ("/messages/1", b"///messages/1", True),
    ("/messages", b"/messages///", True),
    # the query is not judged
    ("/messages", b"/messages?x=/../", True),
    ("/", b"?x", True),
    # once with %2F as data and once as /: here both must fit
    ("/a/b", b"/a%2Fb", False),
    ("/*", b"/a%2Fb", False),
    ("/a/**", b"/a/b%2Fc", True),
    ("/a/**", b"/a%2fb", False),
    ("/**/b/**", b"/a%2Fb", False),
    ("/projects/**", b"/projects/group%2Fproject/members", True),
    ("/projects/**", b"/projects/group%252Fproject", True),
]


@pytest.mark.parametrize(("pattern", "path", "fits"), FITS)
def test_what_a_pattern_allows(pattern, path, fits):
    denial = Policy(allow=[pattern]).judge_path(read_path(path))
    assert denial == (None if fits else Denial("path"))


DENIED = [  # pattern, path: one reading is enough
    ("/a/b", b"/a%2Fb"),
    ("/a/b", b"/a%252Fb"),
    ("/a/b", b"/%61%25%32%46b"),
    ("/*", b"/a%2Fb"),
    ("/messages/*/send", b"/messages/1/send/"),
    ("/messages/*/send", b"/messages/1;x/send;y"),
    ("/messages/*/send", b"/messages/a%2Fb/send"),
    ("/messages/*/send", b"/messages%2F1/send"),
    ("/messages/*/send", b"/messages/1%2f%73end"),
    ("/messages/*/send", b"//messages///1/send"),
    ("/admin/**", b"/admin"),
    ("/admin/**", b"/%2561dmin/x"),
]
NOT_DENIED = [  # pattern, path: the contract has two readings, and no more
    ("/*.key", b"/a;.key"),
    ("/messages/*/send", b"/messages%2F1%252F2/send"),
    ("/admin", b"/admin%3Fx"),
    ("/admin", b"//x/admin"),
]


@pytest.mark.parametrize(("pattern", "path"), DENIED)
def test_what_a_pattern_denies(pattern, path):
    readings = read_path(path)
    assert Policy(deny=[pattern]).judge_path(readings) == Denial("path", pattern)
    assert Policy(allow=["/**"], deny=["/x", pattern]).judge_path(readings) == Denial("path", pattern)


@pytest.mark.parametrize(("pattern", "path"), NOT_DENIED)
def test_what_no_reading_is_denied(pattern, path):
    assert Policy(deny=[pattern]).judge_path(read_path(path)) is None


def test_an_empty_allow_permits_nothing_and_an_empty_deny_everything():
    for path in (b"", b"/", b"/a"):
        readings = read_path(path)
        assert Policy(allow=[]).judge_path(readings) == Denial("path")
        assert Policy(deny=[]).judge_path(readings) is None
        assert Policy().judge_path(readings) is None


@pytest.mark.parametrize("part", [b"/a", b"%2541", b";a", b"//"])
def test_a_path_of_more_than_8_kib_is_refused(part):
    """To judge one of 128 KiB could take half a second."""
    policy, path = Policy(allow=["/**"]), (b"/" + part * LONGEST)[:LONGEST]
    assert policy.judge_path(read_path(path + b"?query")) is None
    assert policy.judge_path(read_path(path + b"a")) == Denial("length")


HEADS = [  # methods, allow, method, fields, denial
    (["GET", "HEAD"], None, b"GET", b"", None),
    (["GET", "HEAD"], None, b"POST", b"", "method"),
    (["GET"], None, b"HEAD", b"", "method"),
    ([], None, b"GET", b"", "method"),
    (None, None, b"POST", b"\r\nX-HTTP-Method-Override: DELETE", None),
    (None, ["/**"], b"POST", b"\r\nX-HTTP-Method-Override: DELETE", None),
    (["POST"], None, b"POST", b"\r\nX-HTTP-Method-Override: POST", "field"),
    (["POST"], None, b"POST", b"\r\nA: b\r\nx-http-method: DELETE\r\nB: c", "field"),
    (["POST"], None, b"POST", b"\r\nX-Method-Override:DELETE", "field"),
    (["POST"], None, b"POST", b"\r\nX_HTTP_Method_Override: DELETE", "field"),
    (["POST"], None, b"POST", b"\r\n_X-Http_method-: DELETE", "field"),
    (["POST"], None, b"POST", b"\r\nX-HTTP-Methods: DELETE", None),
    (["POST"], None, b"POST", b"\r\nMy-X-HTTP-Method: DELETE", None),
    (["POST"], None, b"POST", b"\r\nA: X-HTTP-Method: DELETE", None),
    (["POST"], None, b"POST", b"\r\nX-Original-URL: /admin", None),
    (None, ["/**"], b"POST", b"\r\nX-Original-URL: /admin", "field"),
    (None, ["/**"], b"POST", b"\r\nx_rewrite_url: /admin", "field"),
]


@pytest.mark.parametrize(("methods", "allow", "method", "block", "denial"), HEADS)
def test_methods_and_fields_that_override(methods, allow, method, block, denial):
    judged = Policy(methods, allow).judge_head(method, block)
    assert judged == (denial and Denial(denial))


def encoded(characters):
    return "".join(
        character if depth == 0 else "%" + "25" * (depth - 1) + spelled % ord(character)
        for character, depth, spelled in characters
    ).encode("latin-1")


RAW = "ab.A/;/"
CHARACTERS = st.one_of(
    st.tuples(st.sampled_from(RAW), st.just(0), st.just("")),
    st.tuples(
        st.sampled_from(RAW + "%?#\xe9\xff\xc0\xaf\n "), st.integers(1, 3), st.sampled_from(["%02X", "%02x"])
    ),
    st.tuples(st.characters(max_codepoint=255), st.integers(1, 3), st.sampled_from(["%02X", "%02x"])),
)
PATHS = st.lists(CHARACTERS, max_size=12).map(encoded).map(lambda text: b"/" + text)
WHOLE = st.sampled_from(["a", "b", "A", "ab", "*", "**"])
SEGMENT = st.one_of(WHOLE, st.sampled_from(["a*", "*b", "a*b", "*a*", "*.*", "a/b", "*é"]))


def patterns(segment):
    return st.lists(st.lists(segment, max_size=6).map(lambda parts: "/" + "/".join(parts)), max_size=3)


def accepted(path):
    try:
        read_target(path)
    except MalformedRequest:
        return False
    return True


def permitted(allow, deny, path):
    return Policy(None, allow, deny).judge_path(read_path(path)) is None


@settings(deadline=None)
@given(st.none() | patterns(SEGMENT), patterns(SEGMENT), PATHS)
@example(["/a/*"], [], b"/a%252Fb%2Fa")
@example(None, ["/*b"], b"/a;b")
@example(None, ["/a/b"], b"/a%252F;x%25252Fb")
def test_a_path_passes_if_and_only_if_its_readings_say_so(allow, deny, path):
    assume(accepted(path))
    assert permitted(allow, deny, path) == naive_policy.passes(allow, deny, path)
