"""A token set of an authorization server, with absolute times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.config.found import Found
from proxy.secret import Secret


class Principal(NamedTuple):
    """A person, as an authorization server knows them. Never in a log or a metric."""

    issuer: str
    subject: str  # with the issuer, identifies a person (OpenID Connect Core 1.0 section 5.7)
    name: str  # for display; may change, and is not unique

    @property
    def shown(self) -> str:
        return self.name or self.subject


def differ(one: Principal | None, other: Principal | None) -> bool:
    """Whether these are known to be different people; False if either is unknown (None)."""
    return one is not None and other is not None and one[:2] != other[:2]


class Refusal(NamedTuple):
    """The authorization server's refusals to refresh a token. Times are Unix seconds."""

    error: str  # an RFC code or one of a fixed list
    is_dead: bool  # invalid_grant, or a provider's code for it: the refresh token itself is refused
    since: float  # the first refusal of this kind
    last: float
    times: int
    decided_at: float | None = None  # when it became final: a person must log in


@dataclass(frozen=True, slots=True)
class Token:
    """The tokens of one response of a token endpoint. Immutable.

    `access_token` is None while only a refresh token is known (a seed from the configuration).
    Ages count from when the request was *sent*: the server issued the token after that.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    server: str  # the issuer or token endpoint that issued it: it is never sent to another
    client_id: str  # the client it was issued to, and whom that acts for: Credential.principal
    issued_at: float  # Unix seconds
    issued_boot: float  # the same instant on the boot clock ...
    boot_id: str  # ... of this boot
    lifetime: float | None = None  # seconds, of the access token; None: unknown
    refresh_in: float | None = None  # seconds; when the server wants a refresh
    skew: float | None = None  # seconds that its clock was ahead of our wall clock, at least; None: unknown
    refresh_expires_at: float | None = None  # Unix seconds, as last stated by the server; None: never stated
    refresh_renews: bool | None = None  # whether a refresh extends that; None: unknown yet
    login_at: float | None = None  # Unix seconds; None: unknown, or no login
    observed_lifetimes: tuple[
        float, ...
    ] = ()  # seconds; ages at which the last tokens of unknown lifetime got a 401
    since_last_401: int = 0  # tokens since then without a 401
    scope: str = ""  # as granted, space separated; empty: as requested
    seed: str = ""  # hash of the configured refresh token that started the chain
    ancestors: tuple[str, ...] = ()  # hashes of the last refresh tokens before it: see records.py
    principal: Principal | None = field(default=None, repr=False)  # who logged in, by the id_token
    refusal: Refusal | None = None  # of its refresh; a successful refresh clears it
    rejected: bool = False  # an upstream has answered 401 to the access token
    grant: str = ""  # the grant that obtained it; empty: earlier version, see oauth/binding.py
    endpoints: tuple[tuple[str, str], ...] = ()  # those configured then, by name
    token_endpoint: str = ""  # that issued it: used while discovery fails ...
    auth_method: str = ""  # ... with this client authentication ...
    auth_algorithm: str = ""  # ... whose JWT is signed with this one
    upstreams: tuple[tuple[str, str], ...] = ()  # members of its responses that may name upstreams
    dpop_key: Secret | None = None  # that it is bound to (oauth/dpop.py); None: to none
    found: Found | None = field(default=None, repr=False)  # the server and client of a credential with `mcp`
    nonce: str = field(default="", repr=False)  # in the login's id_token (OpenID Connect Core 1.0 12.2)

    @property
    def issued_by_server(self) -> float:
        """Unix seconds by the server's clock if known: comparable between hosts."""
        return self.issued_at + (self.skew or 0.0)

    @property
    def expires_at(self) -> float | None:
        """Unix seconds, by this machine's wall clock at the time of issue."""
        return None if self.lifetime is None else self.issued_at + self.lifetime
