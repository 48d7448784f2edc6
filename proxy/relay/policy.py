"""The policies of a request: `methods`, `allow` and `deny` of its route and of its caller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.http.body import keep_from_trailers
from proxy.http.message import RequestHead
from proxy.http.policy import Denial, Kind, Policy, read_path
from proxy.relay import problems
from proxy.relay.callers import Caller
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.routes import is_prefix

DETAILS: Final[dict[Kind, str]] = {
    "method": "the {owner}'s policy does not permit this method: see its `methods`",
    "field": "the {owner}'s policy does not permit fields that override the method or the path",
    "length": "the {owner}'s policy judges paths: expected one of at most 8192 bytes",
    "path": "the {owner}'s policy does not permit this path",
}
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]*)(.*)")


class Judged(NamedTuple):
    owner: str  # "route" or "caller"
    denial: Denial


def check(runtime: RouteRuntime, request: RequestHead, caller: Caller | None) -> None:
    """Raises Refusal (403) if a policy does not permit the request."""
    if runtime.policy is None and (caller is None or caller.policy is None):
        return
    judged = judge(runtime, request, caller)
    if judged is not None:
        detail = DETAILS[judged.denial.kind].format(owner=judged.owner)
        raise Refusal(problems.POLICY_DENIED, detail)


def judge(runtime: RouteRuntime, request: RequestHead, caller: Caller | None) -> Judged | None:
    """The first policy that does not permit the request; both apply."""
    for owner, policy in policies(runtime, caller):
        denial = policy.judge_head(request.method, request.fields.block)
        if denial is None and policy.judges_paths:
            denial = _judge_paths(policy, runtime, request)
        if denial is not None:
            return Judged(owner, denial)
        keep_from_trailers(request.body, policy.overrides)
    return None


def policies(runtime: RouteRuntime, caller: Caller | None) -> list[tuple[str, Policy]]:
    """The policies that apply, with the kind of their owner."""
    owners = ("route", runtime.policy), ("caller", caller.policy if caller is not None else None)
    return [(owner, each) for owner, each in owners if each is not None]


def allowing(policy: Policy, runtime: RouteRuntime, request: RequestHead) -> str:
    """The pattern of `allow` that fits the request's path; empty if `allow` is not given."""
    path = request.path[len(runtime.prefix) :]
    return policy.allowing(read_path(path))


def _judge_paths(policy: Policy, runtime: RouteRuntime, request: RequestHead) -> Denial | None:
    """For the request's path, and for where WebDAV's COPY and MOVE write to (RFC 4918 section 10.3)."""
    start = len(runtime.prefix)
    denial = policy.judge_path(read_path(request.path[start:]))
    if denial is not None or not request.fields.has_links:
        return denial
    for path in _destinations(request):
        if path is None or not is_prefix(runtime.prefix, path):
            return Denial("path")
        denial = policy.judge_path(read_path(path[start:]))
        if denial is not None:
            return denial
    return None


def _destinations(request: RequestHead) -> Iterator[bytes | None]:
    """The path of each Destination; None for one on another host, which may be the upstream's own name."""
    authority = (request.authority or "").lower().encode("latin-1")
    for value in request.fields.index.get(b"destination", ()):
        absolute = _ABSOLUTE.fullmatch(value)
        if absolute is not None:
            yield absolute[2] or b"/" if absolute[1].lower() == authority else None
        else:
            yield value if value.startswith(b"/") and not value.startswith(b"//") else None
