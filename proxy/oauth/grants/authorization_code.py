"""grant = "authorization_code": a person logs in, then refresh tokens are used (RFC 6749 section 4.1)."""

from __future__ import annotations

from typing import Final

from proxy.oauth.grants.base import Form, Grant, Renewal, refresh_form

DEFAULT_ACCOUNT: Final = "default"  # the account of commands without --account


def redemption_form(code: str, redirect_uri: str, code_verifier: str | None) -> Form:
    """Exchange a code for tokens: RFC 6749 section 4.1.3, and RFC 7636 section 4.5 for the verifier."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if code_verifier:
        form["code_verifier"] = code_verifier
    return form


def login_command(credential: str, account: str) -> str:
    """The shell command for a login."""
    option = "" if account == DEFAULT_ACCOUNT else f" --account {account}"
    return f"token-proxy login {credential}{option}"


def log_in_again(credential: str, account: str) -> str:
    """The remedy of grants with a login."""
    return f"run `{login_command(credential, account)}`"


AUTHORIZATION_CODE: Final = Grant(
    name="authorization_code",
    grant_type="refresh_token",
    renewal=Renewal.LOGIN,
    form=refresh_form,
    login_type="authorization_code",
    remedy=log_in_again,
)
