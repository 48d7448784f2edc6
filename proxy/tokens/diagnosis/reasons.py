"""Reasons of an account's state that are known from the store: the first half of the table.

The other half, why the last token request failed, is failures.py. Rows are tried in order: the first match
wins. A new reason needs a member of `Reason` and its rows here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from proxy.oauth.grants import Renewal
from proxy.tokens.lifetime import STATES, TokenState


class Reason(StrEnum):
    """What is known without a request to the authorization server."""

    NONE = ""
    NOT_ASKED = "not_asked"  # no access token was ever requested
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105 (a code)
    SCOPES_NOT_GRANTED = "scopes_not_granted"
    NO_LOGIN = "no_login"
    LOGGED_OUT = "logged_out"
    OTHER_CLIENT = "other_client"  # the stored tokens are from another server or client
    REFUSED = "refused"  # the server refuses the refresh token, finally
    REFUSED_OTHERWISE = (
        "refused_otherwise"  # the refresh, repeatedly, by codes that do not name the refresh token
    )
    REFUSED_ALIKE = "refused_alike"  # as other accounts of the client are, and none has succeeded since
    UNAUTHORIZED = "upstream_unauthorized"  # an upstream refuses new tokens
    CLIENT_ENDS = "registration_ends"  # the registered client of its tokens, within days
    CLIENT_EXPIRED = "registration_expired"  # the registered client of its tokens
    CLIENT_FORGOTTEN = "registration_forgotten"  # the server does not know it any more
    UNREADABLE = "unreadable"  # the store's key does not decrypt the record
    FOR_CALLERS = "for_callers"  # each caller's own token is exchanged: the account itself has none
    NOT_READ = "not_read"  # the store could not be read
    VALUE_LOST = "value_lost"  # grant static: what the configuration refers to can't be used now
    HELD_BACK = "held_back"  # other accounts of the client have opened the circuit breaker


CLIENT_ENDED: Final = {  # by code of the refusal: the refresh token has ended with its client
    "client_expired": Reason.CLIENT_EXPIRED,
    "client_forgotten": Reason.CLIENT_FORGOTTEN,
}


class Verdict(Enum):
    """What it means for requests and for people."""

    SERVES = "its tokens are attached"
    UNTRIED = "not tried yet: the next token request may succeed"
    WAITS = "no new token for now: retried automatically"
    MISCONFIGURED = "the configuration, or the client's registration, must change"
    LOGIN = "a person must act: log in, or give the configuration a new refresh token"


@dataclass(frozen=True, slots=True)
class Row:
    """`sentence` and `remedy` are format strings; diagnosis._fields lists their fields."""

    verdict: Verdict
    sentence: str
    remedy: str = ""


ANY: Final[tuple[TokenState, ...]] = STATES
USABLE: Final[tuple[TokenState, ...]] = ("valid", "stale")
ANY_GRANT: Final = tuple(Renewal)
BY_PERSON: Final = (Renewal.LOGIN, Renewal.CONFIGURATION)

_NOTHING_TO_DO: Final = "nothing to do: the next request gets a token"
_LASTING: Final = "to get a refresh token, first {offline}"
_KEY_BACK: Final = (
    "restore the store's key; if it is in place, run `token-proxy logout {credential}{option}`, which sets "
    "the record aside"
)
_ANOTHER: Final = "{renew}: another client is registered then"
_UNREADABLE: Final = "its record in the store can't be read"
_OTHER_CLIENT: Final = "the stored tokens are from another server or client than the configured one"
_REFUSED: Final = "the authorization server refuses the refresh token"
_NO_REFRESH_TOKEN: Final = "the access token has expired, and the server gave no refresh token"  # noqa: S105 (a sentence)

Rows = tuple[tuple[tuple[TokenState, ...], tuple[Reason, ...], tuple[Renewal, ...], Row], ...]

STORED: Final[Rows] = (
    # -- the store
    (ANY, (Reason.UNREADABLE,), BY_PERSON, Row(Verdict.WAITS, _UNREADABLE, _KEY_BACK + ", then {renew}")),
    (ANY, (Reason.UNREADABLE,), (Renewal.ITSELF,), Row(Verdict.WAITS, _UNREADABLE, _KEY_BACK)),
    (
        ANY,
        (Reason.NOT_READ,),
        ANY_GRANT,
        Row(
            Verdict.WAITS,
            "the token store can't be read now",
            "it is read again with each request; if it keeps failing, see the log",
        ),
    ),
    (
        ANY,
        (Reason.VALUE_LOST,),
        ANY_GRANT,
        Row(
            Verdict.MISCONFIGURED,
            "its value can't be read now, and the last one that could be is attached",
            "restore what credentials.{credential}.value refers to; the log says what is wrong with it",
        ),
    ),
    (
        ANY,
        (Reason.HELD_BACK,),
        ANY_GRANT,
        Row(
            Verdict.WAITS,
            "the authorization server counts as down: it fails for other accounts of this client",
            "nothing to do: {next_try}",
        ),
    ),
    (
        ANY,
        (Reason.FOR_CALLERS,),
        ANY_GRANT,
        Row(
            Verdict.UNTRIED,
            "each caller's own token is exchanged for one of its own",
            "nothing to do: callers send theirs in the field of credentials.{credential}.subject_token",
        ),
    ),
    # -- a person must act
    (ANY, (Reason.REFUSED,), BY_PERSON, Row(Verdict.LOGIN, _REFUSED, "{renew}")),
    (
        ANY,
        (Reason.REFUSED_OTHERWISE,),
        BY_PERSON,
        Row(
            Verdict.LOGIN,
            "the authorization server keeps refusing to refresh the token",
            "{renew}; until then it is retried hourly for a day",
        ),
    ),
    (
        ANY,
        (Reason.REFUSED_ALIKE,),
        BY_PERSON,
        Row(
            Verdict.MISCONFIGURED,
            "the authorization server refuses to refresh the tokens of all accounts of this client",
            "check the client at the authorization server, and the table credentials.{credential}; "
            "if both are correct, {renew}",
        ),
    ),
    (
        ANY,
        (Reason.CLIENT_EXPIRED,),
        BY_PERSON,
        Row(Verdict.LOGIN, "the client that was registered for its tokens has expired", _ANOTHER),
    ),
    (
        ANY,
        (Reason.CLIENT_FORGOTTEN,),
        BY_PERSON,
        Row(
            Verdict.LOGIN,
            "the authorization server does not know the client any more that was registered for its tokens",
            _ANOTHER,
        ),
    ),
    (
        USABLE,
        (Reason.CLIENT_ENDS,),
        (Renewal.LOGIN,),
        Row(
            Verdict.SERVES,
            "the client that was registered for its tokens expires {client_ends}, and they with it",
            _ANOTHER + " from then on",
        ),
    ),
    (ANY, (Reason.LOGGED_OUT,), (Renewal.LOGIN,), Row(Verdict.LOGIN, "logged out", "{renew}")),
    (
        ANY,
        (Reason.LOGGED_OUT,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "logged out: the configured refresh token is not used again", "{renew}"),
    ),
    (ANY, (Reason.OTHER_CLIENT,), BY_PERSON, Row(Verdict.LOGIN, _OTHER_CLIENT, "{renew}")),
    (ANY, (Reason.NO_LOGIN,), (Renewal.LOGIN,), Row(Verdict.LOGIN, "nobody has logged in yet", "{renew}")),
    (
        ANY,
        (Reason.NO_LOGIN,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "no refresh token is configured", "{renew}"),
    ),
    (
        USABLE,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.LOGIN,),
        Row(
            Verdict.SERVES,
            "the server gave no refresh token: the access token expires {ends}",
            "{renew} before then; " + _LASTING,
        ),
    ),
    (
        USABLE,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.CONFIGURATION,),
        Row(
            Verdict.SERVES,
            "there is no refresh token: the access token expires {ends}",
            "{renew} before then",
        ),
    ),
    (
        ANY,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.LOGIN,),
        Row(Verdict.LOGIN, _NO_REFRESH_TOKEN, "{renew}; " + _LASTING),
    ),
    (
        ANY,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "the access token has expired, and there is no refresh token", "{renew}"),
    ),
    (("login_required",), tuple(Reason), BY_PERSON, Row(Verdict.LOGIN, _REFUSED, "{renew}")),
    # -- tokens are attached, and do not help
    (
        USABLE,
        (Reason.UNAUTHORIZED,),
        (Renewal.LOGIN, Renewal.CONFIGURATION, Renewal.ITSELF),
        Row(
            Verdict.SERVES,
            "the upstream of route {route} refuses new tokens with 401, the last time {unauthorized}",
            "check scopes, token_params (audience) and resource of credentials.{credential}, and upstream of "
            "the route",
        ),
    ),
    (
        USABLE,
        (Reason.UNAUTHORIZED,),
        (Renewal.NEVER,),
        Row(
            Verdict.SERVES,
            "the upstream of route {route} refuses this value with 401, the last time {unauthorized}",
            "replace credentials.{credential}.value, or correct attach there",
        ),
    ),
    # -- nothing is wrong, or nothing is known yet
    (
        ("valid",),
        (Reason.SCOPES_NOT_GRANTED,),
        ANY_GRANT,
        Row(
            Verdict.SERVES,
            "the server did not grant the scopes: {missing}",
            "check credentials.{credential}.scopes, and which scopes the server allows this client",
        ),
    ),
    (
        ANY,
        (Reason.NOT_ASKED,),
        (Renewal.ITSELF, Renewal.LOGIN),
        Row(Verdict.UNTRIED, "no token has been requested yet", _NOTHING_TO_DO),
    ),
    (
        ANY,
        (Reason.NOT_ASKED,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.UNTRIED, "the configured refresh token has not been used yet", _NOTHING_TO_DO),
    ),
    (
        ANY,
        (Reason.LOGGED_OUT,),
        (Renewal.ITSELF,),
        Row(Verdict.UNTRIED, "logged out", _NOTHING_TO_DO),
    ),
    (("valid",), tuple(Reason), ANY_GRANT, Row(Verdict.SERVES, "")),
    (
        ("stale",),
        tuple(Reason),
        ANY_GRANT,
        Row(Verdict.SERVES, "a refresh is due", "nothing to do: it is refreshed with the next request"),
    ),
    (
        ("expired",),
        tuple(Reason),
        ANY_GRANT,
        Row(Verdict.UNTRIED, "the access token has expired", _NOTHING_TO_DO),
    ),
    (
        ("absent", "login_required"),  # stored under another grant of the same client
        tuple(Reason),
        ANY_GRANT,
        Row(Verdict.UNTRIED, "there is no access token", _NOTHING_TO_DO),
    ),
    (
        ("misconfigured",),
        tuple(Reason),
        ANY_GRANT,
        Row(
            Verdict.MISCONFIGURED,
            "the authorization server refuses this client's requests",
            "check the table credentials.{credential} of the configuration",
        ),
    ),
)
