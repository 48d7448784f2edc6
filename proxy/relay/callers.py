"""Which caller a request comes from: by certificate, key, uid or gid, each narrowed by networks.

What a connection says (certificate, process, address) is read once, when its first request needs it; only
keys are looked at for each request. They are looked up by their SHA-256: so no comparison takes a time that
tells anything of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from proxy import caller_keys
from proxy.config import callers as configured
from proxy.config.callers import Network
from proxy.hosts import IPAddress, read_ip
from proxy.http.key_fields import KnownKeys, PresentedKey
from proxy.http.message import RequestHead
from proxy.http.policy import policy_of
from proxy.observe.request_metrics import CallerRequests, CallerTally
from proxy.relay import problems
from proxy.relay.interfaces import Downstream
from proxy.relay.problems import Refusal

NOT_A_KEY: Final = "this key is no caller's, has expired, or may not be used from this address"
NO_IDENTITY: Final = "this is no known caller: expected a key, for example in the field Token-Proxy-Key"
NOT_ANYONE: Final = "requests from this address are not accepted: see server.anyone"


class Caller:
    """A caller made ready for its requests."""

    def __init__(self, table: configured.Caller) -> None:
        self.name = table.name
        self.account = table.own_account
        self.networks: tuple[Network, ...] = table.networks
        self.policy = policy_of(table.methods, table.allow, table.deny)
        self.not_before: float = table.not_before or 0.0
        self.tally = CallerTally()  # of the process where there is one: see CallerTable.count_in
        self._routes: frozenset[str] | None = None if table.routes is None else frozenset(table.routes)
        self.accounts: tuple[str, ...] = table.accounts  # in the file's order
        self._accounts: frozenset[str] = frozenset(table.accounts)
        self._tokens: frozenset[str] = frozenset(table.tokens)
        self._has_all_accounts: bool = configured.ALL in table.accounts

    def may_use(self, route: str) -> bool:
        return self._routes is None or route in self._routes

    def may_fetch(self, credential: str) -> bool:
        """Whether it may have tokens of this credential itself."""
        return credential in self._tokens

    def may_name(self, account: str) -> bool:
        """Whether it may use this account of a route where requests name their account."""
        return self._has_all_accounts or account in self._accounts


class Standing:
    """What a connection says of its caller, apart from keys. `table`: the one that it was looked up in."""

    def __init__(self, table: CallerTable, address: IPAddress | None) -> None:
        self.table = table
        self.address = address  # None on a unix socket
        self.by_certificate: Caller | None = None
        self.otherwise: Caller | None = None  # if there is no key
        self.needs_none = False  # requests need no identity
        self._near: dict[str, bool] = {}

    def fits(self, caller: Caller) -> bool:
        """Whether the connection comes from the caller's networks, if it has any."""
        if not caller.networks:
            return True
        near = self._near.get(caller.name)
        if near is None:
            near = self._near[caller.name] = is_in(self.address, caller.networks)
        return near


