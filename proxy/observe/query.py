"""What a page of the listing shows: the query parameters of / and /api/status. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from proxy.errors import ProxyError
from proxy.tokens.lifetime import STATES

ATTENTION: Final = "attention"  # as a state: accounts of any state that need attention
LIMIT: Final = 500  # accounts on a page at most, and unless another limit is given: some 400 KiB of JSON
LONGEST: Final = 200  # characters of `q`; a credential, "/" and an account have 192 at most
_CURSOR: Final = re.compile(
    r"(?P<attention>attention:)?(?P<credential>[a-z0-9][a-z0-9_-]{0,62})/"
    r"(?P<account>[A-Za-z0-9][A-Za-z0-9._@+-]{0,127})"
)
_DIGITS: Final = re.compile(r"[0-9]{1,9}")


class BadQueryError(ProxyError):
    """A parameter with a value that it can't have. The message names it and what it can be."""


class Cursor(NamedTuple):
    """The last account of a page; the next page begins after it."""

    is_rest: bool  # it is among those that need no attention, which come last
    credential: str
    account: str

    def __str__(self) -> str:
        return f"{'' if self.is_rest else 'attention:'}{self.credential}/{self.account}"


@dataclass(frozen=True, slots=True)
class Query:
    text: str = ""  # a part of credential/account, in any case
    state: str = ""  # one of STATES, or ATTENTION
    credential: str = ""
    after: Cursor | None = None
    limit: int = LIMIT

    @classmethod
    def of(cls, fields: Mapping[str, str], limit: int = LIMIT) -> Self:
        """From the parameters of a URL; empty ones count as left out. Raises BadQueryError.

        `limit`: if the URL gives none.
        """
        return cls(
            _text(fields.get("q", "")),
            _state(fields.get("state", "")),
            fields.get("credential", ""),
            _cursor(fields.get("after", "")),
            _limit(fields.get("limit", ""), limit),
        )


def _text(value: str) -> str:
    if len(value) > LONGEST or not value.isprintable():
        raise BadQueryError(
            f"q: expected a part of a credential's or account's name, at most {LONGEST} characters"
        )
    return value


def _state(value: str) -> str:
    if value and value not in {*STATES, ATTENTION}:
        raise BadQueryError(f"state: expected one of {', '.join(STATES)}, or {ATTENTION}")
    return value


def _cursor(value: str) -> Cursor | None:
    if not value:
        return None
    parts = _CURSOR.fullmatch(value)
    if parts is None:
        raise BadQueryError('after: expected the value of "next" of the page before')
    return Cursor(parts["attention"] is None, parts["credential"], parts["account"])


def _limit(value: str, default: int) -> int:
    if not value:
        return default
    if not _DIGITS.fullmatch(value) or not 1 <= int(value) <= LIMIT:
        raise BadQueryError(f"limit: expected a number from 1 to {LIMIT}")
    return int(value)
