"""Was anything lost, used twice, or served that should not be? A history in, what is wrong with it out.

Everything here is a pure function of the history, so that it can be judged by histories written by hand
(test_checker.py). Times are those of the boot clock, which all processes of a machine share. That one process
sees what another has done within a second counts the seconds that it could use: not those in which the
nemesis had stopped it, the machine gave it no turn, or the store could not be reached.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from tests.jepsen.facts import Facts, Put, overlap
from tests.jepsen.history import Event, read
from tests.jepsen.story import story, summary

SEEN_WITHIN = 2.0  # seconds: the one of DESIGN 2.4, and one for a machine that is busy with the run itself
SPENT_WITHIN = 0.5  # seconds from taking a token to its use, on such a machine
RENEWED = 1.0  # seconds; a lease may be so old when its holder is stopped
CALLS = 15  # to the token endpoint for one account in SPAN: three processes, three attempts, and a reserve
SPAN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Fault:
    rule: str
    sentence: str
    at: float
    account: str | None


@dataclass(frozen=True, slots=True)
class Report:
    faults: list[Fault]
    text: str


def check(history: Sequence[Event]) -> Report:
    facts = Facts(history)
    faults = [fault for rule in RULES for fault in rule(facts)]
    told = [summary(facts, len(list(excused(facts))))]
    told += [f"FAULT ({fault.rule}) {fault.sentence}" for fault in faults]
    told += [story(facts, fault.at, fault.account) for fault in faults[:1]]
    return Report(faults, "\n".join(told))


# -- 1. what is attached


def only_what_is_saved_is_attached(facts: Facts) -> Iterator[Fault]:
    begun: dict[str, float] = {}
    for put in facts.puts:
        if put.access and put.may_count:
            begun[put.access] = min(begun.get(put.access, inf), put.since)
    for request in facts.by["request"]:
        if request["got"] < begun.get(request["token"], inf):
            yield _of_request("unsaved", request, "attached a token that nobody had saved by then")


def what_was_replaced_is_not_attached(facts: Facts) -> Iterator[Fault]:
    """Nor what was logged out; so nothing is attached after what replaced it was revoked."""
    for request in facts.by["request"]:
        heir = _heir(facts.saved[request["account"]], request["token"])
        if heir is None:
            continue
        age = facts.undisturbed(request.who, heir.at, request["got"])
        if age > SEEN_WITHIN:
            sentence = f"attached a token {age:.1f} s after generation {heir.generation} had replaced it"
            yield _of_request("replaced", request, sentence)


def _heir(saved: Sequence[Put], token: str) -> Put | None:
    """What was saved in place of `token`, and then never again the token itself."""
    last = max((number for number, put in enumerate(saved) if put.access == token), default=None)
    return saved[last + 1] if last is not None and last + 1 < len(saved) else None


def what_is_attached_is_valid(facts: Facts) -> Iterator[Fault]:
    """But for the time to see a logout, and for a family that was lost, whose tokens serve to their end."""
    for request in facts.by["request"]:
        access = facts.access.get(request["token"])
        if access is None or request["got"] < access.issued:
            yield _of_request("invalid", request, "attached a token that the server never gave")
            continue
        late = facts.undisturbed(request.who, access.expires, request["got"], store=False)
        if late > SPENT_WITHIN:
            yield _of_request("expired", request, f"attached a token {late:.1f} s after its end")
        end = facts.ended.get(access.family)
        if end is None or end.what == "reused":
            continue
        if (age := facts.undisturbed(request.who, end.at, request["got"])) > SEEN_WITHIN:
            yield _of_request("revoked", request, f"attached a token {age:.1f} s after its logout")


def what_is_answered_was_valid(facts: Facts) -> Iterator[Fault]:
    """The history must agree with itself: the API's judgement with what the server gave and revoked."""
    for judged in facts.by["judged"]:
        access = facts.access.get(judged["token"])
        ended = facts.ended.get(access.family) if access else None
        until = min(access.expires, ended.at if ended else inf) if access else -inf
        if judged["good"] != (judged.at < until) and abs(judged.at - until) > 0.05:
            sentence = f"the API judged {judged['token']} {judged['good']}, the server's log says otherwise"
            yield Fault("judged", sentence, judged.at, judged["account"])


def _of_request(rule: str, request: Event, sentence: str) -> Fault:
    return Fault(rule, f"{request.who}: {sentence}", request["got"], request["account"])


# -- 2. what is stored


