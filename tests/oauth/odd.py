"""Generated odd responses: a valid refresh token among anything else."""

from __future__ import annotations

import gzip
import json
import zlib

from hypothesis import assume
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | st.sampled_from(["\0", "\n", "Bearer", "AT-1"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FOREIGN = st.dictionaries(
    st.text()
    | st.sampled_from(["scope", "expires_in", "expires_at", "token_type", "access_token", "id_token"])
    | st.sampled_from(["error", "ok", "data", "refresh_expires_in", "refresh_in"]),
    VALUES,
    max_size=6,
).map(lambda fields: {name: value for name, value in fields.items() if name != "refresh_token"})
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1"])
PACKINGS = st.sampled_from(
    [bytes, gzip.compress, zlib.compress, lambda data: gzip.compress(zlib.compress(data))]
)
FIELDS = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Date", "Age", "Retry-After"]),
    st.sampled_from(
        ["text/html", "application/json; charset=latin-1", "", "gzip", "identity", "deflate", "br", "7"]
    ),
)
REFRESH_TOKENS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc", "Zs"]), min_size=1
)


def is_also_utf8(text):
    """Whether its bytes in Latin-1 are those of another text in UTF-8: which of them it is can't be told."""
    try:
        return text.encode("latin-1").decode() != text
    except UnicodeError:
        return False


@st.composite
def odd_responses(draw):
    """A refresh token, and a body that contains it among anything else."""
    token = draw(REFRESH_TOKENS)
    pairs = [*draw(FOREIGN).items(), *draw(FOREIGN).items()]  # repeated names, too
    pairs.insert(draw(st.integers(0, len(pairs))), ("refresh_token", token))
    ascii_only = draw(st.booleans())
    members = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in pairs]
    text = "{" + draw(st.sampled_from([", ", ",", ",\r\n"])).join(members) + "}"
    if draw(st.booleans()):
        text = f"[{text}]"
    around = draw(st.sampled_from(["", " ", "\n", "\r\n\t"]))
    encoding = draw(ENCODINGS)
    assume(encoding != "latin-1" or not is_also_utf8(text))
    try:
        body = (around + text + around).encode(encoding)
    except UnicodeEncodeError:
        body = (around + text.encode("ascii", "ignore").decode() + around).encode()
        token = "".join(letter for letter in token if letter.isascii())
    return token, draw(PACKINGS)(
        body
        + draw(
            st.sampled_from([b"", b"\0", b"\n\0\0"])
            if "16" not in encoding and "32" not in encoding
            else st.just(b"")
        )
    )
