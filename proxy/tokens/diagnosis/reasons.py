"""Why an account is as it is, by what is stored of it: the first half of the table.

The other half, why the last request for a token failed, is failures.py. Rows are looked through in order:
the first that fits counts. A new reason is a member of `Reason` and its rows here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from proxy.oauth.grants import Renewal
from proxy.tokens.lifetime import STATES, TokenState


class Reason(StrEnum):
    """What is known without asking the authorization server."""

    NONE = ""
    NOT_ASKED = "not_asked"  # the authorization server was never asked for an access token
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105 (a code)
    SCOPES_NOT_GRANTED = "scopes_not_granted"
    NO_LOGIN = "no_login"
    LOGGED_OUT = "logged_out"
    OTHER_CLIENT = "other_client"  # what is stored is of another server or client
    REFUSED = "refused"  # the refresh token, for good
    REFUSED_OTHERWISE = "refused_otherwise"  # its refresh, again and again and in other words
    REFUSED_ALIKE = "refused_alike"  # so are other accounts of the client, and none has succeeded since
    UNREADABLE = "unreadable"  # the store's key does not open the record
    NOT_READ = "not_read"  # the store fails
    HELD_BACK = "held_back"  # its server counts as down by what other accounts of the client met


class Verdict(Enum):
    """What follows for requests and for people."""

    SERVES = "its tokens are attached"
    UNTRIED = "nothing is known against it: the next request for a token may bring one"
    WAITS = "no new token for now: it is tried again without anybody's help"
    MISCONFIGURED = "the configuration, or the client's registration, must change"
    LOGIN = "a person must act: log in, or give the configuration a new refresh token"


@dataclass(frozen=True, slots=True)
class Row:
    """`sentence` and `remedy` are formats; their fields are those of `Facts`, and of `_fields`."""

    verdict: Verdict
    sentence: str
    remedy: str = ""


ANY: Final[tuple[TokenState, ...]] = STATES
USABLE: Final[tuple[TokenState, ...]] = ("valid", "stale")
EVERYBODY: Final = tuple(Renewal)
BY_PERSON: Final = (Renewal.LOGIN, Renewal.CONFIGURATION)

_NOTHING_TO_DO: Final = "nothing to do: the next request gets a token"
_LASTING: Final = (
    'for a login that lasts, first set in credentials.{credential} the scope "offline_access" and '
    'authorize_params = {{ prompt = "consent" }} (OpenID providers), or authorize_params = '
    '{{ access_type = "offline", prompt = "consent" }} (Google)'
)
_KEY_BACK: Final = (
    "put the store's key back; if it is there, run `token-proxy logout {credential}{option}`, which sets the "
    "record aside"
)
_UNREADABLE: Final = "its record in the store can't be read"
_OTHER_CLIENT: Final = "what is stored is from another server or client than the configuration names now"
_REFUSED: Final = "the authorization server refuses the refresh token"
_NO_REFRESH_TOKEN: Final = "the access token has expired, and the server gave no refresh token"  # noqa: S105 (a sentence)

Rows = tuple[tuple[tuple[TokenState, ...], tuple[Reason, ...], tuple[Renewal, ...], Row], ...]

STORED: Final[Rows] = (
    # -- the store
    (ANY, (Reason.UNREADABLE,), BY_PERSON, Row(Verdict.WAITS, _UNREADABLE, _KEY_BACK + ", then {mend}")),
    (ANY, (Reason.UNREADABLE,), (Renewal.ITSELF,), Row(Verdict.WAITS, _UNREADABLE, _KEY_BACK)),
    (
        ANY,
        (Reason.NOT_READ,),
        EVERYBODY,
        Row(
            Verdict.WAITS,
            "the token store can't be read now",
            "nothing to do if it comes back: it is read again with each request; else see the log",
        ),
    ),
    (
        ANY,
        (Reason.HELD_BACK,),
        EVERYBODY,
        Row(
            Verdict.WAITS,
            "the authorization server fails for other accounts of this client, so it counts as down",
            "nothing to do: {next_try}",
        ),
    ),
    # -- only a person can help
    (ANY, (Reason.REFUSED,), BY_PERSON, Row(Verdict.LOGIN, _REFUSED, "{mend}")),
    (
        ANY,
        (Reason.REFUSED_OTHERWISE,),
        BY_PERSON,
        Row(
            Verdict.LOGIN,
            "the authorization server goes on refusing to refresh the token",
            "{mend}; until then it is tried again each hour for a day",
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
            "if nothing is wrong there, {mend}",
        ),
    ),
    (ANY, (Reason.LOGGED_OUT,), (Renewal.LOGIN,), Row(Verdict.LOGIN, "logged out", "{mend}")),
    (
        ANY,
        (Reason.LOGGED_OUT,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "logged out: the configured refresh token is not used again", "{mend}"),
    ),
    (ANY, (Reason.OTHER_CLIENT,), BY_PERSON, Row(Verdict.LOGIN, _OTHER_CLIENT, "{mend}")),
    (ANY, (Reason.NO_LOGIN,), (Renewal.LOGIN,), Row(Verdict.LOGIN, "nobody has logged in yet", "{mend}")),
    (
        ANY,
        (Reason.NO_LOGIN,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "there is no refresh token to begin with", "{mend}"),
    ),
    (
        USABLE,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.LOGIN,),
        Row(
            Verdict.SERVES,
            "the server gave no refresh token: this login ends {ends}",
            "{mend} before then; " + _LASTING,
        ),
    ),
    (
        USABLE,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.SERVES, "there is no refresh token: the access token ends {ends}", "{mend} before then"),
    ),
    (
        ANY,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.LOGIN,),
        Row(Verdict.LOGIN, _NO_REFRESH_TOKEN, "{mend}; " + _LASTING),
    ),
    (
        ANY,
        (Reason.NO_REFRESH_TOKEN,),
        (Renewal.CONFIGURATION,),
        Row(Verdict.LOGIN, "the access token has expired, and there is no refresh token", "{mend}"),
    ),
    (("login_required",), tuple(Reason), BY_PERSON, Row(Verdict.LOGIN, _REFUSED, "{mend}")),
    # -- nothing is wrong, or nothing is known yet
    (
        ("valid",),
        (Reason.SCOPES_NOT_GRANTED,),
        EVERYBODY,
        Row(
            Verdict.SERVES,
            "the server did not grant the scopes: {missing}",
            "check credentials.{credential}.scopes, and what the server lets this client ask for",
        ),
    ),
    (
        ANY,
        (Reason.NOT_ASKED,),
        (Renewal.ITSELF, Renewal.LOGIN),
        Row(Verdict.UNTRIED, "not asked for yet", _NOTHING_TO_DO),
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
    (("valid",), tuple(Reason), EVERYBODY, Row(Verdict.SERVES, "")),
    (
        ("stale",),
        tuple(Reason),
        EVERYBODY,
        Row(Verdict.SERVES, "a refresh is due", "nothing to do: it is refreshed with the next request"),
    ),
    (
        ("expired",),
        tuple(Reason),
        EVERYBODY,
        Row(Verdict.UNTRIED, "the access token has expired", _NOTHING_TO_DO),
    ),
    (
        ("absent", "login_required"),  # stored under another grant of the same client
        tuple(Reason),
        EVERYBODY,
        Row(Verdict.UNTRIED, "there is no access token", _NOTHING_TO_DO),
    ),
    (
        ("misconfigured",),
        tuple(Reason),
        EVERYBODY,
        Row(
            Verdict.MISCONFIGURED,
            "the authorization server refuses this client's requests",
            "check the table credentials.{credential} of the configuration",
        ),
    ),
)
