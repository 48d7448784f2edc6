r"""Heads judged by line, with a memory of lines and names. Pure.

Most lines of a head are those of the heads before: `Accept-Encoding: gzip`. One look-up of the whole line
tells what it is. A line that is not known is judged by its name, as `Date`, `ETag` and trace ids always are:
one look-up too. Only a name that was never sent in this spelling is judged by the rules (rules.py). Where the
scanner was compiled, lines whose names mean nothing to this proxy are not even looked up (plain.py).

What is remembered follows from the line's bytes alone, so the memory changes how long a verdict takes, never
the verdict. It is small and bounded, whatever anyone sends:

- Only lines of STABLE names are remembered, so no credential ever is, and no id that never comes again.
- A name keeps its first lines, MOST_LINES_OF_NAME of them: if its values vary after all, they evict nothing.
- A full table is emptied, not closed: filling it on purpose has no lasting effect, as the lines of everyday
  traffic are back with the next requests.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.http import fields, rules
from proxy.http.fields import Index
from proxy.http.key_fields import KnownKeys
from proxy.http.options import NO_OPTIONS, Options, read_options
from proxy.http.plain import PassingNames, Scanner
from proxy.http.rules import LONGEST_NAME, Rules

MOST_NAMES: Final = 512  # spellings of names; some twenty upstreams and apps have 100 to 300
MOST_LINES: Final = 1024  # with LONGEST_LINE at most 256 KiB of lines
MOST_LINES_OF_NAME: Final = (
    16  # in one spelling: apps of an organization send few User-Agents, Accepts, Hosts
)
LONGEST_LINE: Final = 256  # bytes; to hash a longer line takes longer than to judge it by its name
MOST_REFUSED: Final = (
    4096  # lines that found no room, until the lines are learnt anew: once in thousands of heads
)

# Fields with a few values each, none of which is a secret: of requests, then of responses.
STABLE: Final = frozenset(
    b"host connection user-agent accept accept-encoding accept-language accept-charset content-type te "
    b"cache-control pragma expect priority dnt sec-gpc upgrade upgrade-insecure-requests via "
    b"sec-fetch-site sec-fetch-mode sec-fetch-dest sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"x-requested-with x-api-version api-version anthropic-version anthropic-beta openai-beta "
    b"openai-version notion-version stripe-version x-github-api-version x-goog-api-client "
    b"x-stainless-lang x-stainless-package-version x-stainless-os x-stainless-arch x-stainless-async "
    b"x-stainless-runtime x-stainless-runtime-version x-stainless-retry-count x-stainless-read-timeout "
    b"server content-encoding content-language transfer-encoding keep-alive vary accept-ranges allow alt-svc "
    b"expires referrer-policy permissions-policy content-security-policy x-content-type-options "
    b"x-frame-options x-xss-protection x-dns-prefetch-control x-download-options x-powered-by x-robots-tag "
    b"x-permitted-cross-domain-policies cross-origin-opener-policy cross-origin-embedder-policy "
    b"cross-origin-resource-policy strict-transport-security timing-allow-origin nel "
    b"access-control-allow-origin access-control-allow-credentials access-control-allow-headers "
    b"access-control-allow-methods access-control-expose-headers access-control-max-age "
    b"cf-cache-status x-cache x-ratelimit-limit ratelimit-limit".split()
)
# RFC 9110 section 7.2. Syntax only: allowed names and valid addresses are checked elsewhere (hosts.py).
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
NO_VALUES: Final[list[bytes]] = []
MOST_DIGITS: Final = 18  # of a length: leading zeros pass llhttp, and int() raises at 4300 of them

# The fields to read; the block without the fields to cut; all marks together (rules.py); Connection's options
Sorted = tuple[Index, bytes, int, Options]


class Line:
    """What a line is; never changed, as many heads share it."""

    __slots__ = ("marks", "name", "options", "values")

    def __init__(self, name: bytes, marks: int, values: list[bytes], options: Options) -> None:
        self.name = name  # in lower case
        self.marks = marks
        self.values = values  # one if it is read, else none
        self.options = options


class Name:
    """What a name is, spelled as it was sent."""

    __slots__ = ("is_read", "is_stable", "line", "room")

    def __init__(self, line: Line, *, is_stable: bool) -> None:
        self.line = line  # what all of its lines are, unless their values are read
        self.is_read = bool(line.marks & (rules.READ | rules.KEY))
        self.is_stable = is_stable
        self.room = MOST_LINES_OF_NAME  # for more of its lines


class KnownLines:
    """Judges the fields of requests, or those of responses; see the module. One for each configuration."""

    __slots__ = ("_keys", "_largest", "_lines", "_most", "_names", "_passing", "_refused", "_rules")

    def __init__(
        self,
        names: Rules,
        *,
        most: int,
        largest: int,
        keys: KnownKeys | None = None,
        scanner: Scanner | None = None,
    ) -> None:
        """`most` fields, each of at most `largest` bytes. `keys`: of callers, which are cut."""
        self._rules = names
        self._most = most
        self._largest = largest
        self._keys = keys
        self._lines: dict[bytes, Line] = {}
        self._names: dict[bytes, Name] = {}
        self._refused = 0
        self._passing = PassingNames(scanner)

    def sort(self, block: bytes) -> Sorted:
        """Judge a block of fields that llhttp has accepted (fields.py)."""
        lines = block.split(b"\r\n", self._most + 1)
        if self._exceed(lines, block):
            return {}, b"", rules.TOO_LARGE, NO_OPTIONS
        index, marks, options, cut = self._judge_all(lines, 1)
        forwarded = _without(cut, lines) if cut else block
        return index, fields.without(options.nominated, forwarded), marks, options

    def sort_plain(self, block: bytes) -> Sorted | None:
        """Judge a block that llhttp has not seen. None: it is not plain; llhttp must see it, and then `sort`.

        Plain is what the scanner accepts, without values that llhttp might refuse.
        """
        places = self._passing.others(block, self._most, self._largest)
        if places is None:
            return None
        lines = [block[places[at] : places[at + 1]] for at in range(0, len(places), 2)]
        index, marks, options, cut = self._judge_all(lines, 0)
        if marks & rules.PARSED:
            return None
        if marks & rules.FRAMING and not is_one_number(index[b"content-length"]):  # RFC 9112 section 6.2
            return None
        forwarded = _without_places(cut, places, block) if cut else block
        return index, fields.without(options.nominated, forwarded), marks, options

    def _judge_all(self, lines: list[bytes], first: int) -> tuple[Index, int, Options, list[int]]:
        """Returns (the fields to read, all marks, Connection's options, which lines to cut)."""
        known = self._lines
        index: Index = {}
        options = NO_OPTIONS
        marks = 0
        cut: list[int] = []
        for at in range(first, len(lines)):
            line = lines[at]
            found = known.get(line) if len(line) <= LONGEST_LINE else None
            if found is None:
                found = self._judge(line)
            if not found.marks:
                continue
            marks |= found.marks
            if found.marks & rules.READ:
                values = index.get(found.name)
                index[found.name] = found.values if values is None else values + found.values
                if found.marks & rules.OPTIONS:
                    options = options.joined(found.options)
            if found.marks & rules.CUT:
                cut.append(at)
        return index, marks, options, cut

    def _exceed(self, lines: list[bytes], block: bytes) -> bool:
        """Whether there are too many fields, or one is too large. `lines`: at most one too many."""
        if len(lines) - 1 > self._most:
            return True
        return len(block) > self._largest and max(map(len, lines)) > self._largest

    def _judge(self, line: bytes) -> Line:
        """What a line is that is not remembered."""
        spelling, _, value = line.partition(b":")
        name = self._names.get(spelling)
        if name is None:
            name = self._learn(spelling)
        if not name.is_read and not name.is_stable:
            return name.line
        found = self._read(name.line, value.strip(b" \t")) if name.is_read else name.line
        if name.is_stable:
            self._remember(name, line, found)
        return found

    def _read(self, line: Line, value: bytes) -> Line:
        """The line with its value (RFC 9110 section 5.5), and what that means."""
        marks, options = line.marks, NO_OPTIONS
        if marks & rules.OPTIONS:
            options = read_options(value)
        elif marks & rules.HOST and _HOST.fullmatch(value) is None:
            marks |= rules.BAD_HOST
        elif marks & rules.KEY and self._keys is not None and self._keys.is_key(value):
            marks |= rules.CUT
        return Line(line.name, marks, [value], options)

    def _remember(self, name: Name, line: bytes, found: Line) -> None:
        if not name.room or len(self._lines) == MOST_LINES:
            self._refused += 1
            if self._refused == MOST_REFUSED:
                self._forget()
        elif len(line) <= LONGEST_LINE and not self._carries_key(line):
            name.room -= 1
            self._lines[line] = found

    def _carries_key(self, line: bytes) -> bool:
        """Whether a caller's key has strayed into a field that is not for keys."""
        value = line.partition(b":")[2].strip(b" \t")
        return self._keys is not None and self._keys.carries(value)

    def _learn(self, spelling: bytes) -> Name:
        lower, marks = self._rules.judge(spelling)
        is_stable = lower in STABLE and not marks & rules.SECRET
        name = Name(Line(lower, marks, NO_VALUES, NO_OPTIONS), is_stable=is_stable)
        if len(spelling) <= LONGEST_NAME:
            if len(self._names) == MOST_NAMES:
                self._forget()
            self._names[spelling] = name
            if not marks:
                self._passing.learn(spelling)
        return name

    def _forget(self) -> None:
        self._lines.clear()
        self._names.clear()
        self._refused = 0
        self._passing.forget()


def is_one_number(lengths: list[bytes]) -> bool:
    return len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= MOST_DIGITS


def _without(cut: list[int], lines: list[bytes]) -> bytes:
    """The block of these lines without those at `cut`."""
    for at in reversed(cut):
        del lines[at]
    return b"\r\n".join(lines)


def _without_places(cut: list[int], places: list[int], block: bytes) -> bytes:
    """The block without the lines that are at `cut` among `places`, each with the CR LF before it."""
    kept: list[bytes] = []
    rest = 0
    for at in cut:
        kept.append(block[rest : places[2 * at] - 2])
        rest = places[2 * at + 1]
    kept.append(block[rest:])
    return b"".join(kept)
