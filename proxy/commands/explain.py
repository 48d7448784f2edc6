"""`token-proxy explain`: which route, caller rule and credential would take a request, and how its token is.

The request is judged by the functions of the data path itself, and sent nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from proxy import generation
from proxy.admin.pages import relative
from proxy.commands.running_server import ask_server
from proxy.config.address import DEFAULT_PORTS, Address
from proxy.config.callers import ALL
from proxy.config.fault_messages import suggestion
from proxy.config.model import Config
from proxy.errors import ProxyError
from proxy.http.malformed import MalformedRequest
from proxy.http.message import RequestHead
from proxy.http.request_head import read_request
from proxy.http.target import upstream_path
from proxy.observe.status import Entry, entry
from proxy.relay import admission, policy, problems, token_requests
from proxy.relay.callers import Caller, Standing
from proxy.relay.interfaces import Downstream
from proxy.relay.peer_process import Process
from proxy.relay.problems import Case, Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.server import RelayServer
from proxy.relay.token_requests import TokenAsked
from proxy.services import Services, open_services
from proxy.store.base import AccountId

PASSES: Final = 0
REFUSED: Final = 1
WIDTH: Final = 12  # of the first column
_URL: Final = re.compile(r"(?:(?P<scheme>https?)://(?P<authority>[^/?#]+))?(?P<target>[/?][^#]*)?(?:#.*)?")
_PORT: Final = re.compile(r":([0-9]{1,5})\Z")
Say = Callable[[str], object]


class CannotExplain(ProxyError):
    """The command names no URL, or an unknown caller."""


@dataclass(slots=True)
class Asked:
    """A request as the command describes it. `own`: the route that has its listener to itself."""

    data: bytes
    own: RouteRuntime | None
    local_address: str
    is_tls: bool


@dataclass(slots=True)
class Peer:
    """The part of a Downstream that admission looks at: a program on this machine."""

    local_address: str
    is_tls: bool
    standing: Standing | None
    peer_address: str = "127.0.0.1"

    def certificate_names(self) -> list[tuple[str, str]]:
        return []

    def process(self) -> Process | None:
        return None


@dataclass(slots=True)
class Report:
    """What is printed, line by line."""

    lines: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        self.lines.append(f"{name:<{WIDTH}}{text}".rstrip())

    def refuse(self, case: Case, detail: str) -> int:
        self.add("outcome", f"refused: {case.status} {case.ending}: {detail}")
        return REFUSED


async def explain(config: Config, method: str, url: str, caller: str | None, say: Say) -> int:
    """Returns 0 if the request would pass, else 1. Raises CannotExplain, StoreError, ConfigError."""
    report = Report()
    async with open_services(config) as services:
        relay = await generation.relay_of(services)
        try:
            asked = _asked(config, relay, method.upper(), url)
            code = await _explained(services, relay, asked, _standing(relay, caller, asked), report)
        finally:
            await relay.close()
    say("\n".join(report.lines))
    return code


def _asked(config: Config, relay: RelayServer, method: str, url: str) -> Asked:
    """Raises CannotExplain."""
    parts = _URL.fullmatch(url)
    if parts is None or not url:
        raise CannotExplain("expected a URL of this proxy, http://localhost:8080/path, or a path: /path")
    scheme, authority, target = parts["scheme"] or "http", parts["authority"], parts["target"] or "/"
    target = target if target.startswith("/") else f"/{target}"
    own = _owner(config, relay, scheme, authority) if authority else None
    head = f"{method} {target} HTTP/1.1\r\nHost: {authority or 'localhost'}\r\n\r\n"
    return Asked(head.encode("utf-8", "surrogateescape"), own, "127.0.0.1", scheme == "https")


def _owner(config: Config, relay: RelayServer, scheme: str, authority: str) -> RouteRuntime | None:
    """The route that has the URL's listener to itself; listeners are known by their port, then their host.

    Raises CannotExplain.
    """
    found = _PORT.search(authority)
    port = int(found[1]) if found else DEFAULT_PORTS[scheme]
    host = _PORT.sub("", authority).strip("[]").lower()
    places: list[tuple[Address | None, RouteRuntime | None]] = [
        *((each.route.listen, each) for each in relay.runtimes),
        *((address, None) for address in config.server.listen),
    ]
    there = [(address.host, own) for address, own in places if address is not None and address.port == port]
    for name, address in (("admin", config.server.admin), ("health", config.server.health)):
        if not there and address is not None and address.port == port:
            raise CannotExplain(f"port {port} is the {name} listener's: expected a URL of a data listener")
    there.sort(key=lambda place: place[0] != host)
    return there[0][1] if there else None


def _standing(relay: RelayServer, name: str | None, asked: Asked) -> Peer:
    """Raises CannotExplain."""
    peer = Peer(asked.local_address, asked.is_tls, None)
    if name is None:
        return peer
    table = relay.context.callers
    caller = None if table is None else table.named(name)
    if table is None or caller is None:
        known = [] if table is None else table.names
        remedy = suggestion(name, known) or (f"known: {', '.join(known)}" if known else "there are none")
        raise CannotExplain(f"the configuration has no caller {name!r}: {remedy}")
    peer.standing = Standing(table, None)
    peer.standing.by_certificate = caller
    return peer


async def _explained(services: Services, relay: RelayServer, asked: Asked, peer: Peer, report: Report) -> int:
    context = relay.context
    report.add("config", services.config.place)
    report.add("request", asked.data.partition(b" HTTP/1.1")[0].decode("utf-8", "replace"))
    try:
        request = read_request(asked.data, context.head_limits)
        runtime, path, caller = admission.admit(context, request, asked.own, cast("Downstream", peer))
    except MalformedRequest as error:
        refusal = problems.of_malformed(error)
        return report.refuse(refusal.case, refusal.detail)
    except Refusal as refusal:
        return report.refuse(refusal.case, _with_callers(refusal, relay))
    except TokenAsked as question:
        return await _explain_token(services, request, question.caller, report)
    _describe(report, runtime, request, path, caller)
    try:
        admission.permit(runtime, request, caller)
    except Refusal as refusal:
        return report.refuse(refusal.case, _with_pattern(refusal, runtime, request, caller))
    report.add("policy", ", ".join(_permitting(runtime, request, caller)) or "none")
    report.add("credential", runtime.route.credential)
    if runtime.account_field:
        return _judge_named(report, runtime.account_field.decode(), caller)
    key = (runtime.fixed or runtime.account(request, caller)).key
    report.add("account", key.account)
    token = await _entry(services, key)
    nowhere = await _nowhere(services, runtime, key) if token["serves"] else None
    return _judge_token(report, token, services.clock.wall(), nowhere)


async def _explain_token(
    services: Services, request: RequestHead, caller: Caller | None, report: Report
) -> int:
    """A request for a token itself."""
    report.add("route", "none: this proxy itself gives tokens there")
    try:
        wanted = token_requests.wanted(request, caller)
    except Refusal as refusal:
        return report.refuse(refusal.case, refusal.detail)
    report.add("caller", caller.name if caller is not None else "")
    report.add("credential", wanted.credential)
    report.add("account", wanted.account)
    entry_of = await _entry(services, AccountId(wanted.credential, wanted.account))
    return _judge_token(report, entry_of, services.clock.wall(), None)


def _with_callers(refusal: Refusal, relay: RelayServer) -> str:
    if refusal.case is not problems.CALLER_UNKNOWN or relay.context.callers is None:
        return refusal.detail
    return f"{refusal.detail}; see --caller: {', '.join(relay.context.callers.names)}"


def _describe(
    report: Report, runtime: RouteRuntime, request: RequestHead, path: bytes, caller: Caller | None
) -> None:
    route = runtime.route
    report.add("route", f"{route.name} ({', '.join(_place(runtime))})")
    mapped = upstream_path(runtime.base, runtime.prefix, path, strip=runtime.strip).decode("ascii")
    report.add("upstream", f"{request.method.decode('ascii')} {route.upstream.origin}{mapped}")
    report.add("caller", caller.name if caller is not None else "none is asked for")


def _place(runtime: RouteRuntime) -> Iterator[str]:
    route = runtime.route
    for key, value in (("host", route.host), ("path", route.path), ("listen", route.listen)):
        if value is not None:
            yield f"{key} = {value}"


def _with_pattern(
    refusal: Refusal, runtime: RouteRuntime, request: RequestHead, caller: Caller | None
) -> str:
    """The detail, with what the responses of the proxy leave out."""
    judged = policy.judge(runtime, request, caller) if refusal.case is problems.POLICY_DENIED else None
    if judged is None or judged.denial.kind != "path":
        return refusal.detail
    pattern = judged.denial.pattern
    return f"{refusal.detail}: " + (f"deny has {pattern}" if pattern else "no pattern of allow fits")


def _permitting(runtime: RouteRuntime, request: RequestHead, caller: Caller | None) -> Iterator[str]:
    for owner, each in policy.policies(runtime, caller):
        pattern = policy.allowing(each, runtime, request)
        yield f"the {owner}'s permits it" + (f" by {pattern}" if pattern else "")


def _judge_named(report: Report, name: str, caller: Caller | None) -> int:
    """For a request that names its account in the field `name`."""
    accounts = (ALL,) if caller is None else caller.accounts
    limit = "" if ALL in accounts or not accounts else f"; this caller may name {', '.join(accounts)}"
    report.add("account", f"named by each request, in the field {name}{limit}")
    if not accounts:
        detail = "this caller may name no account: see `accounts` of the caller"
        return report.refuse(problems.CALLER_DENIED, detail)
    report.add("outcome", "passes, if it names an account that has a token")
    return PASSES


async def _entry(services: Services, key: AccountId) -> Entry:
    """As `status` shows it: from a running server, else from the store."""
    status = await ask_server(services.config)
    for each in status["tokens"] if status is not None else []:
        if (each["credential"], each["account"]) == key:
            return each
    return entry(await services.tokens.look_at(key), services.config)


async def _nowhere(services: Services, runtime: RouteRuntime, key: AccountId) -> Refusal | None:
    """Why the stored token leads to no upstream, where its response must name one."""
    attachment = (await services.tokens.look_at(key)).attachment if runtime.moves else None
    if attachment is None:
        return None
    try:
        runtime.of_token(attachment)
    except Refusal as refusal:
        return refusal
    return None


def _judge_token(report: Report, token: Entry, now: float, refusal: Refusal | None) -> int:
    ends = token["expires_at"]
    expiry = "" if ends is None else f", {'expires' if ends > now else 'expired'} {relative(ends, now)}"
    report.add("token", token["state"].replace("_", " ") + expiry)
    advice = "; ".join(part for part in (token["reason"], token["remedy"]) if part)
    if token["serves"]:
        if advice:
            report.add("", advice)
        if refusal is not None:
            return report.refuse(refusal.case, refusal.detail)
        report.add("outcome", "passes")
        return PASSES
    case = problems.MISCONFIGURED if token["state"] == "misconfigured" else problems.TOKEN_UNAVAILABLE
    return report.refuse(problems.LOGIN_REQUIRED if token["needs_person"] else case, advice)
