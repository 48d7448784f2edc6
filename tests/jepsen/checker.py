"""Was anything lost, used twice, or served when it should not be? Takes a history, returns its faults.

Everything here is a pure function of the history, so that it can be tested with histories written by hand
(test_checker.py). Times are those of the boot clock, which all processes of a machine share. The second in
which a process must see the changes of another does not count time in which the nemesis had stopped it, it
was starved by the machine, or the store was not reachable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from tests.jepsen.facts import Facts, Put, Token, overlap
from tests.jepsen.history import Event, read
from tests.jepsen.timeline import summary, timeline

SEEN_WITHIN = 2.0  # seconds: the one of DESIGN 2.4, and one for a machine that is busy with the run
SPENT_WITHIN = 0.5  # seconds from taking a token to its use, on such a machine
RENEWED = 1.0  # seconds; the age that a lease may have when its holder is stopped
CALLS = 15  # to the token endpoint for one account in SPAN: three processes, three attempts, and a reserve
SPAN = 5.0  # seconds
SHOWN = 3  # faults of a rule: one cause may affect every request


@dataclass(frozen=True, slots=True)
class Fault:
    sentence: str
    at: float
    account: str | None


@dataclass(frozen=True, slots=True)
class Report:
    faults: Mapping[str, Sequence[Fault]]  # by the name of the rule that is broken
    text: str


def check(history: Sequence[Event]) -> Report:
    facts = Facts(history)
    faults = {rule.__name__: found for rule in RULES if (found := list(rule(facts)))}
    lines = [summary(facts, len(list(excused(facts))))]
    for rule, found in faults.items():
        lines += [f"FAULT: {fault.sentence} ({rule})" for fault in found[:SHOWN]]
        lines += [f"FAULT: {len(found) - SHOWN} more of {rule}"] * (len(found) > SHOWN)
    if faults:
        first = min((fault for found in faults.values() for fault in found), key=lambda fault: fault.at)
        lines.append(timeline(facts, first.at, first.account))
    return Report(faults, "\n".join(lines))


# -- 1. what is attached


def only_saved_tokens_are_attached(facts: Facts) -> Iterator[Fault]:
    begun: dict[str, float] = {}
    for put in facts.puts:
        if put.access and put.may_count:
            begun[put.access] = min(begun.get(put.access, inf), put.since)
    for request in facts.by["request"]:
        if request["got"] < begun.get(request["token"], inf):
            yield _of_request(request, "attached a token that was not saved by then")


def replaced_tokens_are_not_attached(facts: Facts) -> Iterator[Fault]:
    """Nor after a logout; so nothing is attached after the revocation of its successor."""
    for request in facts.by["request"]:
        heir = _heir(facts.saved[request["account"]], request["token"])
        if heir is None:
            continue
        age = facts.undisturbed(request.who, heir.at, request["got"])
        if age > SEEN_WITHIN:
            sentence = f"attached a token {age:.1f} s after generation {heir.generation} had replaced it"
            yield _of_request(request, sentence)


def _heir(saved: Sequence[Put], token: str) -> Put | None:
    """The put that replaced `token` for good."""
    last = max((number for number, put in enumerate(saved) if put.access == token), default=None)
    return saved[last + 1] if last is not None and last + 1 < len(saved) else None


def attached_tokens_are_valid(facts: Facts) -> Iterator[Fault]:
    """Except within the time to see a logout, and in a lost family, whose tokens serve to their end."""
    for request in facts.by["request"]:
        access = facts.access_tokens.get(request["token"])
        if access is None or request["got"] < access.issued:
            yield _of_request(request, "attached a token that the server never issued")
            continue
        late = facts.undisturbed(request.who, access.expires, request["got"], store=False)
        if late > SPENT_WITHIN:
            yield _of_request(request, f"attached a token {late:.1f} s after its end")
        end = facts.ended.get(access.family)
        if end is None or end["reason"] == "reuse":
            continue
        if (age := facts.undisturbed(request.who, end.at, request["got"])) > SEEN_WITHIN:
            yield _of_request(request, f"attached a token {age:.1f} s after its logout")


def _of_request(request: Event, sentence: str) -> Fault:
    return Fault(f"{request.who}: {sentence}", request["got"], request["account"])


# -- 2. what is stored


def generations_only_grow(facts: Facts) -> Iterator[Fault]:
    """Each put follows an existing one, and none is followed twice; an emptied store begins anew."""
    for account in facts.accounts:
        puts = [put for put in facts.puts if put.account == account and put.may_count]
        for put in facts.saved[account]:
            if put.meets(facts.flushes):
                continue  # before or after: unknown
            same = [one for one in puts if one.epoch == put.epoch and one.since < put.at]
            if put.expected and all(one.generation != put.expected for one in same):
                yield _of_put(put, f"follows generation {put.expected}, which was never written")
            twins = [one for one in same if one.outcome == "saved" and one.expected == put.expected]
            if twins[0] is not put:
                yield _of_put(put, f"follows {put.expected}, as one of {twins[0].process} did before")


def nothing_newer_is_overwritten(facts: Facts) -> Iterator[Fault]:
    for account in facts.accounts:
        newest: dict[tuple[int, float], Put] = {}
        for put in facts.saved[account]:
            login, generation = facts.position(put.refresh)
            before = newest.get((put.epoch, login))
            if before is not None and facts.position(before.refresh) > (login, generation):
                yield _of_put(put, f"holds an older refresh token than {before.generation}")
            else:
                newest[put.epoch, login] = put


def final_records_are_usable(facts: Facts) -> Iterator[Fault]:
    for stored in facts.by["stored"]:
        token = facts.refresh_tokens.get(stored["refresh"] or "")
        sentence = _not_well(facts, stored, token) if token or stored["state"] == "logged_out" else None
        if sentence:
            yield Fault(f"{stored['account']} {sentence}", facts.end, stored["account"])


def _not_well(facts: Facts, stored: Event, token: Token | None) -> str | None:
    ended = facts.ended.get(token.family) if token else None
    match stored["state"]:
        case "valid" if ended:
            return "is stored as valid with a refresh token that is revoked"
        case "valid" if token and token.spent:
            return "is stored with a spent refresh token"
        case "login_required" if ended is None:
            return "demands a login, though its refresh token is good"
        case "login_required" if (
            ended and ended["reason"] == "client" and not facts.flushes
        ):  # a flush loses a logout
            return "demands a login, but was logged out"
        case "logged_out" if all(event["account"] != stored["account"] for event in facts.by["logging-out"]):
            return "counts as logged out without a logout"
    return None


def everything_settles(facts: Facts) -> Iterator[Fault]:
    states = {stored["account"]: stored["state"] for stored in facts.by["stored"]}
    for end in (*facts.by["end"], *facts.by["proof"]):
        good = end["ended"] in {"200", "done"}
        if good != (states.get(end["account"]) == "valid"):
            state = states.get(end["account"])
            sentence = f"{end.who}: {end['account']} ended with {end['ended']}, and is stored as {state}"
            yield Fault(sentence, end.at, end["account"])
    if not facts.by["proof"]:
        yield Fault("the run did not end", facts.end, None)


def _of_put(put: Put, sentence: str) -> Fault:
    where = f"{put.process} saved {put.account}'s generation {put.generation}"
    return Fault(f"{where}: it {sentence}", put.at, put.account)


# -- 3. an emptied store


def nothing_is_missing_after_a_flush(facts: Facts) -> Iterator[Fault]:
    """Records in the memory of a process that could restore them are there again, or their successors."""
    for _, flushed in facts.flushes:
        for account in facts.accounts:
            held = _held(facts, account, flushed)
            if held and not any(
                position >= facts.position(held.refresh) for position in _after(facts, account, flushed)
            ):
                who = f"{account}'s generation {held.generation}"
                yield Fault(f"{who} was held when the store was emptied, and not put back", flushed, account)


def _held(facts: Facts, account: str, when: float) -> Put | None:
    """The newest that certainly was in the memory of a process with enough time to restore it."""
    saved = [put for put in facts.saved[account] if put.at <= when]
    if any(put.state == "logged_out" for put in saved[-2:]):
        return None  # the processes may not know of the logout
    able = {event.who for event in facts.by["started"] if _lived_on(facts, event.who, when)}
    used = {
        request["token"]
        for request in facts.by["request"]
        if request.who in able and request["account"] == account and request["got"] <= when
    }
    return next((put for put in reversed(saved) if put.process in able or put.access in used), None)


def _lived_on(facts: Facts, process: str, when: float) -> bool:
    started, killed = facts.lives(process)
    return started <= when and facts.undisturbed(process, when, min(killed, facts.end)) >= SEEN_WITHIN


def _after(facts: Facts, account: str, flushed: float) -> Iterator[tuple[float, int]]:
    """The positions of all later puts, and of the stored records; a logout is above all."""
    for put in facts.puts:
        if put.account == account and put.may_count and put.at >= flushed:
            yield (inf, 0) if put.state == "logged_out" else facts.position(put.refresh)
    for stored in facts.by["stored"]:
        if stored["account"] == account:
            yield facts.position(stored["refresh"])


# -- 4. families


def no_family_is_lost_without_an_excuse(facts: Facts) -> Iterator[Fault]:
    known = list(excused(facts))
    for reuse in facts.reuses:
        if reuse not in known:
            after = reuse.at - _spent(facts, reuse)
            sentence = (
                f"refresh token {reuse['refresh']} came again {after:.1f} s after it was spent; "
                f"family {reuse['family']} is revoked, and no holder had been stopped for that"
            )
            yield Fault(sentence, reuse.at, reuse["account"])


def excused(facts: Facts) -> Iterator[Event]:
    """The reuses that no client can prevent: a holder was stopped, after it had begun to send and before it
    had saved, for longer than the rest of its lease; without that, and the stops of later holders of the
    lease, the token would have arrived in time.
    """
    for reuse in facts.reuses:
        senders = [event for event in facts.by["sending"] if event["refresh"] == reuse["refresh"]]
        if any(_was_stopped(facts, sending, reuse) for sending in senders):
            yield reuse


def _was_stopped(facts: Facts, sending: Event, reuse: Event) -> bool:
    spent, until = _spent(facts, reuse), _saved_or_given_up(facts, sending)
    stops = [
        (since, end)
        for since, end in facts.pauses[sending.who]
        if sending.at <= since <= until and end - since >= facts.terms["lease"] - RENEWED
    ]
    later = [
        stop
        for lease in facts.by["leased"]
        if lease["account"] == reuse["account"] and sending.at < lease.at < reuse.at
        for stop in facts.pauses[lease.who]
        if stop[0] >= lease.at
    ]
    stopped = overlap([*stops, *later], spent, reuse.at)
    return bool(stops) and reuse.at - spent - stopped < facts.terms["grace"] + SPENT_WITHIN


def _spent(facts: Facts, reuse: Event) -> float:
    spent = facts.refresh_tokens[reuse["refresh"]].spent
    assert spent is not None
    return spent


def _saved_or_given_up(facts: Facts, sending: Event) -> float:
    """The end of the refresh that `sending` belongs to."""
    successor = facts.successor(facts.refresh_tokens[sending["refresh"]])
    account = facts.account_of(sending["refresh"])
    ends = (
        event.at
        for event in (*facts.by["saved"], *facts.by["released"])
        if event.who == sending.who and event.at > sending.at
        if (event["refresh"] == successor if event.what == "saved" else event["account"] == account)
    )
    return min(ends, default=inf)


# -- 5. calls


def calls_are_bounded(facts: Facts) -> Iterator[Fault]:
    calls: dict[str, list[float]] = {}
    for event in facts.by["sending"]:
        if account := facts.account_of(event["refresh"]):
            times = calls.setdefault(account, [])
            times.append(event.at)
            if len(times) > CALLS and event.at - times[-CALLS - 1] < SPAN:
                sentence = f"{account}: more than {CALLS} calls to the token endpoint in {SPAN:.0f} s"
                yield Fault(sentence, event.at, account)


def one_process_sends_at_a_time(facts: Facts) -> Iterator[Fault]:
    """Unless the holder of the lease could not keep it: it was stopped, or the store was down."""
    for second in facts.by["sending"]:
        refresh = second["refresh"]
        for first in facts.by["sending"] if refresh else ():
            if first["refresh"] != refresh or first.who == second.who or first.at > second.at:
                continue
            if second.at < _waits_until(facts, first) and _could_renew(facts, first.who, second.at):
                sentence = f"{second.who} sent {refresh} while {first.who} was waiting for its response"
                yield Fault(sentence, second.at, facts.account_of(refresh))


def _waits_until(facts: Facts, sending: Event) -> float:
    """Until the response is saved, the request has failed, or the sender is dead."""
    none = (
        event.at
        for event in facts.by["answered"]
        if event.who == sending.who and event["refresh"] == sending["refresh"] and event.at > sending.at
        if event["outcome"] != "success"
    )
    _, killed = facts.lives(sending.who)
    return min([*none, _saved_or_given_up(facts, sending), killed])


def _could_renew(facts: Facts, process: str, until: float) -> bool:
    start = until - facts.terms["lease"]
    return facts.undisturbed(process, start, until) > RENEWED


def refused_tokens_are_not_sent_again(facts: Facts) -> Iterator[Fault]:
    for account in facts.accounts:
        for put in facts.saved[account]:
            if put.state != "login_required" or any(end >= put.at for _, end in facts.flushes):
                continue
            for sending in facts.by["sending"]:
                if sending["refresh"] != put.refresh or sending.at < put.at:
                    continue
                if facts.undisturbed(sending.who, put.at, sending.at) > SEEN_WITHIN:
                    sentence = f"{sending.who}: sent a token of {account} that is known to be refused"
                    yield Fault(sentence, sending.at, account)


RULES: Sequence[Callable[[Facts], Iterator[Fault]]] = (
    no_family_is_lost_without_an_excuse,
    only_saved_tokens_are_attached,
    replaced_tokens_are_not_attached,
    attached_tokens_are_valid,
    generations_only_grow,
    nothing_newer_is_overwritten,
    final_records_are_usable,
    everything_settles,
    nothing_is_missing_after_a_flush,
    calls_are_bounded,
    one_process_sends_at_a_time,
    refused_tokens_are_not_sent_again,
)


if __name__ == "__main__":
    print(check(read(Path(sys.argv[1]).glob("*.history"))).text)
