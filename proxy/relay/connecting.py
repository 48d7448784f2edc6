"""The part of an exchange that gets a token and a connection: from its beginning to each `_send`.

    token ready? ──yes──────────────────────────────► a connection is idle? ──yes──────► send
        └─ no: a task awaits it (`_prepare`) ─────────────┘       └─ no: the pool's queue ──┘

Only the wait for a token is a task. In the queue the exchange is called back.
"""

from __future__ import annotations

from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from proxy import tasks
from proxy.http.message import IDEMPOTENT
from proxy.http.target import upstream_path
from proxy.relay import decisions, obtain, phases, problems, translate
from proxy.relay.lifecycle import Lifecycle
from proxy.relay.phases import Phase
from proxy.relay.pool import Pool
from proxy.relay.problems import Refusal
from proxy.relay.upstream import Upstream
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment


class Connecting(Lifecycle):
    """`exchange.Exchange` adds what follows."""

    _attachment: Attachment  # the fields that carry the token, once there is one
    _second = False  # the request is being sent again
    _path = b""  # upstream
    _unmapped = b""  # its fields, before they were rewritten for an upstream

    def _send(self, attachment: Attachment, upstream: Upstream) -> None:
        raise NotImplementedError

    def _do(self, step: Coroutine[Any, Any, None], name: str, phase: Phase) -> None:
        self._enter(phase)
        self._work = tasks.spawn(self._guarded(step), name)

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends this exchange and no other)
            self.fail(error)

    async def _prepare(self, account: Account) -> None:
        """Get a token, then send. Raises Refusal."""
        decisions.say(self._number, "token", "no token is ready: it waits for one")
        attachment = await obtain.token(self._context, account)
        self._asked = perf_counter()
        self._send_on_idle(account, attachment)

    def _send_on_idle(self, account: Account, attachment: Attachment) -> None:
        """Send on an idle connection, or on the first that is dialled or given back."""
        pool = self._runtime.fixed_pool
        if pool is None:
            pool = self._pool(account, attachment)
            if pool is None:
                return
        once = self._upload.arriving or self._upload.fills_spool  # it can't be sent a second time
        upstream = pool.take_alive() if once else pool.take()
        if upstream is not None:
            self._send(attachment, upstream)
            return
        decisions.say(self._number, "dial", "no connection is idle: it gets the next one, new or given back")
        self._wait(attachment, pool, only_new=False)

    def _send_again(self, account: Account, attachment: Attachment) -> None:
        """On a new connection: one that was used before may have ended too, and there is no third time."""
        self._second = True
        self._asked = perf_counter()
        decisions.say(self._number, "dial", "it waits for a new connection")
        pool = self._pool(account, attachment)
        if pool is not None:
            self._wait(attachment, pool, only_new=True)

    def _pool(self, account: Account, attachment: Attachment) -> Pool | None:
        """The connections for this token; None if the request has been refused."""
        if self._runtime.listed.moves:
            try:
                self._settle(attachment)
            except Refusal as refusal:
                if refusal.case is problems.MISCONFIGURED:
                    refusal.name_account(account.key.account, self._context.login_url(account))
                    listed = self._runtime.listed
                    value = attachment.upstreams.get(listed.route.upstream.field, "")
                    listed.failures.upstream_not_allowed(account.name, value, refusal.detail)
                self._refuse(refusal)
                return None
        return self._runtime.pool(account)

    def _settle(self, attachment: Attachment) -> None:
        """Take the upstream that this token's response named; the next token may have another one.

        Raises Refusal.
        """
        request, before = self._request, self._runtime
        runtime = before.listed.of_token(attachment)
        if runtime is before:
            return
        if before is before.listed:
            self._unmapped = request.forwarded_fields
        request.forwarded_fields = self._unmapped
        before.in_flight -= 1
        runtime.in_flight += 1
        self._runtime = runtime
        if runtime.changes_fields or request.fields.has_links:
            translate.to_upstream(self._context, runtime, request, self._caller)
        self._path = upstream_path(runtime.base, runtime.prefix, request.path, strip=runtime.strip)

    def _wait(self, attachment: Attachment, pool: Pool, *, only_new: bool) -> None:
        self._attachment = attachment
        self._enter(phases.CONNECTING)
        self._queued_in = pool
        pool.wait(self, only_new=only_new)

    # -- pool_queue.Waiter

    def connected(self, upstream: Upstream) -> None:
        self._queued_in = None
        try:
            self._upstream = upstream  # now, as it is closed if the next step fails
            self._send(self._attachment, upstream)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends this exchange and no other)
            self.fail(error)

    def not_connected(self, refusal: Refusal) -> None:
        self._queued_in = None
        try:
            self._refuse(refusal)
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def is_sent_once(self) -> bool:
        """Whether it can't be sent again should the connection have ended (failures.may_repeat)."""
        return self._second or not (self._upload.repeatable and self._request.method in IDEMPOTENT)
