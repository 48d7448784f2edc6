"""For any fields and any connection the caller is the one that a small independent model finds."""

import base64
import hashlib
import ipaddress
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy import caller_keys
from proxy.config.callers import Caller
from proxy.http.message import HeadLimits
from proxy.http.request_head import read_request
from proxy.relay.callers import CallerTable
from proxy.relay.peer_process import Process
from proxy.relay.problems import Refusal

SECRET, NOW = b"s" * 32, 1764300000.0
A, B, C = "tpk_" + "a" * 43, "own-key-of-caller-b-", "of-c-by-digest-only-."
CALLERS = {
    "a": {"key": [A], "uid": [1], "not_before": NOW - 100},
    "b": {"key": [B], "networks": ["10.0.0.0/8", "127.0.0.1"], "gid": [7], "certificate": ["b.example"]},
    "c": {"key_sha256": [hashlib.sha256(C.encode()).hexdigest()], "certificate": ["urn:c"], "uid": [2]},
    "d": {"networks": ["192.168.0.0/16"]},
    "e": {"gid": [8, 9], "certificate": ["e@example"]},
}


def signed(name, age, ttl):
    return caller_keys.sign(SECRET, name, NOW - age, ttl)


SIGNED = {  # key -> the caller that it is for, as the rules of signed keys have it
    signed("a", 50, 60): "a",
    signed("a", 101, 200): None,  # made before not_before
    signed("a", 50, 40): None,  # expired
    signed("d", 0, 60): "d",
    signed("z", 0, 60): None,
    caller_keys.sign(b"other", "a", NOW, 60): None,
}
KEYS = [A, B, C, *SIGNED, "tpk_", "tpk_" + "x" * 43, A + "x", B[:-1], "", "sk-dummy-of-somebody", " "]
NAMES = ["Token-Proxy-Key", "Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Private-Token"]
OTHERS = ["X-Other", "X_Api_Key", "token_proxy_key", "Cookie", "-X-Api-Key", "Authorization_", "Accept"]


@dataclass
class Peer:
    peer_address: str
    names: list = field(default_factory=list)
    of: Process | None = None
    standing: object = None

    @property
    def is_tls(self):
        return bool(self.names)

    def certificate_names(self):
        return self.names

    def process(self):
        return self.of


def basic(password):
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


values = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(KEYS).map("Bearer {}".format),
    st.sampled_from(KEYS).map("bEARER  {}".format),
    st.sampled_from(KEYS).map(basic),
    st.sampled_from(["Basic x", "Digest " + A, "Bearer"]),
)
spelled = st.sampled_from([str, str.upper, str.lower])
lines = st.lists(
    st.tuples(st.sampled_from(NAMES + OTHERS), spelled, values).map(lambda made: (made[1](made[0]), made[2])),
    max_size=4,
)
san = st.sampled_from(
    [
        *(("DNS", "b.example"), ("DNS", "B.Example"), ("URI", "urn:c"), ("URI", "URN:c"), ("DNS", "urn:c")),
        *(("email", "e@example"), ("email", "e@EXAMPLE"), ("email", "E@example"), ("DNS", "x.example")),
    ]
)
ids = st.integers(0, 10)
tcp = st.builds(
    Peer,
    st.sampled_from(
        ["127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "192.168.1.1", "172.16.0.1", "::1", "fe80::1%x"]
    ),
    st.lists(san, max_size=3),
)
unix = st.builds(
    Peer,
    st.just(""),
    st.lists(san, max_size=1),
    st.builds(Process, ids, st.lists(ids, min_size=1, max_size=3)),
)


# -- the model: slow, and by the words of the contract


def near(name, peer):
    networks = CALLERS[name].get("networks")
    if networks is None:
        return True
    if not peer.peer_address:
        return False
    address = ipaddress.ip_address(peer.peer_address.split("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(each) for each in networks)


def owner(key):
    for name, caller in CALLERS.items():
        digests = [hashlib.sha256(each.encode()).hexdigest() for each in caller.get("key", [])]
        if hashlib.sha256(key.encode()).hexdigest() in digests + caller.get("key_sha256", []):
            return name
    return SIGNED.get(key)


def presented(fields):
    """(place in the contract's order, key, whether it is in Token-Proxy-Key)"""
    for name, value in ((name.lower(), value.strip()) for name, value in fields):
        if name == "authorization":
            scheme, _, rest = value.partition(" ")
            if scheme.lower() == "bearer":
                yield 1, rest.strip(), False
            elif scheme.lower() == "basic":
                try:
                    pair = base64.b64decode(rest.strip(), validate=True).decode()
                except ValueError:
                    continue
                yield 2, pair.partition(":")[2], False
        elif name in (
            places := ["token-proxy-key", "", "", "x-api-key", "api-key", "x-goog-api-key", "private-token"]
        ):
            yield places.index(name), value, name == "token-proxy-key"


def same_name(kind, value, wanted):
    if "@" in wanted:
        return kind == "email" and wanted == value.replace("EXAMPLE", "example")
    if ":" in wanted:
        return kind == "URI" and wanted == value
    return kind == "DNS" and wanted == value.lower()


def facts(peer):
    """What a connection tells, as (key of the caller's table, how to compare), in the contract's order."""
    for kind, value in peer.names:
        yield "certificate", lambda wanted, kind=kind, value=value: same_name(kind, value, wanted)
    yield "", None  # the place of keys
    if peer.of:
        yield "uid", lambda wanted: wanted == peer.of.uid
        for gid in peer.of.gids:
            yield "gid", lambda wanted, gid=gid: wanted == gid


def expected(fields, peer):
    """The caller's name; None: refused."""
    by_key = None
    for _, key, ours in sorted(presented(fields), key=lambda each: each[0]):
        name = owner(key)
        if name is None or not near(name, peer):
            if ours or key.startswith("tpk_"):
                return None
        else:
            by_key = by_key or name
    for kind, fits in facts(peer):
        if not kind and by_key:
            return by_key
        for name, caller in CALLERS.items():
            if kind and any(fits(wanted) for wanted in caller.get(kind, [])) and near(name, peer):
                return name
    return "d" if near("d", peer) else None


def goes_upstream(value):
    """Whether a field may; the rules for fields that never do, whatever they hold, are tested elsewhere."""
    given = [key for caller in CALLERS.values() for key in caller.get("key", [])]
    return not value.strip().startswith("tpk_") and value.strip() not in [*given, C]


def table():
    callers = [
        Caller.model_validate(made).model_copy(update={"name": name}) for name, made in CALLERS.items()
    ]
    return CallerTable(callers, (), SECRET, lambda: NOW)


TABLE = table()
LIMITS = HeadLimits(65536, 32768, 100, TABLE.keys)


@settings(max_examples=1500, deadline=None)
@given(lines, tcp | unix)
@example([("Token-Proxy-Key", B)], Peer("172.16.0.1"))
@example(
    [("Authorization", "Bearer " + A), ("Authorization", basic(C))], Peer("127.0.0.1", [("DNS", "b.example")])
)
@example([("X-Api-Key", B)], Peer("", [], Process(2, [7])))
def test_the_caller_is_the_models(fields, peer):
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = read_request(f"GET / HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode(), LIMITS)
    try:
        found = TABLE.identify(request, peer)
    except Refusal as refusal:
        found, ending = None, refusal.case.ending
    else:
        ending = ""
    assert ending == ("" if found else "caller-unknown")
    assert (found and found.name) == expected(fields, peer)
    if found is not None:
        proof = [
            key for place, key, _ in presented(fields) if place != 2 and owner(key) and near(owner(key), peer)
        ]
        assert (TABLE.by_field(request, peer) is not None) is bool(proof)
    passed = request.forwarded_fields.decode().split("\r\n")
    for name, value in fields:
        if not goes_upstream(value):
            assert f"{name}: {value}" not in passed
        elif name.lower() in {
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "private-token",
            "x-other",
            "x_api_key",
        }:
            carries = value.lower().startswith(("bearer", "basic"))
            assert carries or f"{name}: {value}" in passed


@settings(max_examples=300, deadline=None)
@given(st.text(), st.integers(0, 300), st.binary(max_size=60))
def test_no_other_text_is_a_signed_key(text, at, more):
    good = signed("a", 0, 60).encode()
    at %= len(good)
    for key in (
        text.encode(),
        good[:at] + more + good[at:],
        good[:at] + more + good[at + 1 :],
        good[:at] + more,
    ):
        assert (caller_keys.read_signed(SECRET, key, NOW) is None) is (key != good)
