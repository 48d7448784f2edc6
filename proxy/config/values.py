"""Types of the configuration's values: validate TOML values and convert them. Pure.

Every fault is a ValueError whose message states what was expected. None contains the value itself, which
may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Final

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from proxy.config.address import (
    DEFAULT_PORTS,
    LARGEST_PORT,
    is_loopback,
    read_host,
    read_upstream,
    read_url,
)
from proxy.hosts import is_localhost

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
SHARED_STORES: Final = ("postgresql", "redis", "rediss")  # schemes of stores that several hosts can share
ACCOUNT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)+")  # no ";", which starts a parameter
_PAGE_ORIGIN: Final = re.compile(  # http, https, and browser extensions
    r"([a-z][a-z0-9+.-]*)://(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?"
)
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.1
_KEY_ID: Final = re.compile(r"[\x20-\x7e]{1,256}")  # a string in JSON; ids are UUIDs, thumbprints, dates
_TOKEN_TYPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 A.13: a name, or a URI
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
_NOT_A_STORE: Final = "expected a store: sqlite:NAME, postgresql://…, redis://…, rediss://… or memory:"
COMMA: Final = (
    'a comma inside a scope: expected one scope per item, ["api", "offline_access"]; or, if the server wants '
    'commas, authorize_params = { scope = "…" } in place of scopes'
)
ONE_SCOPE: Final = 'expected one scope per item: ["api", "offline_access"]'
SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3


def text_of(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError('expected a string: "…"')  # noqa: TRY004 (pydantic collects ValueErrors)
    return value


def _unix_time(value: object) -> float:
    """Of a TOML date, its beginning in UTC; of a date with a time, that time."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("expected an offset behind the time, or a date alone: 2027-03-01")
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp()
    raise ValueError("expected a date without quotes: 2027-03-01")


def _safe_url(value: object) -> str:
    """An https URL, or http on loopback (RFC 6749 sections 3.1 and 3.2)."""
    text = text_of(value)
    parts = read_url(text)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("http would expose secrets to the network: expected https (http on loopback only)")
    return text


def read_safe_url(value: object) -> str:
    """An https URL, or http on loopback, as for an endpoint. Raises ValueError."""
    return _safe_url(value)


def _without_query(url: str) -> str:
    if "?" in url:
        raise ValueError("no query allowed in this URL: expected https://host/path")  # RFC 8414 section 2
    return url


def _not_a_document(url: str) -> str:
    if "/.well-known/" in url:
        start, _, rest = url.partition("/.well-known/")
        path = rest.partition("/")[2]  # RFC 8414 section 3.1 puts the issuer's path behind
        issuer = f"{start}/{path}" if path else start
        raise ValueError(f"this is the discovery document: expected the issuer itself, {issuer}")
    return url


def read_mcp_server(value: object) -> str:
    """The URL, if it is safe for tokens and can be a route's upstream. Raises ValueError."""
    url = _without_query(_safe_url(value))
    read_upstream(url)
    return url


def _origin(value: object) -> str:
    """Scheme, host and port, without a trailing slash. https, or http that stays on this machine."""
    text = text_of(value)
    if not (text.startswith("http:") and is_localhost(read_url(text).hostname or "")):
        text = _safe_url(text)  # browsers don't look *.localhost up, but other programs may
    url = _without_query(text).removesuffix("/")
    if url.endswith("/callback"):
        raise ValueError('leave out "/callback", which is added: expected https://host without a path')
    if url.count("/") > 2:
        raise ValueError("the admin listener needs its own origin: expected https://host without a path")
    return url


def read_store_url(text: str) -> str:
    """The URL, if it is one of a store. Raises ValueError."""
    if text.startswith("postgres://"):  # as libpq accepts, and many hosting services write
        text = f"postgresql://{text.removeprefix('postgres://')}"
    scheme, _, rest = text.partition(":")
    if scheme in SHARED_STORES and text.isprintable() and rest.startswith("//"):
        return text
    if not text.isprintable() or (scheme, bool(rest)) not in {("sqlite", True), ("memory", False)}:
        raise ValueError(_NOT_A_STORE + _meant_store(text))
    return text


def _meant_store(text: str) -> str:
    """SQLAlchemy's dialects, and SQLite's name of its store in memory."""
    if text in {"memory", ":memory:", "memory://", "sqlite", "sqlite::memory:"}:
        return ' - did you mean "memory:"?' if "memory" in text else ' - did you mean "sqlite:tokens.db"?'
    kind = text.partition("://")[0].partition("+")[0]
    meant = {"postgres": "postgresql", "psql": "postgresql", "valkey": "redis", "valkeys": "rediss"}
    kind = meant.get(kind, kind)
    return f" - did you mean {kind}://…?" if kind in SHARED_STORES and "://" in text else ""


