"""The URL of a described request: placeholders stand in its path only. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from proxy.config.address import is_loopback, read_url
from proxy.config.placeholders import Placeholder, Template, read_template

_PARTS: Final = re.compile(r"([^/?#]*//[^/?#]*|[^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")  # RFC 3986 section 3.3
_QUERY: Final = re.compile(r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?")
_LOCAL: Final = "http would expose secrets to the network: expected https (http on loopback only)"


@dataclass(frozen=True, slots=True)
class StepUrl:
    """`origin` and `query` are fixed; the path is `/` and its segments, joined by `/`."""

    origin: str
    segments: tuple[Template, ...]
    query: str = ""  # with its question mark

    def __str__(self) -> str:
        return f"{self.origin}/{'/'.join(map(str, self.segments))}{self.query}"

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(each for segment in self.segments for each in segment.placeholders)


def read_step_url(text: str) -> StepUrl:
    """Raises ValueError."""
    parts = _PARTS.fullmatch(text)
    assert parts is not None  # it fits any text
    origin, path, query = parts[1], parts[2], parts[3] or ""
    if "{" in origin:
        raise ValueError(
            "a placeholder before the path - scheme, host and port are fixed: expected https://host/path"
        )
    if "{" in query:
        raise ValueError(
            "a placeholder in the query, which servers log: expected it in the path, in headers, form or json"
        )
    template = read_template(path)
    segments = tuple(_segments(template))
    sample = "".join(part if isinstance(part, str) else "x" for part in template.parts).replace("{", "%7B")
    parsed = read_url(f"{origin}{sample}{query}{parts[4] or ''}")
    if parsed.scheme == "http" and not is_loopback(parsed.hostname or ""):
        raise ValueError(_LOCAL)
    if not _PATH.fullmatch(sample) or not _QUERY.fullmatch(query):
        raise ValueError("unencoded characters in the URL: expected https://host/path, with others as %XX")
    if any(is_dot_segment(segment.literal) for segment in segments if not any(segment.placeholders)):
        raise ValueError("dot segments in the path: expected /name/name")
    return StepUrl(origin, segments or (Template(()),), query)


def is_dot_segment(segment: str) -> bool:
    r"""Whether a server may take this encoded segment for `.` or `..`, or for several with one of them.

    Some decode more than once, cut parameters at `;`, or take a backslash or %2F for a separator.
    """
    while (decoded := unquote(segment)) != segment:
        segment = decoded
    return any(part.partition(";")[0].strip() in {".", ".."} for part in re.split(r"[/\\]", segment))


def _segments(path: Template) -> list[Template]:
    """The parts between the slashes, without the empty one before the first."""
    segments: list[list[str | Placeholder]] = [[]]
    for part in path.parts:
        if isinstance(part, Placeholder):
            segments[-1].append(part)
            continue
        first, *others = part.replace("{", "%7B").split("/")
        segments[-1].append(first)
        segments += [[other] for other in others]
    return [Template(tuple(part for part in segment if part != "")) for segment in segments[1:]]
