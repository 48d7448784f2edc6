"""The interface of a grant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from proxy.config.model import Credential
from proxy.secret import Secret

Form = dict[str, str]


class Renewal(Enum):
    """The source of new tokens when a refresh is impossible."""

    LOGIN = "a person logs in"
    CONFIGURATION = "the configuration gives a new refresh token"
    ITSELF = "each token request is independent: it needs no refresh token"
    NEVER = "no token is requested: the configuration gives the token itself"


class Login(Enum):
    """The way in which a person logs in, for a grant that needs one."""

    REDIRECT = "the browser comes back with a code"
    DEVICE = "the person enters a user code, and the token endpoint is polled"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a parameter that is made anew for each request is made of."""

    endpoint: str  # the URL of the token endpoint
    now: float  # Unix seconds
    content: Secret | None = None  # of `Grant.file`


def _no_file(_credential: Credential) -> Path | None:
    return None


@dataclass(frozen=True, slots=True)
class Grant:
    """One way to get tokens.

    `form(credential, refresh_token)` is the form of the next token request; None if it needs a refresh token
    and there is none, or if no token is ever requested. `remedy(credential, account)` tells people how to get
    new tokens when no request can; "" if that can't happen. Where a parameter must be made anew for each
    request, such as a signed assertion, `proof(credential, proof)` makes it, of the content of
    `file(credential)` if that is a path.
    """

    name: str  # as in the configuration
    grant_type: str  # as in `form` (RFC 6749), without a refresh token if it can; "" if it is not OAuth's
    renewal: Renewal
    form: Callable[[Credential, Secret | None], Form | None]
    remedy: Callable[[str, str], str]
    place: str = "issuer or token_endpoint"  # the keys that have the server's address
    login: Login = Login.REDIRECT  # where `needs_person`
    login_type: str = ""  # the parameter grant_type of its login, where it has one
    file: Callable[[Credential], Path | None] = _no_file
    proof: Callable[[Credential, Proof], Form] | None = None
    # seconds between tries after invalid_grant: many servers lock an account after a few wrong passwords
    pause_when_refused: float = 0.0
    # what invalid_grant means where there is no refresh token, and the next step; {credential} is its name
    refused: tuple[str, str] = (
        "the authorization server refuses this client's requests",
        "check the table credentials.{credential} of the configuration",
    )

    @property
    def needs_person(self) -> bool:
        """Whether the first tokens need a login."""
        return self.renewal is Renewal.LOGIN

    @property
    def is_fixed(self) -> bool:
        """Whether the configuration gives the token itself: nothing is requested, stored or refreshed."""
        return self.renewal is Renewal.NEVER

    @property
    def renews_itself(self) -> bool:
        """Whether it gets new tokens without a refresh token."""
        return self.renewal is Renewal.ITSELF


def refresh_form(_credential: Credential, refresh_token: Secret | None) -> Form | None:
    """RFC 6749 section 6. Without a scope: the granted scope is kept, and a refresh can't widen it."""
    if refresh_token is None:
        return None
    return {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}


def with_scope(form: Form, credential: Credential) -> Form:
    """RFC 6749 section 3.3; without scopes the server decides."""
    return {**form, "scope": " ".join(credential.scopes)} if credential.scopes else form


def no_remedy(_credential: str, _account: str) -> str:
    """Of a grant that renews itself: the next token request is independent."""
    return ""