def _scope(value: object) -> str:
    text = text_of(value)
    if not SCOPE.fullmatch(text):
        raise ValueError(ONE_SCOPE)
    if "," in text:
        raise ValueError(COMMA)
    return text


def _name(value: object) -> str:
    text = text_of(value)
    if NAME.fullmatch(text):
        return text
    meant = re.sub("[^a-z0-9_]+", "-", text.lower()).strip("-_")
    hint = f" - did you mean {meant!r}?" if NAME.fullmatch(meant) and len(text) < 64 else ""
    raise ValueError(f"expected a name of at most 63 characters (a-z, 0-9, _ and -){hint}")


def _account_name(value: object) -> str:
    text = text_of(value)
    if ACCOUNT_NAME.fullmatch(text):
        return text
    field = re.match(r"([A-Za-z][A-Za-z0-9-]{0,62})\s*:", text)
    hint = f'; or, from a header field, {{ header = "{field[1]}" }}' if field else ""
    raise ValueError(f"expected an account name: letters, digits and . _ @ + -{hint}")


def _matching(pattern: re.Pattern[str], complaint: str) -> PlainValidator:
    def check(value: object) -> str:
        text = text_of(value)
        if not pattern.fullmatch(text):
            raise ValueError(complaint)
        return text

    return PlainValidator(check)


def _is_path(text: str) -> bool:
    return bool(_PATH.fullmatch(text)) and not any(segment in {".", ".."} for segment in text.split("/"))


def _path(value: object) -> str:
    text = text_of(value)
    without = text.rstrip("*/") or "/"
    if text.endswith("*") and _PATH.fullmatch(without):
        raise ValueError(f'"*" has no meaning in a path: expected "{without}", which covers all below it')
    if "/:" in text and _is_path(text):
        raise ValueError("a segment that begins with a colon stands for itself here: expected a fixed prefix")
    if not _is_path(text):
        meant = "/" + text.strip("/")
        hint = f' - did you mean "{meant}"?' if text.strip("/") and _is_path(meant) else ""
        raise ValueError(f"expected a path prefix: /name or /name/name, without a slash at the end{hint}")
    return text


def _page_origin(value: object) -> str:
    """As browsers send it (RFC 6454 section 6.1), so that a comparison is enough."""
    text = text_of(value)
    if text == "*":
        raise ValueError(
            '"*" would let every web page use the token: expected the pages\' origins, one by one'
        )
    if text == "null":
        raise ValueError('"null" is the origin of any sandboxed page or file: expected "https://app.example"')
    parts = _PAGE_ORIGIN.fullmatch(text)
    port = int(parts[4] or 0) if parts else 0
    host = read_host(parts[2] or parts[3]) if parts else ""
    if parts is None or not host or (":" in host) != bool(parts[2]) or port > LARGEST_PORT:
        raise ValueError('expected an origin, in lower case and without a path: "https://app.example"')
    if parts[4] is not None and (not port or port == DEFAULT_PORTS.get(parts[1]) or parts[4].startswith("0")):
        raise ValueError("browsers leave a default port out: expected the origin as they send it")
    return text


def _host(value: object) -> str:
    text = text_of(value)
    host = read_host(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    if not host:
        raise ValueError("expected a host name or an IP address, without a port")
    return host


_Text: Final = WithJsonSchema({"type": "string"})

# Unix seconds; the type says the form in TOML
Moment = Annotated[
    float,
    PlainValidator(_unix_time),
    WithJsonSchema({"anyOf": [{"type": "string", "format": each} for each in ("date", "date-time")]}),
]
Endpoint = Annotated[str, PlainValidator(_safe_url), _Text]
Issuer = Annotated[Endpoint, AfterValidator(_without_query), AfterValidator(_not_a_document)]
Origin = Annotated[str, PlainValidator(_origin), _Text]
McpServer = Annotated[str, PlainValidator(read_mcp_server), _Text]
PathPrefix = Annotated[str, PlainValidator(_path), _Text]
PageOrigin = Annotated[str, PlainValidator(_page_origin), _Text]
HostName = Annotated[str, PlainValidator(_host), _Text]
Name = Annotated[str, PlainValidator(_name), _Text]
AccountName = Annotated[str, PlainValidator(_account_name), _Text]
FieldName = Annotated[
    str, _matching(_FIELD_NAME, "expected the name of a header field, like Token-Proxy-Account"), _Text
]
ResourceUri = Annotated[  # RFC 8707 section 2
    str,
    _matching(_ABSOLUTE_URI, "expected an absolute URI without a fragment, like https://api.example.com"),
    _Text,
]
Scope = Annotated[str, PlainValidator(_scope), _Text]
KeyId = Annotated[str, _matching(_KEY_ID, "expected the key's id: a string of ASCII"), _Text]
TokenType = Annotated[str, _matching(_TOKEN_TYPE, "expected a token type: one word, like Bearer"), _Text]
