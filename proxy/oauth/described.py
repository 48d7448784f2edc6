"""Runs the described requests of grant = "request": each step, then the token of the last one's response."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.config.steps import Jwt
from proxy.errors import AuthorizationServerError
from proxy.oauth import expires_in, jwt, step_request, step_response
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.step_request import UnfitValue, Values
from proxy.oauth.token_response import TokenResponse
from proxy.observe.events import decision
from proxy.secret import Secret

_BACKDATED: Final = 60.0  # seconds; servers refuse a JWT from the future, and their clocks differ from ours

_log = logging.getLogger("proxy.oauth")


@dataclass(frozen=True, slots=True)
class Described:
    """The end of a run: the token, and when the last request was sent (wall and boot clock)."""

    granted: TokenResponse
    reply: Reply
    sent_at: float
    sent_boot: float
    received: float  # wall clock


async def run(
    fetcher: Fetcher, clock: Clock, credential: Credential, before_send: Callable[[], None] | None
) -> Described:
    """Raises AuthorizationServerError, whose `hint` names the step.

    `before_send` is called before each request: what it raises is raised here, and nothing more is sent.
    """
    responses: tuple[object, ...] = ()
    number = 0
    try:
        assertion = signed(credential.jwt, credential.secrets, clock.wall()) if credential.jwt else ""
        for number, step in enumerate(credential.steps, 1):
            request = step_request.request_of(step, Values(credential.secrets, assertion, responses))
            if before_send is not None:
                before_send()
            decision(_log, "%s: step %d of %d is sent", credential.name, number, len(credential.steps))
            sent_at, sent_boot = clock.wall(), clock.boot()
            url = URL(request.url, encoded=True)
            reply = await fetcher.fetch(credential, request.method, url, request.headers, request.body)
            received = sent_at + clock.boot() - sent_boot
            document = step_response.read(reply.status, reply.headers, reply.body, received)
            responses = (*responses, document)
        assert credential.response is not None  # config/step_checks.py
        server_now = expires_in.server_time(reply.headers)
        now = received if server_now is None else server_now
        granted = step_response.granted(document, credential.response, now, credential.upstream_fields)
    except AuthorizationServerError as error:
        error.hint = f"step{number}"
        raise
    except UnfitValue:
        raise AuthorizationServerError("misconfigured", "step_value", hint=f"step{max(number, 1)}") from None
    return Described(granted, reply, sent_at, sent_boot, received)


def signed(description: Jwt, values: dict[str, Secret], now: float) -> str:
    """The JWT for {jwt}. Raises UnfitValue."""
    claims = {
        **step_request.filled(description.claims, Values(values)),
        "iat": int(now - _BACKDATED),
        "exp": int(now + description.lifetime),
        "jti": secrets.token_urlsafe(16),
    }
    key = description.key
    kid = description.key_id or ("" if isinstance(key, Secret) else key.kid)
    header = {"typ": "JWT", "kid": kid} if kid else {"typ": "JWT"}
    if isinstance(key, Secret):
        return jwt.signed_with_secret(claims, key, description.alg, header)
    return jwt.signed(claims, key, description.alg, header)