def generations_only_grow(facts: Facts) -> Iterator[Fault]:
    """Each put follows one that was there, and none is followed twice; an emptied store begins anew."""
    for account in facts.accounts:
        puts = [put for put in facts.puts if put.account == account and put.may_count]
        for put in facts.saved[account]:
            if any(put.since <= at <= put.at for at in facts.flushed):
                continue  # before or after: nobody can tell
            same = [one for one in puts if one.epoch == put.epoch and one.since < put.at]
            if put.expected and all(one.generation != put.expected for one in same):
                yield _of_put("lost update", put, f"follows generation {put.expected}, which nobody wrote")
            twins = [one for one in same if one.outcome == "saved" and one.expected == put.expected]
            if twins[0] is not put:
                yield _of_put("lost update", put, f"follows {put.expected}, as {twins[0].process} did before")


def nothing_newer_is_overwritten(facts: Facts) -> Iterator[Fault]:
    for account in facts.accounts:
        newest: dict[tuple[int, int], Put] = {}
        for put in facts.saved[account]:
            place = facts.chain.get(put.refresh or "")
            if place is None:
                continue
            login, depth = place
            before = newest.get((put.epoch, login))
            if before is not None and facts.chain[str(before.refresh)][1] > depth:
                yield _of_put("lost update", put, f"holds an older refresh token than {before.generation}")
            else:
                newest[put.epoch, login] = put


def what_ends_in_the_store_works(facts: Facts) -> Iterator[Fault]:
    for stored in facts.by["stored"]:
        account, refresh = stored["account"], stored["refresh"]
        family = facts.family.get(refresh or "")
        ended = facts.ended.get(family or "")
        if stored["state"] == "valid":
            if ended is not None:
                sentence = "holds a refresh token that is revoked, and nobody has noticed"
            elif refresh in facts.spent:
                sentence = "holds a refresh token that is used up"
            else:
                continue
        elif stored["state"] == "login_required":
            if ended is not None and (ended.what == "reused" or facts.flushed):
                continue  # whether that was right, is judged there; an emptied store forgets a logout
            sentence = "demands a login, though its refresh token is good"
        elif stored["state"] == "logged_out":
            if any(event["account"] == account for event in facts.by["logging-out"]):
                continue
            sentence = "counts as logged out, and nobody has logged out"
        else:
            continue  # nothing_is_gone tells
        yield Fault("end", f"{account} {sentence}", facts.end, account)


def everything_settles(facts: Facts) -> Iterator[Fault]:
    states = {stored["account"]: stored["state"] for stored in facts.by["stored"]}
    for end in (*facts.by["end"], *facts.by["proof"]):
        good = end["ended"] in {"200", "done"}
        if good != (states.get(end["account"]) == "valid"):
            state = states.get(end["account"])
            sentence = f"{end.who}: {end['account']} came to {end['ended']}, and is stored as {state}"
            yield Fault("unsettled", sentence, end.at, end["account"])
    if not facts.by["proof"]:
        yield Fault("unsettled", "the run did not come to its end", facts.end, None)


def _of_put(rule: str, put: Put, sentence: str) -> Fault:
    where = f"{put.process} saved {put.account}'s generation {put.generation}"
    return Fault(rule, f"{where}: it {sentence}", put.at, put.account)


# -- 3. an emptied store


def nothing_is_gone(facts: Facts) -> Iterator[Fault]:
    """What a process held when the store was emptied, and could put back, is there again, or its heir."""
    processes = {event.who for event in facts.by["started"]}
    for flushed in facts.flushed:
        for account in facts.accounts:
            held = max(
                (place for process in processes if (place := _held(facts, process, account, flushed))),
                default=None,
            )
            if held and not any(place >= held for place in _after(facts, account, flushed)):
                sentence = f"{account}'s tokens were held when the store was emptied, and never put back"
                yield Fault("gone", sentence, flushed, account)


def _held(facts: Facts, process: str, account: str, when: float) -> tuple[int, int] | None:
    """The place of the newest token that the process certainly held, if it had time to put it back."""
    started, killed = facts.lives(process)
    until = min(killed, facts.end)
    if not started <= when < killed or facts.undisturbed(process, when, until) < SEEN_WITHIN:
        return None
    saved = [put for put in facts.saved[account] if put.at <= when]
    if any(put.state == "logged_out" for put in saved[-2:]):
        return None  # it may, but need not, know of that
    by_access = {put.access: put.refresh for put in saved if put.access}
    used = [
        by_access.get(request["token"])
        for request in facts.by["request"]
        if request.who == process and request["account"] == account and request["got"] <= when
    ]
    own = [put.refresh for put in saved if put.process == process]
    return max((facts.chain[token] for token in (*used, *own) if token in facts.chain), default=None)


