"""The diagnosis table: what every interface reports about an account. Pure.

    (state, reason, grant)  ->  what is wrong, since when, the next step, whether a person must act

Problem documents, exit codes, /api/status, /readyz, the pages, the commands, the metric `login_required` and
the log event of that name all read it, so that they never contradict each other. Reasons are codes: those of
`Reason` (what is stored), else those of AuthorizationServerError (why the last token request failed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from proxy.errors import (
    AuthorizationServerError,
    LoginRequired,
    Misconfigured,
    TokenError,
    TokenUnavailable,
)
from proxy.failure_causes import Cause
from proxy.oauth.grants import Grant, Renewal
from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT
from proxy.tokens.diagnosis.failures import CAUSES, row_of
from proxy.tokens.diagnosis.hints import HINTS, OF_CAUSES
from proxy.tokens.diagnosis.offline_access import GENERAL
from proxy.tokens.diagnosis.reasons import STORED, Reason, Row, Verdict
from proxy.tokens.last_attempts import FailedLogin, Refused, Unauthorized
from proxy.tokens.lifetime import STATES, TokenState

LOGIN_NEEDED: Final = 3  # exit codes of `status` and `token`
FAILED: Final = 1
FINE: Final = 0
_CHECK: Final = "check the table credentials.{credential} of the configuration"
_REFUSED: Final = "{refused}"  # by the grant
_CHECK_REFUSED: Final = "{check_refused}"
_FAR: Final = 20 * 3600.0  # seconds; times further away are shown with their date
_LAST: Final = 253_402_300_000.0  # Unix seconds; the end of the year 9999, the last that datetime represents

_BEGINNINGS: Final[dict[TokenState, str]] = {  # how the sentence about a failure starts
    "valid": "the last refresh failed: ",
    "stale": "a refresh is due, and the last one failed: ",
    "expired": "the access token has expired, and there is no new one: ",
    "absent": "there is no access token yet: ",
    "login_required": "there is no new access token: ",
    "misconfigured": "",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about an account. Times are Unix seconds, None if there is none."""

    credential: str
    account: str
    grant: Grant
    state: TokenState
    reason: str
    usable: bool  # there is an access token that can be attached now
    now: float
    hint: str = ""  # of the last failure: AuthorizationServerError.hint
    cause: Cause | None = None  # of the last failure: AuthorizationServerError.cause
    can_refresh: bool = False
    failures: int = 0  # failed token requests since the last success
    failing_since: float | None = None  # the first of them
    refused: Refused | None = None  # the refusals that have ended the refresh token
    failed_login: FailedLogin | None = None  # the last login, if it failed
    unauthorized: Unauthorized | None = None  # the last 401 of an upstream to a new token
    next_try_at: float | None = None
    ends_at: float | None = None  # expiry of the access token
    client_ends_at: float | None = None  # expiry of the registered client
    scopes: tuple[str, ...] = ()
    missing_scopes: tuple[str, ...] = ()
    offline: str = GENERAL  # how to get a refresh token: of offline_access.py


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`sentence` (the cause) and `remedy` (the next step) are empty if there is nothing to report."""

    key: str
    reason: str  # a code
    verdict: Verdict
    sentence: str
    remedy: str
    usable: bool
    can_log_in: bool  # a login is possible and would help
    can_retry: bool  # another token request could help

    @property
    def needs_person(self) -> bool:
        """Whether a person must act: exit code 3, `login_required` 1."""
        return self.verdict is Verdict.LOGIN

    @property
    def serves(self) -> bool:
        """Whether requests are served, as far as is known: False if one would get a 503."""
        return self.usable or self.verdict in {Verdict.SERVES, Verdict.UNTRIED}

    @property
    def exit_code(self) -> int:
        """The exit code of `status` for this account."""
        if self.needs_person:
            return LOGIN_NEEDED
        return FINE if self.serves else FAILED

    @property
    def text(self) -> str:
        """Sentence and next step."""
        return "; ".join(part for part in (self.sentence, self.remedy) if part)

    def error(self, *, retry_after: int) -> TokenError:
        """The error of a request without a token. `retry_after`: seconds, for TokenUnavailable."""
        message = f"{self.key}: {self.text}"
        if self.verdict is Verdict.LOGIN:
            return LoginRequired(message, diagnosis=self)
        if self.verdict is Verdict.MISCONFIGURED:
            return Misconfigured(message, diagnosis=self)
        return TokenUnavailable(message, retry_after=retry_after, diagnosis=self)


def diagnose(facts: Facts) -> Diagnosis:
    """The diagnosis of an account, from the matching row of the table."""
    grant = facts.grant
    row = TABLE[facts.state, _row_key(facts.reason), grant.renewal]
    sentence, remedy = _filled(row, facts)
    is_failure = facts.reason not in _STORED_REASONS
    if is_failure:
        sentence += f" ({_with_cause(facts.reason, facts.cause)}{_count(facts)})"
        tries = _next_try(facts) + _first_try(facts)
        remedy = f"{remedy}; {tries}" if remedy else f"nothing to do: {tries}"
    elif facts.refused is not None and facts.reason in _REFUSALS:
        sentence += f" ({_refusals(facts.refused, facts.now)})"
    if facts.usable and row.verdict is Verdict.LOGIN:
        sentence += f"; the access token is used until it expires {_when(facts.ends_at, facts.now)}"
    helps = row.verdict is Verdict.LOGIN or facts.reason in _LOGIN_HELPS
    if facts.failed_login is not None and helps:
        failed = facts.failed_login
        sentence += f"; the last login failed {_when(failed.at, facts.now)}: {failed.sentence}"
    return Diagnosis(
        key=f"{facts.credential}/{facts.account}",
        reason=facts.reason,
        verdict=row.verdict,
        sentence=sentence,
        remedy=remedy,
        usable=facts.usable,
        can_log_in=grant.needs_person and helps,
        can_retry=facts.can_refresh,
    )


def explain_failure(
    error: AuthorizationServerError,
    credential: str,
    grant: Grant,
    scopes: tuple[str, ...],
    *,
    otherwise: str = "try again",
) -> str:
    """Why a request to the authorization server failed, and the next step: `otherwise` if none is known."""
    code, hint = error.error, error.hint
    row = CAUSES[row_of(code)]
    if grant.renews_itself and row_of(code) in _REFRESH_TOKEN_REFUSED:
        row = Row(Verdict.MISCONFIGURED, _REFUSED, _CHECK_REFUSED)
    facts = Facts(
        *(credential, DEFAULT_ACCOUNT, grant, "absent", code),
        usable=False,
        now=0.0,
        hint=hint,
        cause=error.cause,
        scopes=scopes,
    )
    sentence, remedy = _filled(row, facts)
    cause = f"{sentence} ({_with_cause(code, error.cause)})"
    return "; ".join(part for part in (cause, remedy or otherwise) if part)


def _with_cause(code: str, cause: Cause | None) -> str:
    return f"{code}: {cause.sentence}" if cause else code


def _row_key(reason: str) -> str:
    return reason if reason in _STORED_REASONS else row_of(reason)


def _filled(row: Row, facts: Facts) -> tuple[str, str]:
    """Sentence and next step of a row, with the facts filled in."""
    code, cause = facts.reason, facts.cause.code if facts.cause else ""
    remedy = HINTS.get((code, facts.hint)) or OF_CAUSES.get((code, cause)) or row.remedy
    fields = _fields(facts)
    return row.sentence.format_map(fields), remedy.format_map(fields)


def _fields(facts: Facts) -> dict[str, str]:
    """The fields that the format strings of rows may use."""
    renew = facts.grant.remedy(facts.credential, facts.account)
    return {
        "credential": facts.credential,
        "option": "" if facts.account == DEFAULT_ACCOUNT else f" --account {facts.account}",
        "place": _place(facts),
        "renew": renew,
        "if_renewed": f"if this persists, {renew}" if renew else "",
        "grant_type": facts.grant.grant_type,
        "refused": facts.grant.refused[0],
        "check_refused": facts.grant.refused[1].format(credential=facts.credential),
        "next_try": _next_try(facts),
        "ends": _when(facts.ends_at, facts.now),
        "client_ends": _when(facts.client_ends_at, facts.now),
        "scopes": ", ".join(facts.scopes) or "none requested",
        "missing": ", ".join(facts.missing_scopes),
        "offline": facts.offline,
        "route": facts.unauthorized.route if facts.unauthorized else "",
        "unauthorized": _when(facts.unauthorized.at if facts.unauthorized else None, facts.now),
    }


def _place(facts: Facts) -> str:
    """Where the configuration names the server's address."""
    return f"{facts.grant.place} of credentials.{facts.credential}"


