"""Rewrites the fields that hold links and cookies, with a Mapping. Pure.

A field whose link must not be followed is dropped; in Link (RFC 8288), only that member.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from proxy.http import cookies, links
from proxy.http.mapping import Mapping

_RESPONSE_LINES: Final = re.compile(
    rb"(\r\n(?i:(location|content-location)|(link)|(refresh)|(set-cookie)|set-cookie2):[ \t]*)([^\r\n]*)"
)
_REQUEST_LINES: Final = re.compile(rb"(\r\n(?i:(destination)|if):[ \t]*)([^\r\n]*)")
# A member of Link with its comma: target, parameters. The pattern is unambiguous and does not backtrack.
_MEMBER: Final = re.compile(rb'([ \t]*<)([^<>]*)(>(?:[^",<>]++|"(?:[^"\\]++|\\.)*+")*+)(,|\Z)')
_EMPTY_MEMBER: Final = re.compile(rb"[ \t]*(?:,|\Z)")
_HIDDEN: Final = re.compile(rb",[ \t]*<([^<>]*)")
# HTML's "shared declarative refresh steps": seconds, then perhaps a URL, quoted or not.
_SECONDS: Final = re.compile(rb"[ \t]*[0-9.]+[ \t]*[;,]?[ \t]*")
_REFRESH: Final = re.compile(
    rb"([ \t]*[0-9.]+(?:[ \t]*[;,][ \t]*|[ \t]+))(?:[uU][rR][lL][ \t]*=[ \t]*)?(?:\"([^\"]*)|'([^']*)|(.*))"
)
# Parts of If (RFC 4918 section 10.4): a list of conditions, with state tokens in <…>; a tag, which is a URL.
_CONDITIONS: Final = re.compile(rb'[ \t]*\((?:<[^<>]*>|\[(?:"[^"]*"|[^\]"])*\]|[^()<\[])*\)[ \t]*')
_TAG: Final = re.compile(rb"([ \t]*<)([^<>]*)(>)")


def response_fields(block: bytes, mapping: Mapping) -> tuple[bytes, bool]:
    """The fields of a response for its caller, and whether a link was dropped."""
    scope = mapping.cookies()
    dropped = False

    def line(found: re.Match[bytes]) -> bytes:
        nonlocal dropped
        value = found[6]
        if found[5]:
            cookie = cookies.limit(value, scope)
            return b"" if cookie is None else found[1] + cookie
        if found[2]:
            kept, lost = _whole(value, mapping)
        elif found[3]:
            kept, lost = _members(value, mapping)
        elif found[4]:
            kept, lost = _refresh(value, mapping)
        else:
            return b""  # Set-Cookie2 (RFC 2965) is obsolete, but some jars still read it
        dropped = dropped or lost
        return b"" if kept is None else found[1] + kept

    return _RESPONSE_LINES.sub(line, block), dropped


Rewritten = tuple[bytes | None, bool]  # the value, None to drop the field; whether a link was dropped


def _whole(value: bytes, mapping: Mapping) -> Rewritten:
    link = mapping.to_caller(value)
    return link, link is None


def _members(value: bytes, mapping: Mapping) -> Rewritten:
    """RFC 8288 section 3. A malformed list is dropped whole: lenient parsers could find links in it."""
    kept: list[bytes] = []
    at, lost = 0, False
    while at < len(value):
        found = _MEMBER.match(value, at)
        if found is None:
            empty = _EMPTY_MEMBER.match(value, at)
            if empty is None:
                return None, True
            at = empty.end()
            continue
        at = found.end()
        target = mapping.to_caller(found[2]) if _hides_no_link(found[3], mapping) else None
        if target is None:
            lost = True
        else:
            kept.append(found[1] + target + found[3])
    return b",".join(kept).lstrip(b" \t") if kept else None, lost


def _hides_no_link(parameters: bytes, mapping: Mapping) -> bool:
    """For parsers that ignore quotes: some begin a link at every `, <`, some end a target at the last `>`."""
    if b">" in parameters[1:] and links.may_climb(parameters):
        return False
    return all(mapping.to_caller(hidden) == hidden for hidden in _HIDDEN.findall(parameters))


def _refresh(value: bytes, mapping: Mapping) -> Rewritten:
    if _SECONDS.fullmatch(value):
        return value, False
    found = _REFRESH.match(value)
    if found is None:
        return None, True
    url = next((part for part in (found[2], found[3], found[4]) if part is not None), b"")
    link = mapping.to_caller(url)
    if link is None:
        return None, True
    return (value if link == url else found[1] + b"url=" + link), False


def request_fields(block: bytes, mapping: Mapping) -> bytes:
    """The fields of a request for the upstream. Raises MalformedRequest."""

    def line(found: re.Match[bytes]) -> bytes:
        value = found[3].rstrip(b" \t")
        return found[1] + (mapping.to_upstream(value) if found[2] else _tags(value, mapping.to_upstream))

    return _REQUEST_LINES.sub(line, block)


def _tags(value: bytes, to_upstream: Callable[[bytes], bytes]) -> bytes:
    """If with its tags mapped; a malformed value passes unchanged, for the upstream to refuse."""
    parts: list[bytes] = []
    at = 0
    while at < len(value):
        tag = _TAG.match(value, at)
        found = tag or _CONDITIONS.match(value, at)
        if found is None:
            return value
        parts.append(tag[1] + to_upstream(tag[2]) + tag[3] if tag else found[0])
        at = found.end()
    return b"".join(parts)
