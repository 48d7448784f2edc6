"""Which settings make an authorization server give a refresh token. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from proxy.config.model import Credential
from proxy.oauth import grants
from proxy.oauth.discovered import OFFLINE
from proxy.oauth.grants import Login

_GOOGLE: Final = "accounts.google.com"  # it ignores the scope offline_access
GENERAL: Final = (
    'add "offline_access" to scopes and prompt = "consent" to authorize_params (OpenID providers), or '
    'access_type = "offline" and prompt = "consent" to authorize_params (Google)'
)
_ALLOW: Final = "allow this client refresh tokens (offline access) at the authorization server"


def advice(credential: Credential) -> str:
    """What to change for a refresh token, as the end of a sentence: the settings that are missing."""
    consent = [] if "consent" in _words(credential, "prompt") else ['prompt = "consent"']
    if _host(credential) == _GOOGLE:
        offline = [] if "offline" in _words(credential, "access_type") else ['access_type = "offline"']
        return _added([], offline + consent, credential)
    asked = {*credential.scopes, *_words(credential, "scope")}
    has_scope = OFFLINE in asked
    scopes = [] if has_scope else [OFFLINE]
    if grants.of(credential).login is Login.DEVICE:  # authorize_params are of the other logins
        return _added(scopes, [], credential)
    if has_scope or "openid" in asked:
        return _added(scopes, consent, credential)
    return f"{GENERAL} of credentials.{credential.name}"


def _words(credential: Credential, name: str) -> list[str]:
    """Of an extra parameter of logins."""
    value = credential.authorize_params.get(name, "")
    return (value if isinstance(value, str) else " ".join(value)).replace(",", " ").split()


def _host(credential: Credential) -> str:
    try:
        return urlsplit(credential.issuer or credential.authorization_endpoint or "").hostname or ""
    except ValueError:
        return ""


def _added(scopes: list[str], params: list[str], credential: Credential) -> str:
    key = "authorize_params.scope" if "scope" in credential.authorize_params else "scopes"
    lists = {key: [f'"{scope}"' for scope in scopes], "authorize_params": params}
    parts = [f"{' and '.join(values)} to {key}" for key, values in lists.items() if values]
    return f"add {' and '.join(parts)} of credentials.{credential.name}" if parts else _ALLOW