def _next_try(facts: Facts) -> str:
    at = facts.next_try_at
    if at is None or at <= facts.now:
        return "next try with the next request"
    return f"next try {_when(at, facts.now)}"


def _first_try(facts: Facts) -> str:
    """The time of the only failure; `_count` has that of several."""
    if facts.failures != 1 or facts.failing_since is None:
        return ""
    return f", the first failed {_when(facts.failing_since, facts.now)}"


def _count(facts: Facts) -> str:
    if facts.failures <= 1:
        return ""
    since = "" if facts.failing_since is None else f" since {_time(facts.failing_since, facts.now)}"
    return f", {facts.failures} failures in a row{since}"


def _refusals(refused: Refused, now: float) -> str:
    """As `_count`, of refusals that the store has."""
    since = _when(refused.since, now)
    if refused.times <= 1:
        return f"{refused.code}, {since}"
    return f"{refused.code}, {refused.times} times since {since.removeprefix('at ')}"


def _when(at: float | None, now: float) -> str:
    if at is None or not math.isfinite(at) or not 0 <= at < _LAST:
        return "at a time that the server did not state"
    return f"at {_time(at, now)}"


def _time(at: float, now: float) -> str:
    """`at` must be a time that datetime represents."""
    time = datetime.fromtimestamp(at, UTC)
    return f"{time:%H:%M:%S} UTC" if abs(at - now) < _FAR else f"{time:%Y-%m-%d %H:%M} UTC"


