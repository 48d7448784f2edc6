"""Why a login failed: one sentence for each code. The server's own text is never shown."""

from __future__ import annotations

from typing import Final

from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth import authorize
from proxy.oauth.discovery import Endpoints

_REFUSALS: Final = {  # RFC 6749 section 4.1.2.1
    "access_denied": "the login was declined",
    "invalid_scope": "the authorization server does not know one of the scopes: check `scopes`",
    "unauthorized_client": "this client may not log people in: check its registration",
    "unsupported_response_type": "this client may not log people in: check its registration",
    "server_error": "the authorization server failed: try again",
    "temporarily_unavailable": "the authorization server is not available now: try again later",
}
_BAD_ID_TOKEN: Final = {  # oauth/id_token.py; what came beside it is not kept
    "id_token_malformed": "the id_token that came with the tokens can't be read: nothing was stored",
    "id_token_issuer": "the id_token names another issuer than the configuration: check `issuer`",
    "id_token_audience": "the id_token is for another client than this one: check client_id",
    "id_token_nonce": "the id_token is of another login than this one: begin the login again",
    "id_token_expired": "the id_token had expired when it came: check the clock of this machine",
}
_UNUSABLE: Final = {  # oauth/token_response.py: why an access token can't be attached
    "token_type": "the authorization server gave a token of a type that is not accepted: check `token_types`",
    "no_access_token": "the authorization server gave no access token that can be sent in a header field",
}
_HINTS: Final = {  # AuthorizationServerError.hint
    "basic_encoding": 'check client_id and client_secret, or try basic_encoding = "raw"',
    "client_auth": 'check client_id and client_secret, or try client_auth = "client_secret_post"',
    "": "check client_id and client_secret",
}


def of_redirect(error: str) -> str:
    """What the `error` of a callback means."""
    return _REFUSALS.get(error, "the authorization server refused the login")


def of_id_token(error: AuthorizationServerError) -> str:
    return _BAD_ID_TOKEN[error.error]


def of_response(error: AuthorizationServerError) -> str:
    """What a failed request to the token endpoint means."""
    if error.error in _UNUSABLE:
        return _UNUSABLE[error.error]
    if error.error == "invalid_grant":
        return (
            "the authorization server refuses the code: it is used up, expired, or from another redirect URI"
        )
    if error.outcome == "misconfigured":
        return f"the authorization server refuses this client ({error.error}): {_HINTS[error.hint]}"
    return f"the token endpoint's response brought no token ({error.error}): try again"


def check_issuer(callback: authorize.Callback, endpoints: Endpoints) -> None:
    """RFC 9207 section 2.4: a code must come from the server that it will be sent to."""
    if endpoints.issuer is None:
        return  # nothing to compare with: the endpoints were given by hand
    if callback.iss is None and not endpoints.iss_in_callback:
        return
    if callback.iss != endpoints.issuer:
        raise LoginFailed("the redirect comes from another authorization server than the login went to")
