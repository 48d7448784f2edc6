"""The demo's authorization server and API; their journal becomes events of the history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from proxy.demo import AuthorizationServer, Client, api_application, running
from tests.jepsen.history import Recorder, short

CALLBACK = "http://127.0.0.1:8081/callback"
CLIENT = Client("web", "s3cret", redirect_uris=(CALLBACK,))


@asynccontextmanager
async def serving(
    recorder: Recorder, accounts: Sequence[str], *, lifetime: int, grace: float
) -> AsyncIterator[tuple[AuthorizationServer, str]]:
    """The server and the URL of its API. Each account is a user of its own."""
    server = AuthorizationServer(
        clients=(CLIENT,), users=accounts, access_token_lifetime=lifetime, rotation=True, grace=grace
    )
    try:
        async with running(server.application()), running(api_application(server)) as api:
            yield server, api
    finally:
        _tell(server, recorder)


def _tell(server: AuthorizationServer, recorder: Recorder) -> None:
    for token in server.token_records():
        recorder.note_at(
            token.issued_at,
            "token",
            kind=token.kind,
            token=short(token.fingerprint),
            account=token.subject,
            family=token.family,
            generation=token.generation,
            expires=token.expires_at,
            spent=token.spent_at,
        )
    for asked in server.token_requests:
        at = asked.arrived_at if asked.acted_at is None else asked.acted_at
        about = {"account": asked.subject, "refresh": short(asked.refresh_token), "family": asked.family}
        recorder.note_at(at, "asked", **about, outcome=asked.outcome, fault=asked.fault)
    for end in server.revocations:
        recorder.note_at(end.at, "revoked", account=end.subject, family=end.family, reason=end.reason)
