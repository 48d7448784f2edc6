"""Whether the peer of a socket has ended its side or reset it, found out without reading."""

from __future__ import annotations

import select
from typing import Final

_READ_END: Final = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere an end after unread bytes is not seen
_CUT: Final = select.POLLERR | select.POLLNVAL  # always reported by poll


def has_ended(descriptor: int) -> bool:
    """Whether the peer has ended its side, or is gone, even if some of its data is unread."""
    return _look(descriptor) != 0


def is_gone(descriptor: int) -> bool:
    """Whether the connection has been reset."""
    return _look(descriptor) & _CUT != 0


def has_news(descriptor: int) -> bool:
    """Whether there is something to read: data, an end or an error."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _look(descriptor: int) -> int:
    if descriptor < 0:
        return select.POLLNVAL
    poll = select.poll()
    poll.register(descriptor, _READ_END)
    return next((events for _, events in poll.poll(0)), 0)
