"""Recovery of a store that was emptied, or restored from a backup. Pure except for the log.

Several processes may fill an emptied store, and the first may not know the latest token. Generations can't
decide then (each process counts on from its own), nor can clocks (of several hosts). So each token lists its
predecessors (`ancestors`): a token among them is older, whatever its generation.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from proxy.errors import GenerationConflict
from proxy.oauth.token import Token
from proxy.observe.events import ERROR, event
from proxy.store.base import AccountId, Record
from proxy.tokens.saved import codec
from proxy.tokens.saved.seeds import fingerprint
from proxy.tokens.stored_token import StoredToken

_log = logging.getLogger("proxy.tokens")


def missing(
    key: AccountId, record: Record | None, token: Token | None, known: StoredToken, blank: Token
) -> Record | StoredToken | None:
    """The record or token to write to a store that has lost it; None: it has lost nothing.

    `token` is that of `record`, `blank` that of a tombstone. A missing record is no logout, and does not end
    one: a tombstone is restored like a token.
    """
    if known.generation == 0 or (known.token is None and known.state != "logged_out"):
        return None
    is_older = token is not None and known.token is not None and _comes_before(token, known.token)
    if record and record.generation >= known.generation and (record.state == "logged_out" or not is_older):
        return None
    sentence = f"the store has lost the latest tokens of {key}: they are restored"
    event(_log, ERROR, "tokens_restored", sentence, **key._asdict())
    generation = max(record.generation if record else 0, known.generation) + 1
    if record and token and not is_older and _counts(record, token, known):
        return replace(record, generation=generation)
    if known.token is None:
        return StoredToken(generation, "logged_out", blank, None)
    return replace(known, generation=generation)


def above(record: Record | None, new: StoredToken, sent: Token | None) -> int:
    """The generation under which a response is saved although the store was changed meanwhile.

    It is saved if the store was emptied, or filled with the token that was `sent`, which it follows. Raises
    GenerationConflict after a login, a logout or the response of another process.
    """
    if record is None:
        return new.generation
    stored = codec.decode(record.body)
    is_before = (
        sent is not None and sent.refresh_token is not None and stored.refresh_token == sent.refresh_token
    )
    if not is_before or record.state == "logged_out":
        raise GenerationConflict(f"{record.key} was changed by another process: read it again")
    return max(new.generation, record.generation + 1)


def _comes_before(token: Token, other: Token) -> bool:
    return token.refresh_token is not None and fingerprint(token.refresh_token) in other.ancestors


def _counts(record: Record, token: Token, known: StoredToken) -> bool:
    """Whether the record in an emptied store is later than `known`: a login, or a logout."""
    if record.state == "logged_out" or known.token is None:
        return True
    return token.issued_by_server > known.token.issued_by_server