def _after(facts: Facts, account: str, flushed: float) -> Iterator[tuple[int, int]]:
    """The places of all that was written after that, and of what is left; a logout is above all."""
    for put in facts.puts:
        if put.account == account and put.may_count and put.at >= flushed:
            yield (
                (sys.maxsize, 0) if put.state == "logged_out" else facts.chain.get(put.refresh or "", (-1, 0))
            )
    for stored in facts.by["stored"]:
        if stored["account"] == account:
            yield facts.chain.get(stored["refresh"] or "", (-1, 0))


# -- 4. families


def no_family_is_lost_without_an_excuse(facts: Facts) -> Iterator[Fault]:
    known = {event["family"] for event in excused(facts)}
    for reuse in facts.by["reused"]:
        if reuse["family"] not in known:
            after = reuse.at - facts.spent[reuse["refresh"]].at
            sentence = (
                f"refresh token {reuse['refresh']} came again {after:.1f} s after it was used up; "
                f"its family {reuse['family']} is revoked, and no holder had been stopped for that"
            )
            yield Fault("family", sentence, reuse.at, facts.account_of.get(reuse["refresh"]))


def excused(facts: Facts) -> Iterator[Event]:
    """The reuses that no client can help: a holder was stopped, after it had begun to send and before it had
    saved, for longer than its lease may have had left, and but for that the token would have come in time.
    """
    for reuse in facts.by["reused"]:
        senders = [event for event in facts.by["sending"] if event["refresh"] == reuse["refresh"]]
        if any(_was_stopped(facts, sending, reuse) for sending in senders):
            yield reuse


def _was_stopped(facts: Facts, sending: Event, reuse: Event) -> bool:
    spent = facts.spent[reuse["refresh"]]
    until = _saved_or_given_up(facts, sending, spent["refresh"])
    stops = [
        (since, end)
        for since, end in facts.pauses[sending.who]
        if sending.at <= since <= until and end - since >= facts.terms["lease"] - RENEWED
    ]
    stopped = overlap(stops, spent.at, reuse.at)
    return bool(stops) and reuse.at - spent.at - stopped < facts.terms["grace"] + SPENT_WITHIN


def _saved_or_given_up(facts: Facts, sending: Event, successor: str) -> float:
    account = facts.account_of.get(sending["refresh"])
    saved = (event.at for event in facts.by["saved"] if event["refresh"] == successor)
    given_up = (event.at for event in facts.by["released"] if event["account"] == account)
    own = {
        event.at
        for what in ("saved", "released")
        for event in facts.by[what]
        if event.who == sending.who and event.at > sending.at
    }
    return min((at for at in (*saved, *given_up) if at in own), default=inf)


# -- 5. calls


def calls_are_bounded(facts: Facts) -> Iterator[Fault]:
    calls: dict[str, list[float]] = {}
    for event in facts.by["sending"]:
        if account := facts.account_of.get(event["refresh"]):
            times = calls.setdefault(account, [])
            times.append(event.at)
            if len(times) > CALLS and event.at - times[-CALLS - 1] < SPAN:
                sentence = f"{account}: more than {CALLS} calls to the token endpoint in {SPAN:.0f} s"
                yield Fault("calls", sentence, event.at, account)


def who_must_log_in_is_not_tried_again(facts: Facts) -> Iterator[Fault]:
    for account in facts.accounts:
        for put in facts.saved[account]:
            if put.state != "login_required" or any(at >= put.at for at in facts.flushed):
                continue
            for sending in facts.by["sending"]:
                if sending["refresh"] != put.refresh or sending.at < put.at:
                    continue
                if facts.undisturbed(sending.who, put.at, sending.at) > SEEN_WITHIN:
                    sentence = f"{sending.who}: sent a token of {account} that is known to be refused"
                    yield Fault("calls", sentence, sending.at, account)


RULES: Sequence[Callable[[Facts], Iterator[Fault]]] = (
    no_family_is_lost_without_an_excuse,
    only_what_is_saved_is_attached,
    what_was_replaced_is_not_attached,
    what_is_attached_is_valid,
    what_is_answered_was_valid,
    generations_only_grow,
    nothing_newer_is_overwritten,
    what_ends_in_the_store_works,
    everything_settles,
    nothing_is_gone,
    calls_are_bounded,
    who_must_log_in_is_not_tried_again,
)


if __name__ == "__main__":
    print(check(read(Path(sys.argv[1]).glob("*.history"))).text)
