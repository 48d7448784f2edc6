"""Why a login failed: one sentence for each code. The server's own text is never shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth import grants
from proxy.tokens.diagnosis import explain_failure

_NO_LOGINS: Final = (
    "this client is not registered for logins: register it for the grant authorization_code, with the "
    "redirect URI {redirect_uri}"
)
_REFUSALS: Final = {  # RFC 6749 section 4.1.2.1
    "access_denied": "the login was declined",
    "invalid_scope": (
        "the authorization server does not know one of the scopes, or does not allow it to this client: "
        "check `scopes` ({scopes})"
    ),
    "invalid_target": "the authorization server does not know the requested resource: check `resource`",
    "unauthorized_client": _NO_LOGINS,
    "unsupported_response_type": _NO_LOGINS,
    "invalid_request": (
        "the authorization server does not understand the request: check `scopes` ({scopes}) and "
        "`authorize_params`, and that the redirect URI {redirect_uri} is registered there"
    ),
    # OpenID Connect Core 1.0 section 3.1.2.6: it was told not to ask the person, by `prompt`
    **dict.fromkeys(
        ("interaction_required", "login_required", "consent_required", "account_selection_required"),
        "the authorization server may not ask the person, who has to answer: check `prompt` in "
        "`authorize_params`",
    ),
    "server_error": "the authorization server reports an internal error: try again",
    "temporarily_unavailable": "the authorization server is temporarily unavailable: try again later",
}
_OTHER: Final = (
    "the authorization server refused the login, with a non-standard error code: look at its own page or "
    "log, then start the login again"
)
_FORGOTTEN: Final = "the authorization server does not know the client that was registered there any more"
_ON_DEVICE: Final = {  # RFC 8628 section 3.5
    "access_denied": "the login was declined",
    "expired_token": "nobody has entered the code in time: start the login again",
    "invalid_grant": "the device code is refused, as used or expired: start the login again",
}
_BAD_ID_TOKEN: Final = {  # codes of oauth/id_token.py; the tokens that came with it are discarded
    "id_token_malformed": (
        "the id_token that came with the tokens can't be read, and nothing was stored: start the login "
        "again; if this persists, leave openid out of `scopes`"
    ),
    "id_token_issuer": "the id_token names another issuer than the configured one: check `issuer`",
    "id_token_audience": "the id_token is for another client: check client_id",
    "id_token_nonce": "the id_token belongs to another login: start the login again",
    "id_token_expired": "the id_token had already expired when it arrived: check the clock of this machine",
}


_REFUSED_PUSHES: Final = {  # by the codes of AuthorizationServerError
    "invalid_request": (
        "the authorization server refuses the pushed request: check that the redirect URI {redirect_uri} is "
        "registered there, and check `authorize_params`"
    ),
    "invalid_scope": _REFUSALS["invalid_scope"],
    "unauthorized_client": _REFUSALS["unauthorized_client"],
}


def of_redirect(credential: Credential, redirect_uri: str, error: str) -> LoginFailed:
    """What the `error` of a callback means."""
    if error not in _REFUSALS:
        return LoginFailed(_OTHER)
    code = "" if error == "access_denied" else f" ({error})"
    return LoginFailed(_filled(_REFUSALS[error], credential, redirect_uri) + code, error)


def _filled(sentence: str, credential: Credential, redirect_uri: str) -> str:
    scopes = ", ".join(credential.scopes) or "none requested"
    return sentence.format(scopes=scopes, redirect_uri=redirect_uri)


def of_id_token(error: AuthorizationServerError) -> LoginFailed:
    return LoginFailed(_BAD_ID_TOKEN[error.error], error.error)


def of_push(credential: Credential, redirect_uri: str, error: AuthorizationServerError) -> LoginFailed:
    """What a failed request to the pushed authorization request endpoint means (RFC 9126 section 2.3)."""
    sentence = _REFUSED_PUSHES.get(error.error)
    if sentence is None:
        return LoginFailed(f"the login can't begin: {explained(credential, error)}", error.error)
    return LoginFailed(f"{_filled(sentence, credential, redirect_uri)} ({error.error})", error.error)


def of_response(credential: Credential, error: AuthorizationServerError) -> LoginFailed:
    """What a failed request to the token endpoint means."""
    if error.outcome != "login_required":
        return LoginFailed(explained(credential, error), error.error)
    if error.error == "client_forgotten":
        return LoginFailed(f"{_FORGOTTEN}: start the login again, and another is registered", error.error)
    sentence = (
        "the authorization server refuses the code, as used, expired or from another redirect URI: "
        "start the login again"
    )
    return LoginFailed(sentence, error.error)


def of_poll(credential: Credential, error: AuthorizationServerError) -> LoginFailed:
    """What a failed poll for the tokens of a login on another device means."""
    if error.error in _ON_DEVICE:
        return LoginFailed(_ON_DEVICE[error.error], error.error)
    return of_response(credential, error)


def explained(credential: Credential, error: AuthorizationServerError) -> str:
    """What any other failed request means, from the table of tokens/diagnosis."""
    grant = grants.of(credential)
    grant = replace(grant, grant_type=grant.login_type or grant.grant_type)
    return explain_failure(error, credential.name, grant, credential.scopes)
