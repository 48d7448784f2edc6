"""What is said about an account, by its reason: from the tables of proxy/tokens/diagnosis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from docs.tools.markdown import code, table, text
from proxy.oauth.grants import GRANTS, Grant, Renewal
from proxy.tokens.diagnosis.failures import CAUSES
from proxy.tokens.diagnosis.offline_access import GENERAL
from proxy.tokens.diagnosis.reasons import STORED, Reason, Row, Verdict
from proxy.tokens.login.failures import _BAD_ID_TOKEN, _ON_DEVICE, _REFUSALS

_MEANS: Final = {
    Verdict.SERVES: "requests are served",
    Verdict.UNTRIED: "the next request gets a token",
    Verdict.WAITS: "tried again by itself",
    Verdict.MISCONFIGURED: "the configuration or the client must change",
    Verdict.LOGIN: "a person must act",
}
_GRANTS: Final = {  # one that stands for those that are renewed alike
    renewal: next(grant for grant in GRANTS.values() if grant.renewal is renewal) for renewal in Renewal
}
_KINDS: Final = {
    Renewal.LOGIN: "with a login",
    Renewal.CONFIGURATION: "grant `refresh_token`",
    Renewal.ITSELF: "without a login",
    Renewal.NEVER: "grant `static`",
}
_FEW: Final = 2  # kinds of grants that a row names; one for more is the rule
_HEAD: Final = ("code", "what is said", "what to do", "meaning")
Message = tuple[str, str, str]


class _Fields(dict[str, str]):
    """The fields of a format string; one that is not listed stands for itself, in capitals."""

    def __missing__(self, key: str) -> str:
        return key.upper()


def of_the_store() -> str:
    """Reasons that are known from the store."""
    listed = [
        (reason, renewals, row)
        for _, reasons, renewals, row in STORED
        if row.sentence and len(reasons) < len(Reason)  # those of all reasons are about the state alone
        for reason in reasons
    ]
    rows = Counter(reason for reason, _, _ in listed)
    return _table(
        (str(reason), _of_grant(renewals, _message(row, _first(renewals)), tell=rows[reason] > 1))
        for reason, renewals, row in listed
    )


def _first(renewals: Collection[Renewal]) -> Grant:
    return next(grant for each, grant in _GRANTS.items() if each in renewals)


def _of_grant(renewals: Collection[Renewal], message: Message, *, tell: bool) -> Message:
    """With the grants that it is for, where others have a message of their own."""
    if not tell or len(renewals) > _FEW:
        return message
    return f"{' or '.join(_KINDS[each] for each in renewals)}: {message[0]}", *message[1:]


def of_requests() -> str:
    """Reasons why a request to the authorization server failed."""
    return _table((error, _message(row, _GRANTS[Renewal.LOGIN])) for error, row in CAUSES.items())


def of_logins() -> str:
    """Reasons why a login failed, but for those of requests."""
    told: dict[str, dict[str, None]] = defaultdict(dict)
    for error, sentence in [*_REFUSALS.items(), *_ON_DEVICE.items(), *_BAD_ID_TOKEN.items()]:
        told[sentence.format_map(_Fields())][error] = None
    rows = ((", ".join(map(code, errors)), text(sentence)) for sentence, errors in told.items())
    return table(("code", "what is said"), rows)


def _table(messages: Iterable[tuple[str, Message]]) -> str:
    """A row for each message, with all its codes."""
    codes: dict[Message, dict[str, None]] = defaultdict(dict)
    for each, message in messages:
        codes[message][each] = None
    return table(_HEAD, _rows(codes))


def _rows(codes: dict[Message, dict[str, None]]) -> Iterator[tuple[str, ...]]:
    for message, names in codes.items():
        yield ", ".join(map(code, names)), *message


def _message(row: Row, grant: Grant) -> Message:
    fields = _Fields(
        credential="NAME",
        option="",
        renew=grant.remedy("NAME", "default"),
        grant_type="GRANT",
        refused=grant.refused[0],
        check_refused=grant.refused[1],
        next_try="it is tried again",
        ends="at TIME",
        client_ends="at TIME",
        unauthorized="at TIME",
        place=f"{grant.place} of credentials.NAME",
        offline=GENERAL,
        missing="SCOPES",
    )
    remedy = row.remedy.format_map(fields) or "nothing: it is tried again"
    return text(row.sentence.format_map(fields)), text(remedy), _MEANS[row.verdict]
