"""The scanner of plain heads (scanner.c), where it was compiled, and the names that it lets pass. Pure.

Without it, and for all heads that are not plain, llhttp and lines.py decide: they are the reference, and the
verdict is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Scan = Callable[[bytes, list[bytes | None], int, int], list[int] | None]
Place = Callable[[bytes], int]


class Scanner:
    """The functions of scanner.c."""

    __slots__ = ("place", "scan", "slots")

    def __init__(self, scan: Scan, place: Place, slots: int) -> None:
        self.scan = scan
        self.place = place
        self.slots = slots


def _compiled() -> Scanner | None:
    try:
        from proxy.http.scanner import SLOTS, place, scan  # noqa: PLC0415
    except ModuleNotFoundError:  # there was no compiler; any other ImportError is a fault
        return None
    return Scanner(scan, place, SLOTS)


SCANNER: Final = _compiled()


class PassingNames:
    """Names whose fields pass unread and mean nothing to this proxy, as they are spelled.

    Of two names with one place the first stays: the other one is judged each time, with the same result.
    """

    __slots__ = ("_names", "_scanner")

    def __init__(self, scanner: Scanner | None) -> None:
        self._scanner = scanner
        self._names: list[bytes | None] = [None] * (scanner.slots if scanner is not None else 0)

    def learn(self, name: bytes) -> None:
        if self._scanner is not None and name:  # an empty one is never plain
            at = self._scanner.place(name)
            if self._names[at] is None:
                self._names[at] = name

    def forget(self) -> None:
        self._names = [None] * len(self._names)

    def others(self, block: bytes, most: int, largest: int) -> list[int] | None:
        """The start and end of each line with another name. None: the block is not plain, or no scanner."""
        scanner = self._scanner
        return None if scanner is None else scanner.scan(block, self._names, most, largest)
