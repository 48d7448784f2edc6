"""How a login ended, for the log, the metric `logins_total` and the status of its account."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.config.model import Config
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError
from proxy.oauth.token import Token
from proxy.observe.events import ERROR, INFO, WARNING, event
from proxy.store.base import AccountId
from proxy.tokens.login.pending import UnknownLogin
from proxy.tokens.manager import TokenManager

_log = logging.getLogger("proxy.tokens")  # not proxy.logins: a command prints the outcome itself


class Outcomes:
    def __init__(self, config: Config, tokens: TokenManager) -> None:
        self._config = config
        self._tokens = tokens

    @contextmanager
    def noted(self, key: AccountId) -> Iterator[None]:
        """Note a failure in the block. A stranger's event, which belongs to no login, is none."""
        try:
            yield
        except UnknownLogin:
            raise
        except LoginFailed as error:
            self._failed(key, WARNING, error.error, str(error), cause=_cause_of(error))
            raise
        except StoreError as error:
            self._failed(key, ERROR, "store", f"its tokens could not be saved: {error}")
            raise

    def ends(self, key: AccountId, token: Token) -> None:
        """The login has brought no refresh token."""
        sentence = f"{key}: {self._tokens.account(*key).diagnosis().text}"
        fields = {"login_url": self._login_url(key), "ends_at": token.expires_at}
        event(_log, WARNING, "no_refresh_token", sentence, **key._asdict(), **fields)

    def succeeded(self, key: AccountId) -> None:
        self._tokens.login_ended(key, "success")
        event(_log, INFO, "login", f"logged in to {key}", **key._asdict(), outcome="success")

    def cancelled(self, key: AccountId) -> None:
        self._tokens.login_ended(key, "cancelled")
        sentence = f"the login to {key} was cancelled: it keeps another person's tokens"
        event(_log, INFO, "login", sentence, **key._asdict(), outcome="cancelled")

    def _failed(self, key: AccountId, level: int, error: str, why: str, *, cause: str = "") -> None:
        if key.credential not in self._config.credentials:
            return  # a name from a URL: neither a metric nor the log may grow with these
        self._tokens.login_ended(key, "failed", error, why)
        fields = {"login_url": self._login_url(key), "error": error, "cause": cause}
        event(_log, level, "login_failed", f"the login to {key} failed: {why}", **key._asdict(), **fields)

    def _login_url(self, key: AccountId) -> str:
        return f"{self._config.public_url}/login/{key}"


def _cause_of(error: LoginFailed) -> str:
    """Why a connection to the authorization server failed, if that is the reason."""
    request = error.__cause__
    return request.cause_sentence if isinstance(request, AuthorizationServerError) else ""
