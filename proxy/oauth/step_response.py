"""The responses to described requests: status, header fields, bytes -> JSON, then a token. Pure.

Their status decides, never their text: 5xx, 429 and a Retry-After are transient; 401, 403 and other refusals
are misconfigured, since the request is described in the configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from proxy.config.placeholders import find, read_path
from proxy.config.steps import TokenPlace
from proxy.errors import TRY_LATER, AuthorizationServerError
from proxy.oauth import documents, expires_in, token_response
from proxy.oauth.documents import UnreadableDocument
from proxy.oauth.token_response import TokenResponse

_REFUSED: Final = frozenset({401, 403})
# Deviations, as sentences for the log.
ODDITIES: Final[Mapping[str, str]] = {
    "no_expiry": "it has no time of expiry where `response` says: access_token_lifetime would set it",
}


def read(status: int, headers: Mapping[str, str], body: bytes, now: float) -> object:
    """The JSON of a complete response. `headers` is case-insensitive; `now` in Unix seconds.

    Raises AuthorizationServerError.
    """
    pause = token_response.retry_after(headers, now)
    if status >= 500 or status in TRY_LATER or (pause is not None and status >= 400):
        code = token_response.http_error(status)
        raise AuthorizationServerError("transient", code, retry_after=pause, status=status)
    if 300 <= status < 400:
        raise AuthorizationServerError("misconfigured", "step_redirect")
    if not 200 <= status < 300:
        raise AuthorizationServerError(
            "misconfigured", "step_refused" if status in _REFUSED else "step_failed"
        )
    try:
        return documents.json_value(headers, body)
    except UnreadableDocument:
        raise AuthorizationServerError("transient", "step_not_json") from None


def granted(
    document: object, place: TokenPlace, now: float, upstream_fields: Collection[str] = ()
) -> TokenResponse:
    """The token in the last step's JSON. `now`: the server's time. Raises AuthorizationServerError."""
    token = token_response.attachable(find(document, read_path(place.token)))
    if token is None:
        raise AuthorizationServerError("misconfigured", "step_token")
    stated = _lifetime(document, place, now)
    lifetime = stated or expires_in.of_jwt(token.reveal(), now)
    is_odd = stated is None and (place.expires_at is not None or place.expires_in is not None)
    return TokenResponse(
        access_token=token,
        refresh_token=None,
        lifetime=lifetime,
        refresh_in=None,
        refresh_lifetime=None,
        scope="",
        oddities=("no_expiry",) if is_odd else (),
        upstreams=token_response.upstreams(partial(find, document), upstream_fields),
    )


def _lifetime(document: object, place: TokenPlace, now: float) -> float | None:
    if place.expires_in is not None:
        return expires_in.read(find(document, read_path(place.expires_in)), now)
    if place.expires_at is not None:
        return expires_in.until(find(document, read_path(place.expires_at)), now)
    return None
