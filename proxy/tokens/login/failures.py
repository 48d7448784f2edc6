"""Why a login failed: one sentence for each code. The server's own text is never shown."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth import authorize, grants
from proxy.oauth.discovery import Endpoints
from proxy.tokens.diagnosis import explain_failure

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


def of_redirect(error: str) -> str:
    """What the `error` of a callback means."""
    return _REFUSALS.get(error, "the authorization server refused the login")


def of_id_token(error: AuthorizationServerError) -> str:
    return _BAD_ID_TOKEN[error.error]


def of_response(credential: Credential, error: AuthorizationServerError) -> str:
    """What a failed request to the token endpoint means."""
    if error.outcome == "login_required":
        return (
            "the authorization server refuses the code: it is used up, expired, or from another redirect URI"
        )
    return explained(credential, error)


def explained(credential: Credential, error: AuthorizationServerError) -> str:
    """Any other failed request, in the words of the table (tokens/diagnosis)."""
    return explain_failure(error.error, credential.name, grants.of(credential), credential.scopes, error.hint)


def check_issuer(callback: authorize.Callback, endpoints: Endpoints) -> None:
    """RFC 9207 section 2.4: a code must come from the server that it will be sent to."""
    if endpoints.issuer is None:
        return  # nothing to compare with: the endpoints were given by hand
    if callback.iss is None and not endpoints.iss_in_callback:
        return
    if callback.iss != endpoints.issuer:
        raise LoginFailed("the redirect comes from another authorization server than the login went to")
