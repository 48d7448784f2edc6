"""The text and the fields of a notification. Pure.

They hold names from the configuration and the store, and our own words: never a secret, nor what a server
sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from proxy.store.base import AccountId
from proxy.tokens.diagnosis import Diagnosis

LONGEST: Final = 2000  # characters of a text; chats cut longer ones, and a pipe takes all of it at once
NEEDS_PERSON: Final = "login_required"  # as a state; accounts that work again have one of their own


@dataclass(frozen=True, slots=True)
class Message:
    """One notification. The fields are those of its JSON, in this order."""

    text: str
    credential: str
    account: str
    state: str
    login_url: str | None
    more: int = 0  # further accounts that it is about

    def to_json(self) -> bytes:
        """ASCII, without a line break but the last."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"


def needs_person(key: AccountId, diagnosis: Diagnosis, public_url: str) -> Message:
    """For one account. `public_url`: without a slash at its end."""
    login_url = f"{public_url}/login/{key}" if diagnosis.can_log_in else None
    text = f"{key} needs a person: {diagnosis.text}"[:LONGEST]
    if login_url is not None:
        text = f"{text} - {login_url}"
    return Message(text, *key, NEEDS_PERSON, login_url)


def works_again(key: AccountId, state: str, public_url: str) -> Message:
    return Message(f"{key} works again - {public_url}/", *key, state, None)


def of_several(first: Message, more: int, public_url: str) -> Message:
    """For `more` accounts beside that of `first`, which all need a person, or all work again."""
    page = f"{public_url}/?state=attention"
    accounts = f"{first.credential}/{first.account} and {more} more"
    if first.state == NEEDS_PERSON:
        text, login_url = f"{accounts} need a person - {page}", page
    else:
        text, login_url = f"{accounts} work again - {public_url}/", None
    return Message(text, first.credential, first.account, first.state, login_url, more)
