"""The judgement by line against the one by regular expression, over sequences of heads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.same_heads import DIGEST, KEY, PLAIN, Pair, known_keys

NAMES = st.sampled_from(
    b"Host Connection Content-Length Transfer-Encoding Upgrade Expect Via Max-Forwards Origin Sec-Fetch-Site "
    b"Destination If Authorization X-Api-Key Private-Token Token-Proxy-Key Cookie TE Keep-Alive Forwarded "
    b"X-Forwarded-For X-Forwarded- Accept User-Agent Accept-Encoding Content-Type traceparent X-Request-Id "
    b"ETag Date Server Vary Location Link Set-Cookie Set-Cookie2 Refresh Strict-Transport-Security "
    b"Access-Control-Allow-Origin Clear-Site-Data Proxy-Authorization HTTP2-Settings X Y - _".split()
)
VALUES = st.sampled_from(
    [
        *(b"a", b"a:80", b"a b", b"", b"5", b"05", b"5, 5", b"0", b"chunked", b"Chunked", b"gzip, chunked"),
        *(b"close", b"Close, foo", b"keep-alive", b"x, y", b"te, content-length", b"x_, -y", b"Cookie"),
        *(b"websocket", b"h2c", b"100-continue", b"https://a.example/x", b"</x>; rel=next", b"*/*"),
        *(b"a=1; token_proxy_session=2", b"token_proxy_browser=2", b"sid=1; Path=/"),
        *(
            KEY,
            PLAIN,
            DIGEST,
            b"Bearer " + KEY,
            b"bearer  " + PLAIN,
            b"Basic dTphLXBsYWluLWtleS1vZi1sZW5ndGg=",
        ),
        *(b"v" * 250, b"v" * 5990, b"\xff", b"a\tb"),
    ]
)
SPELLINGS = [
    lambda name: name,
    bytes.lower,
    bytes.upper,
    lambda name: name.replace(b"-", b"_"),
    lambda name: b"-" + name,
    lambda name: name + b"_",
    lambda name: b"_" + name.lower(),
]


@st.composite
def lines(draw):
    name = draw(st.sampled_from(SPELLINGS))(draw(NAMES))
    before, after = draw(st.sampled_from([(b"", b" "), (b"", b""), (b"", b"\t "), (b" ", b" ")]))
    return name + before + b":" + after + draw(VALUES) + draw(st.sampled_from([b"", b" ", b"\t"]))


FIRST = st.sampled_from(
    [
        *(
            b"GET / HTTP/1.1",
            b"POST /x HTTP/1.1",
            b"OPTIONS * HTTP/1.0",
            b"FOO / HTTP/1.1",
            b"GET / HTTP/2.0",
        ),
        *(b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 204 No Content", b"HTTP/1.1 103 Early Hints"),
        *(b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 099 X", b"SSH-2.0"),
    ]
)


def head(first, *fields):
    return b"\r\n".join([first, *fields, b"", b""])


@st.composite
def heads(draw):
    fields = draw(st.lists(lines(), max_size=8))
    return head(draw(FIRST), *([b"Host: a"] if draw(st.booleans()) else []), *fields)


@st.composite
def sequences(draw):
    """Heads of which some come again, as they were or with a byte changed: of the same length, then."""
    sequence = []
    for _ in range(draw(st.integers(1, 6))):
        again = draw(st.sampled_from(["new", "same", "changed"])) if sequence else "new"
        one = draw(heads()) if again == "new" else draw(st.sampled_from(sequence))
        if again == "changed":
            at = draw(st.integers(0, len(one) - 1))
            one = (
                one[:at] + draw(st.sampled_from([b"a", b"A", b"-", b"_", b" ", b"1", b"\n"])) + one[at + 1 :]
            )
        sequence.append(one)
    return sequence


@settings(deadline=None)
@given(sequences(), st.booleans())
def test_no_head_is_judged_otherwise_than_by_the_regular_expression(sequence, with_keys):
    pair = Pair(known_keys() if with_keys else None)
    for one in sequence:
        pair.compare(one)
        pair.compare(one)


LASTING = {with_keys: Pair(known_keys() if with_keys else None) for with_keys in (False, True)}


@settings(deadline=None)
@given(sequences(), st.booleans())
def test_what_was_judged_before_changes_no_verdict(sequence, with_keys):
    """With a memory that lasts over all examples."""
    for one in sequence:
        LASTING[with_keys].compare(one)


def others(pair, many):
    """Judge that many names, and as many lines of one name that is remembered by line."""
    for number in range(0, many, 30):
        names = [b"X-%d: 1" % each for each in range(number, number + 30)]
        values = [b"Accept: %d" % each for each in range(number, number + 30)]
        for fields in (names, values):
            pair.compare(head(b"GET / HTTP/1.1", b"Host: h%d" % number, *fields))
            pair.compare(head(b"HTTP/1.1 200 R%d" % number, *fields))


@settings(deadline=None, max_examples=10)
@given(sequences())
def test_a_thousand_other_heads_change_no_verdict(sequence):
    """More names, lines and status lines than are remembered, and more lines than are refused."""
    pair = Pair()
    for _ in range(2):
        for one in sequence:
            pair.compare(one)
        others(pair, 4500)


@pytest.mark.parametrize("count", [31, 32, 33, 400])
def test_the_number_of_fields_is_limited_alike(count):
    pair = Pair()
    for first in (b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"):
        for line in (b"A:", b"Accept: x", b"Connection: a"):
            pair.compare(head(first, *[line] * count))
