"""A token set as an authorization server gave it, with absolute times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.secret import Secret


class Principal(NamedTuple):
    """A person, as an authorization server knows them. Never in a log or a metric."""

    issuer: str
    subject: str  # with the issuer, all that tells people apart (OpenID Connect Core 1.0 section 5.7)
    name: str  # to be shown to the person; it may change, and two may bear the same

    @property
    def shown(self) -> str:
        return self.name or self.subject


def differ(one: Principal | None, other: Principal | None) -> bool:
    """Whether these are known to be different people; of who is not known (None), nothing is."""
    return one is not None and other is not None and one[:2] != other[:2]


class Refusal(NamedTuple):
    """That the authorization server has refused to refresh a token, and how often. Times are Unix seconds."""

    error: str  # an RFC code or one of a fixed list
    is_dead: bool  # it named the refresh token: invalid_grant, or another server's code for that
    since: float  # the first refusal of this kind
    last: float
    times: int
    decided_at: float | None = None  # when it was taken for final: a person must log in


@dataclass(frozen=True, slots=True)
class Token:
    """What one response of a token endpoint gave. Never changed, only replaced.

    `access_token` is None while nothing but a refresh token is known (a seed from the configuration).
    Ages are counted from when the request was *sent*: the server's clock started after that.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    server: str  # the issuer or token endpoint that gave it: it is never sent anywhere else
    client_id: str  # the client it was given to
    issued_at: float  # Unix seconds
    issued_boot: float  # the same instant on the boot clock ...
    boot_id: str  # ... of this boot
    lifetime: float | None = None  # seconds, of the access token; None: nothing says
    refresh_in: float | None = None  # seconds; when the server wants it refreshed
    skew: float | None = None  # seconds that its clock was ahead of our wall clock, at least; None: not told
    refresh_expires_at: float | None = None  # Unix seconds, as the server said last; None: it never did
    refresh_renews: bool | None = None  # whether a refresh puts that off; None: not seen yet
    login_at: float | None = None  # Unix seconds; None: not known, or there was none
    observed_lifetimes: tuple[
        float, ...
    ] = ()  # seconds; at which the last tokens of unknown life were refused
    since_last_401: int = 0  # tokens since then that were not
    scope: str = ""  # as granted, space separated; empty: as requested
    seed: str = ""  # hash of the configured refresh token that it descends from
    ancestors: tuple[str, ...] = ()  # hashes of the refresh tokens before it, the last ones: see records.py
    principal: Principal | None = field(default=None, repr=False)  # who logged in, if an id_token told
    refusal: Refusal | None = None  # of its refresh; a refresh that succeeds gives a token without one
    rejected: bool = False  # an upstream has answered 401 to the access token
    grant: str = ""  # the grant that gave it; empty: of an earlier version, see oauth/binding.py
    endpoints: tuple[tuple[str, str], ...] = ()  # those that the configuration gave by hand then, by name
    token_endpoint: str = ""  # that gave it: it serves on while discovery fails ...
    auth_method: str = ""  # ... with the client authentication that worked there
    nonce: str = field(default="", repr=False)  # in the login's id_token (OpenID Connect Core 1.0 12.2)

    @property
    def issued_by_server(self) -> float:
        """Unix seconds by the server's clock, as far as it has told: what hosts can compare."""
        return self.issued_at + (self.skew or 0.0)

    @property
    def expires_at(self) -> float | None:
        """Unix seconds, by this machine's wall clock at the time of issue."""
        return None if self.lifetime is None else self.issued_at + self.lifetime
