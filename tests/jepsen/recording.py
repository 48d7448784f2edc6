"""The store and the authorization servers of a process, with every step recorded.

A `Trap` can be set at a step: the nemesis stops or kills a process exactly between two steps of a refresh.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.store.base import AccountId, Record, Store
from proxy.tokens.refresh.lease import LeaseLost
from proxy.tokens.saved import codec
from tests.jepsen.history import Recorder, fingerprint, now

STEPS = ("leased", "intended", "sending", "answered", "saving", "saved")  # of a refresh, in their order


class Trap:
    """A signal that this process sends to itself at its next `step`."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._step: str | None = None
        self._signal = signal.SIGSTOP

    def set(self, step: str | None, number: signal.Signals) -> None:
        self._step, self._signal = step, number

    def note(self, what: str, **about: Any) -> None:
        self._recorder.note(what, **about)
        if what == self._step:
            self._step = None
            done = "paused" if self._signal == signal.SIGSTOP else "killed"
            self._recorder.note(done, process=self._name)
            os.kill(os.getpid(), self._signal)


class RecordingStore:
    def __init__(self, store: Store, trap: Trap) -> None:
        self._store = store
        self._note = trap.note

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._store.changes()

    def __getattr__(self, name: str) -> Any:  # all calls that are not recorded
        return getattr(self._store, name)

    async def get(self, key: AccountId) -> Record | None:
        record = await self._store.get(key)
        self._note("read", account=key.account, **of_record(record))
        return record

    async def put(self, record: Record, *, expected: int) -> None:
        about = {"account": record.key.account, "expected": expected, **of_record(record)}
        about["since"] = round(now(), 4)  # identifies this put
        self._note("saving", **about)
        try:
            await self._store.put(record, expected=expected)
        except GenerationConflict:
            self._note("conflict", **about)
            raise
        except StoreError:
            self._note("unsaved", **about)
            raise
        self._note("saved", **about)

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        await self._store.intend(key, generation, intent)
        self._note("intended", account=key.account, generation=generation)

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        holder = await self._store.lease(name, owner, seconds, succeed=succeed)
        if holder is None:
            self._note("leased", account=_account(name), owner=_short(owner), succeeded=bool(succeed))
        return holder

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        kept = await self._store.renew(name, owner, seconds)
        self._note("renewed", account=_account(name), owner=_short(owner), kept=kept)
        return kept

    async def release(self, name: str, owner: str) -> None:
        await self._store.release(name, owner)
        self._note("released", account=_account(name), owner=_short(owner))


class RecordingServers(AuthorizationServers):
    trap: Trap

    async def token(
        self,
        credential: Credential,
        form: Form,
        before_send: Callable[[], None] | None = None,
        *,
        before: Token | None = None,
    ) -> Token:
        old = fingerprint(form.get("refresh_token"))

        def sending() -> None:
            if before_send is not None:
                before_send()
            self.trap.note("sending", refresh=old)

        since = round(now(), 4)
        try:
            token = await super().token(credential, form, sending, before=before)
        except AuthorizationServerError as error:
            self.trap.note("answered", since=since, refresh=old, outcome=f"{error.outcome} {error.error}")
            raise
        except LeaseLost:
            self.trap.note("abandoned", since=since, refresh=old)
            raise
        given = {"successor": fingerprint(token.refresh_token), "access": fingerprint(token.access_token)}
        self.trap.note("answered", since=since, refresh=old, outcome="success", **given)
        return token


def of_record(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {"generation": 0, "state": "absent", "refresh": None, "access": None}
    token = codec.decode(record.body)
    return {
        "generation": record.generation,
        "state": record.state,
        "refresh": fingerprint(token.refresh_token),
        "access": fingerprint(token.access_token),
        "intent": record.intent is not None,
    }


def _account(lease: str) -> str:
    return lease.rpartition("/")[2]


def _short(owner: str) -> str:
    return owner.rpartition("/")[2]
