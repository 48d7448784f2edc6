"""The token endpoint: applies the next fault, processes the request and records both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from proxy.clock import Clock
from proxy.demo.delivery import deliver
from proxy.demo.faults import Answer, Fault, apply_fault
from proxy.demo.journal import Journal, Outcome, TokenRequest, fingerprint
from proxy.demo.ledger import Issued, Ledger, Token
from proxy.demo.protocol import Protocol
from proxy.demo.read_request import ReadRequest, basic_credentials, read_form
from proxy.demo.script import Script


@dataclass(slots=True)
class _Visit:
    """The state of a token request."""

    arrived_at: float
    grant_type: str
    client_id: str
    presented: str  # the refresh token; "" for none
    token: Token | None  # the same, if it is known
    origin: Issued | None  # the token, the code or an issued token
    acted_at: float | None = None
    outcome: Outcome = "nothing_done"
    given: Mapping[str, str] = field(default_factory=dict)


class TokenEndpoint:
    def __init__(self, protocol: Protocol, ledger: Ledger, journal: Journal, clock: Clock) -> None:
        self.script = Script()
        self._protocol = protocol
        self._ledger = ledger
        self._journal = journal
        self._clock = clock

    async def serve(self, request: web.Request) -> web.StreamResponse:
        arrived_at = self._clock.boot()
        pairs = await read_form(request)
        visit = self._visit(arrived_at, request.headers, dict(pairs))
        fault = self.script.next(
            client_id=visit.client_id,
            subject=_subject(visit),
            grant_type=visit.grant_type,
            now=arrived_at,
        )
        read = ReadRequest(
            request.method,
            f"{self._protocol.issuer}{request.path_qs}",
            request.headers,
            pairs,
            renewal=fault.renewal,
        )
        answer: Answer | None = None
        try:
            answer = await apply_fault(fault, lambda: self._act(visit, read, fault))
        finally:  # also for a request that is delayed when the server stops: it loses its connection
            self._note(visit, answer, fault)
        return await deliver(request, answer, fault, self._clock.wall())

    def _visit(self, arrived_at: float, headers: Mapping[str, str], form: Mapping[str, str]) -> _Visit:
        presented = form.get("refresh_token", "")
        token = self._ledger.find(presented)
        return _Visit(
            arrived_at=arrived_at,
            grant_type=form.get("grant_type", ""),
            client_id=form.get("client_id") or basic_credentials(headers)[0],
            presented=presented,
            token=token,
            origin=token or self._ledger.code(form.get("code", "")),
        )

    def _act(self, visit: _Visit, read: ReadRequest, fault: Fault) -> Answer:
        """Process the request without awaiting: other requests can't interleave."""
        if fault.revoke_family and visit.origin:
            self._ledger.revoke_family(visit.origin.family, "server")
        was_spent = visit.token is not None and visit.token.spent_at is not None
        noted = self._journal.noted
        answer = self._protocol.token(read)
        visit.acted_at = self._clock.boot()
        if answer.status == 200 and not isinstance(answer.body, str):
            visit.outcome = "repeated" if was_spent else "granted"
            visit.given = answer.body
            visit.origin = self._ledger.find(answer.body["access_token"])
        else:
            visit.outcome = "reuse_detected" if self._journal.noted > noted else "refused"
        return answer

    def _note(self, visit: _Visit, answer: Answer | None, fault: Fault) -> None:
        family = visit.origin.family if visit.origin else None
        self._journal.note(
            TokenRequest(
                arrived_at=visit.arrived_at,
                acted_at=visit.acted_at,
                answered_at=self._clock.boot(),
                grant_type=visit.grant_type,
                client_id=visit.client_id,
                refresh_token=fingerprint(visit.presented) if visit.presented else None,
                family=family.number if family else None,
                generation=visit.token.generation if visit.token else None,
                subject=_subject(visit),
                outcome=visit.outcome,
                status=answer.status if answer else None,
                error=answer.body.get("error") if answer and not isinstance(answer.body, str) else None,
                issued_access_token=_fingerprint_of(visit.given, "access_token"),
                issued_refresh_token=_fingerprint_of(visit.given, "refresh_token"),
                fault=fault.name,
            )
        )


def _subject(visit: _Visit) -> str | None:
    """The subject of the tokens; for client_credentials the client itself."""
    if visit.origin is not None:
        return visit.origin.family.subject
    return visit.client_id if visit.grant_type == "client_credentials" else None


def _fingerprint_of(given: Mapping[str, str], kind: str) -> str | None:
    return fingerprint(given[kind]) if kind in given else None