def _of_failure(state: TokenState, code: str, renewal: Renewal) -> Row:
    """The row of a cause in a state. Without refresh tokens, a refusal concerns the client."""
    cause = CAUSES[code]
    is_ours, sentence = state == "misconfigured", cause.sentence
    if renewal is Renewal.ITSELF and code in _REFRESH_TOKEN_REFUSED:
        return Row(Verdict.MISCONFIGURED, _BEGINNINGS[state] + _REFUSED, _CHECK_REFUSED)
    verdict = Verdict.MISCONFIGURED if is_ours else cause.verdict
    remedy = cause.remedy or (_CHECK if is_ours else "")
    return Row(verdict, _BEGINNINGS[state] + sentence, remedy)


def _of_stored(state: TokenState, reason: Reason, renewal: Renewal) -> Row:
    return next(
        row
        for states, reasons, renewals, row in STORED
        if state in states and reason in reasons and renewal in renewals
    )


_REFUSALS: Final = (Reason.REFUSED, Reason.REFUSED_OTHERWISE, Reason.REFUSED_ALIKE)
_LOGIN_HELPS: Final = (
    Reason.NO_REFRESH_TOKEN,
    Reason.REFUSED_ALIKE,
    Reason.CLIENT_ENDS,
    *("consent_required", "login_required", "account_selection_required"),
)  # though not required
_STORED_REASONS: Final = frozenset(str(reason) for reason in Reason)
_REFRESH_TOKEN_REFUSED: Final = frozenset(
    code for code, row in CAUSES.items() if row is CAUSES["invalid_grant"]
)
TABLE: Final[dict[tuple[TokenState, str, Renewal], Row]] = {
    (state, str(reason), renewal): _of_stored(state, reason, renewal)
    for state in STATES
    for reason in Reason
    for renewal in Renewal
} | {
    (state, code, renewal): _of_failure(state, code, renewal)
    for state in STATES
    for code in CAUSES
    for renewal in Renewal
}

__all__ = ["TABLE", "Diagnosis", "Facts", "Reason", "Verdict", "diagnose", "explain_failure"]