class CallerTable:
    """All callers of a configuration, by identity."""

    def __init__(
        self,
        callers: Iterable[configured.Caller],
        anyone: tuple[Network, ...],
        signing_key: bytes,
        wall: Callable[[], float],
    ) -> None:
        """`signing_key`: of signed keys (caller_keys.py). `wall`: Unix time."""
        self._anyone = anyone
        self._signing_key = signing_key
        self._wall = wall
        self._by_name: dict[str, Caller] = {}
        self._by_digest: dict[bytes, Caller] = {}
        self._by_certificate: dict[tuple[str, str], Caller] = {}
        self._by_uid: dict[int, Caller] = {}
        self._by_gid: dict[int, Caller] = {}
        self._by_network: list[Caller] = []
        others: set[bytes] = set()
        unseen: set[bytes] = set()
        for table in callers:
            self._add(Caller(table), table)
            others |= {key.reveal().encode("ascii") for key in table.own_keys}
            unseen |= table.unseen_digests
        self.keys: KnownKeys | None = None  # what to look for in requests
        if self._by_name:
            self.keys = KnownKeys(frozenset(self._by_digest), others, unseen)

    def _add(self, caller: Caller, table: configured.Caller) -> None:
        self._by_name[caller.name] = caller
        self._by_digest.update(dict.fromkeys(table.digests, caller))
        self._by_certificate.update(
            {configured.read_certificate_name(each): caller for each in table.certificate}
        )
        self._by_uid.update(dict.fromkeys(table.uid, caller))
        self._by_gid.update(dict.fromkeys(table.gid, caller))
        if table.is_network:
            self._by_network.append(caller)

    def count_in(self, metrics: CallerRequests) -> None:
        """Count the requests of all callers there."""
        for caller in self._by_name.values():
            caller.tally = metrics.of(caller.name)

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def named(self, name: str) -> Caller | None:
        return self._by_name.get(name)

    def identify(
        self, request: RequestHead, downstream: Downstream, keys: list[PresentedKey] | None = None
    ) -> Caller | None:
        """The caller of a request; None where requests need no identity. Raises Refusal (401).

        `keys`: those that count, where not all of the request do.
        """
        standing = self._standing(downstream)
        keys = request.fields.keys if keys is None else keys
        by_key = self._by_key(keys, standing) if keys else None
        caller = standing.by_certificate or by_key or standing.otherwise
        if caller is None and not standing.needs_none:
            raise Refusal(problems.CALLER_UNKNOWN, NO_IDENTITY if self._by_name else NOT_ANYONE)
        return caller

    def how_known(self, caller: Caller, request: RequestHead, downstream: Downstream) -> str:
        """The kind of identity by which `identify` found this caller."""
        standing = self._standing(downstream)
        if standing.by_certificate is caller:
            return "certificate"
        is_by_key = any(self._owner(key) is caller for key in request.fields.keys)
        return "key" if is_by_key else "user, group or network"

    def by_field(
        self, request: RequestHead, downstream: Downstream, keys: list[PresentedKey] | None = None
    ) -> Caller | None:
        """The caller whose key stands in a field that no web page can set without a CORS preflight.

        All fields for keys are such, except Authorization: Basic, which browsers send by themselves.
        """
        standing = self._standing(downstream)
        for key in request.fields.keys if keys is None else keys:
            caller = self._owner(key) if key.needs_preflight else None
            if caller is not None and standing.fits(caller):
                return caller
        return None

    # -- keys

    def _by_key(self, keys: list[PresentedKey], standing: Standing) -> Caller | None:
        """Raises Refusal if one of them can only be meant for us and does not fit."""
        first: Caller | None = None
        for key in keys:
            caller = self._owner(key)
            if caller is None or not standing.fits(caller):
                if key.is_explicit:
                    raise Refusal(problems.CALLER_UNKNOWN, NOT_A_KEY)
            elif first is None:
                first = caller
        return first

    def _owner(self, key: PresentedKey) -> Caller | None:
        caller = self._by_digest.get(key.digest)
        if caller is not None:
            if self.keys is not None and key.digest in self.keys.unseen:
                self.keys.learn(key)
            return caller
        if not key.value.startswith(caller_keys.SIGNED):
            return None
        signed = caller_keys.read_signed(self._signing_key, key.value, self._wall())
        caller = None if signed is None else self._by_name.get(signed.name)
        if signed is None or caller is None or signed.issued < caller.not_before:
            return None
        return caller

    # -- connections

    def _standing(self, downstream: Downstream) -> Standing:
        standing = downstream.standing
        if standing is None or standing.table is not self:
            return self._stand(downstream)
        return standing

    def _stand(self, downstream: Downstream) -> Standing:
        text = downstream.peer_address
        address = read_ip(text) if text else None
        standing = downstream.standing = Standing(self, address)
        if not self._by_name:
            standing.needs_none = address is None or address.is_loopback or is_in(address, self._anyone)
            return standing
        if self._by_certificate and downstream.is_tls:
            certificates = [
                self._by_certificate.get(configured.comparable_name(kind, value))
                for kind, value in downstream.certificate_names()
            ]
            standing.by_certificate = _first(certificates, standing)
        candidates: list[Caller | None] = []
        process = downstream.process() if self._by_uid or self._by_gid else None
        if process is not None:
            candidates.append(self._by_uid.get(process.uid))
            candidates += [self._by_gid.get(gid) for gid in process.gids]
        standing.otherwise = _first([*candidates, *self._by_network], standing)
        return standing


def _first(callers: Iterable[Caller | None], standing: Standing) -> Caller | None:
    return next((each for each in callers if each is not None and standing.fits(each)), None)


def is_in(address: IPAddress | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)
