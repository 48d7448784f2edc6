"""Who calls: by keys, certificates, processes and networks, on real connections; and what stays here."""

import asyncio
import base64
import hashlib
import json
import os
import ssl
import tempfile
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from proxy import caller_keys, listen
from proxy.config.address import Address
from proxy.observe.request_lines import RequestLines
from proxy.relay.callers import CallerTable
from proxy.relay.server import Listener

from .conftest import proxying

ANY = Address("127.0.0.1", 0)
BUILD = "tpk_" + "b" * 43
ROTATED = "tpk_" + "n" * 43
PLAIN = "a-key-of-our-own-making"  # a given key need not begin with tpk_
DIGEST = "only-its-digest-is-in-the-file"
CALLERS = f"""
[callers.build]
key = ["{BUILD}", "{ROTATED}"]
[callers.plain]
key = "{PLAIN}"
[callers.digest]
key_sha256 = "{hashlib.sha256(DIGEST.encode()).hexdigest()}"
"""


def basic(password, user="me"):
    return b"Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode())


def fields(key):
    """The seven places of a key, in the order in which they count."""
    return [
        b"Token-Proxy-Key: " + key.encode(),
        b"Authorization: Bearer " + key.encode(),
        basic(key),
        b"X-Api-Key: " + key.encode(),
        b"Api-Key: " + key.encode(),
        b"X-Goog-Api-Key: " + key.encode(),
        b"Private-Token: " + key.encode(),
    ]


@pytest.fixture
def make(tmp_path, upstream):
    """`async with make(tables, route=…) as proxy`: callers are written behind the configuration."""

    @asynccontextmanager
    async def make(callers=CALLERS, **more):
        async with proxying(
            tmp_path, f"http://127.0.0.1:{upstream.port}/base", limits=callers, **more
        ) as made:
            yield made

    return make


async def outcome(proxy, kit, *lines):
    """The status, and the ending of a problem."""
    status, _, body = kit.split(await proxy.get(b"/up/x", *lines))
    return status, json.loads(body)["type"].rpartition(":")[2] if status >= 400 else ""


def caller_requests(proxy):
    for family in proxy.state.metrics.registry.collect():
        if family.name == "token_proxy_caller_requests":
            return {tuple(each.labels.values()): each.value for each in family.samples}
    return None


# -- keys


@pytest.mark.parametrize("key", [BUILD, ROTATED, PLAIN, DIGEST])
@pytest.mark.parametrize("place", range(7))
async def test_a_key_in_each_field_identifies_its_caller_and_stays_here(make, kit, upstream, key, place):
    line = fields(key)[place]
    async with make() as proxy:
        assert await outcome(proxy, kit, line, b"X-Kept: yes") == (200, "")
        caller = {BUILD: "build", ROTATED: "build", PLAIN: "plain", DIGEST: "digest"}[key]
        assert caller_requests(proxy) == {(caller, "up", "200"): 1}
    (received,) = upstream.received
    assert b"X-Kept: yes" in received
    assert key.encode() not in received
    assert line not in received


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Token-Proxy-Key: " + PLAIN[:-1].encode()],
        [b"Token-Proxy-Key: "],
        [b"Token-Proxy-Key: Bearer " + PLAIN.encode()],
        [b"Token_Proxy_Key: " + PLAIN.encode()],
        [b"X_Api_Key: " + PLAIN.encode()],
        [b"Authorization: " + PLAIN.encode()],
        [b"Authorization: Digest " + PLAIN.encode()],
        [b"Authorization: Basic " + base64.b64encode(PLAIN.encode())],
        [b"Authorization: Basic " + base64.b64encode(f"{PLAIN}:".encode())],
        [b"Authorization: Basic !!!"],
        [b"Proxy-Authorization: Bearer " + PLAIN.encode()],
        [b"X-Auth-Token: " + PLAIN.encode()],
        [b"Cookie: key=" + PLAIN.encode()],
        [b"X-Api-Key: " + PLAIN.upper().encode()],
        [b"X-Api-Key: " + PLAIN.encode() + b", " + PLAIN.encode()],
    ],
)
async def test_a_request_that_fits_no_caller_is_challenged(make, kit, upstream, lines):
    async with make() as proxy:
        status, answer, body = kit.split(await proxy.get(b"/up/x", *lines))
        assert (status, json.loads(body)["type"]) == (401, "urn:token-proxy:problem:caller-unknown")
        challenges = [line for line in answer if line.lower().startswith(b"www-authenticate")]
        assert challenges == [b"WWW-Authenticate: Bearer", b'WWW-Authenticate: Basic realm="token-proxy"']
        assert proxy.refused("caller-unknown") == 1
        assert caller_requests(proxy) == {}
        assert not any(word in body for word in (PLAIN.encode(), PLAIN[:-1].encode()))
    assert upstream.received == []


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"Bearer  "])
async def test_a_scheme_has_no_case_and_may_have_more_spaces(make, kit, scheme):
    async with make() as proxy:
        line = b"Authorization: " + scheme + b" " + PLAIN.encode()
        assert await outcome(proxy, kit, line) == (200, "")


async def test_the_order_of_the_fields_decides(make, kit):
    async with make() as proxy:
        for place, line in enumerate(fields(PLAIN)):
            for later in fields(DIGEST)[place + 1 :]:
                assert await outcome(proxy, kit, later, line) == (200, "")
        assert caller_requests(proxy) == {("plain", "up", "200"): 21}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"X-Api-Key: sk-dummy-of-an-sdk-0123456789", 200),
        (b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.", 200),
        (basic("hunter2"), 200),
        (b"Token-Proxy-Key: sk-dummy-of-an-sdk-0123456789", 401),
        (b"X-Api-Key: tpk_" + b"x" * 43, 401),
        (b"X-Api-Key: tpk_", 401),
        (b"Authorization: Bearer tpk_no", 401),
        (basic("tpk_no"), 401),
        (b"X-Custom: tpk_no", 200),
    ],
)
async def test_a_wrong_value_is_ignored_beside_a_right_one_unless_it_is_meant_for_us(
    make, kit, line, expected
):
    async with make() as proxy:
        for key in fields(PLAIN):
            if key.partition(b":")[0] == line.partition(b":")[0]:
                continue
            assert (await outcome(proxy, kit, key, line))[0] == expected, key


@pytest.mark.parametrize(
    ("line", "passes"),
    [
        (b"X-Custom: tpk_short", False),
        (b"x-custom:tpk_" + b"q" * 43, False),
        (b"X-Custom: " + BUILD.encode(), False),
        (b"X-Custom: \t " + PLAIN.encode() + b" \t", False),
        (b"X-Custom: " + DIGEST.encode(), False),
        (b"Cookie: " + PLAIN.encode(), False),
        (b"X_Api_Key: " + PLAIN.encode(), False),
        (b"Token_Proxy_Key: " + BUILD.encode(), False),
        (b"X-Api-Key: " + DIGEST.encode(), False),
        (b"X_Api_Key: another-value-of-length", True),
        (b"X-Api-Key: another-value-of-length", True),
        (b"X-Goog-Api-Key: a", True),
        (b"X-Custom: see tpk_doc", True),
        (b"X-Custom: TPK_UPPER", True),
        (b"X-Custom: " + PLAIN.encode() + b"x", True),
        (b"X-Custom: " + PLAIN[:-1].encode(), True),
    ],
)
async def test_no_field_with_a_key_goes_upstream_whatever_its_name(make, kit, upstream, line, passes):
    async with make() as proxy:
        known = b"Token-Proxy-Key: " + PLAIN.encode()
        before, after = b"X-Before: 1", b"X-After: 2"
        assert await outcome(proxy, kit, before, line, after, known) == (200, "")
    (received,) = upstream.received
    head = received.split(b"\r\n")
    assert (line.strip() in received) is passes
    assert {before, after} <= set(head)
    assert PLAIN.encode() + b"\r\n" not in received


async def test_no_trailer_with_a_key_goes_upstream(make, kit, upstream):
    async with make() as proxy:
        head = kit.request(
            b"POST",
            b"/up/x",
            b"X-Api-Key: " + PLAIN.encode(),
            b"Connection: close",
            b"Transfer-Encoding: chunked",
        )
        trailers = [b"X-Key: " + DIGEST.encode(), b"X-More: tpk_", b"X-Sum: 5"]
        body = b"2\r\nhi\r\n0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"
        assert kit.split(await proxy.ask(head + body))[0] == 200
    (received,) = upstream.received
    assert received.endswith(b"2\r\nhi\r\n0\r\nX-Sum: 5\r\n\r\n")


async def test_a_key_in_a_field_for_this_hop_counts(make, kit, upstream):
    async with make() as proxy:
        lines = b"Connection: X-Api-Key, close", b"X-Api-Key: " + PLAIN.encode()
        assert kit.split(await proxy.ask(kit.request(b"GET", b"/up/x", *lines)))[0] == 200


async def test_without_callers_no_field_is_a_key(proxy, kit, upstream):
    lines = [b"X-Api-Key: tpk_something", b"Token-Proxy-Key: x", b"X_Api_Key: y"]
    assert kit.split(await proxy.get(b"/up/x", *lines))[0] == 200
    assert all(line in upstream.received[0] for line in lines)
    assert caller_requests(proxy) is None
    assert proxy.relay.context.callers is None


async def test_the_caller_is_looked_for_after_the_page_and_before_loop_and_route(make, kit):
    async with make() as proxy:
        via = b"Via: 1.1 " + proxy.relay.context.via
        assert await outcome(proxy, kit, b"Sec-Fetch-Site: cross-site") == (403, "browser-refused")
        assert await outcome(proxy, kit, via) == (401, "caller-unknown")
        assert kit.split(await proxy.get(b"/nowhere"))[0] == 401
        known = b"X-Api-Key: " + PLAIN.encode()
        assert await outcome(proxy, kit, known, via) == (508, "loop")
        assert kit.split(await proxy.get(b"/nowhere", known))[0] == 404


async def test_a_connection_may_serve_several_callers_in_turn(make, kit, upstream):
    async with make() as proxy:
        keys = [BUILD, PLAIN, "", DIGEST]
        asked = [
            kit.request(b"GET", b"/up/x", *([b"X-Api-Key: " + key.encode()] if key else [])) for key in keys
        ]
        answers = await proxy.ask(*asked, kit.request(b"GET", b"/up/x", b"Connection: close"))
        assert answers.count(b" 200 OK") == 3
        assert answers.count(b" 401 Unauthorized") == 2
        assert set(caller_requests(proxy)) == {(name, "up", "200") for name in ("build", "plain", "digest")}


# -- signed keys

SIGNED_FOR = """
[callers.ci]
not_before = {not_before}
[callers.plain]
key = "{plain}"
"""


@pytest.mark.parametrize(
    ("age", "seconds", "name", "not_before", "expected"),
    [
        (0, 60, "ci", -1000, 200),
        (59, 60, "ci", -1000, 200),
        (62, 60, "ci", -1000, 401),
        (0, 86400, "ci", 0, 200),
        (0, 87000, "ci", 0, 401),  # the maker of this one ignores the limit
        (0, 60, "plain", 0, 200),  # whatever its other identities
        (0, 60, "other", 0, 401),
        (100, 200, "ci", -50, 401),  # made before not_before
        (100, 200, "ci", -150, 200),
    ],
)
async def test_a_signed_key_counts_until_it_ends(
    make, kit, upstream, age, seconds, name, not_before, expected
):
    clock_now = 1764300000.0
    async with make(SIGNED_FOR.format(not_before=max(clock_now + not_before, 0.0), plain=PLAIN)) as proxy:
        table = proxy.relay.context.callers
        table._wall = lambda: clock_now
        key = caller_keys.sign(table._signing_key, name, clock_now - age, seconds)
        assert key.startswith(f"tpk_s1.{name}.{int(clock_now - age + seconds)}.")
        assert (await outcome(proxy, kit, b"Authorization: Bearer " + key.encode()))[0] == expected
    assert not any(key.encode() in received for received in upstream.received)


async def test_a_signed_key_of_another_store_or_changed_is_refused(make, kit):
    async with make(SIGNED_FOR.format(not_before=0, plain=PLAIN)) as proxy:
        table = proxy.relay.context.callers
        now = proxy.state.clock.wall()
        good = caller_keys.sign(table._signing_key, "ci", now, 60)
        assert await outcome(proxy, kit, b"X-Api-Key: " + good.encode()) == (200, "")
        start, name, expires, mac = good.split(".")
        changed = [mac[:at] + ("B" if mac[at] == "A" else "A") + mac[at + 1 :] for at in (0, 9, 51)]
        spoiled = [
            caller_keys.sign(b"another secret of 32 bytes......", "ci", now, 60),
            f"{start}.plain.{expires}.{mac}",
            f"{start}.{name}.{int(expires) + 1}.{mac}",
            f"{start}.{name}.0{expires}.{mac}",
            *(f"{start}.{name}.{expires}.{each}" for each in (*changed, mac + "A", mac[:-1], mac + "=")),
            good.replace("tpk_s1", "tpk_s2"),
            "tpk_s1...",
        ]
        for key in spoiled:
            assert await outcome(proxy, kit, b"X-Api-Key: " + key.encode()) == (401, "caller-unknown"), key
            # nor is it ignored beside a right one
            right = b"Private-Token: " + PLAIN.encode()
            assert (await outcome(proxy, kit, b"X-Api-Key: " + key.encode(), right))[0] == 401, key


# -- what a caller may use

LIMITED = """
[callers.limited]
key = "tpk_limited"
routes = []
[callers.free]
key = "tpk_freefreefreefreefree"
""".replace("tpk_limited", "tpk_limitedlimitedlimited")


async def test_a_caller_may_use_its_routes_only(make, kit, upstream):
    async with make(LIMITED) as proxy:
        limited, free = b"X-Api-Key: tpk_limitedlimitedlimited", b"X-Api-Key: tpk_freefreefreefreefree"
        assert await outcome(proxy, kit, limited) == (403, "caller-denied")
        assert await outcome(proxy, kit, limited, b"Expect: x") == (403, "caller-denied")
        assert await outcome(proxy, kit, free) == (200, "")
        assert await outcome(proxy, kit, free, b"Expect: x") == (417, "expectation-failed")
        assert caller_requests(proxy) == {
            ("limited", "up", "403"): 2,
            ("free", "up", "200"): 1,
            ("free", "up", "417"): 1,
        }
        assert proxy.refused("caller-denied") == 2
    assert len(upstream.received) == 1


ACCOUNTS = """
[callers.alice]
key = "tpk_alice_alice_alice_"
accounts = ["alice", "shared@corp"]
[callers.any]
key = "tpk_any_any_any_any_any"
accounts = ["*"]
[callers.none]
key = "tpk_none_none_none_none"
"""
BY_HEADER = 'account = { header = "Token-Proxy-Account" }'


@pytest.mark.parametrize(
    ("key", "accounts", "expected"),
    [
        ("tpk_alice_alice_alice_", ["alice"], (200, "")),
        ("tpk_alice_alice_alice_", ["shared@corp"], (200, "")),
        ("tpk_alice_alice_alice_", ["Alice"], (403, "caller-denied")),
        ("tpk_alice_alice_alice_", ["bob"], (403, "caller-denied")),
        ("tpk_alice_alice_alice_", [], (400, "account-invalid")),
        ("tpk_alice_alice_alice_", ["alice", "alice"], (400, "account-invalid")),
        ("tpk_alice_alice_alice_", ["*"], (400, "account-invalid")),
        ("tpk_any_any_any_any_any", ["bob"], (200, "")),
        ("tpk_any_any_any_any_any", ["a b"], (400, "account-invalid")),
        ("tpk_none_none_none_none", ["none"], (403, "caller-denied")),
    ],
)
async def test_a_caller_may_name_its_accounts_only(make, kit, upstream, key, accounts, expected):
    async with make(ACCOUNTS, route=BY_HEADER, grant="authorization_code") as proxy:
        for account in ("alice", "bob", "shared@corp"):
            await proxy.adopt(f"token-of-{account}", account)
        lines = [b"Token-Proxy-Account: " + account.encode() for account in accounts]
        assert await outcome(proxy, kit, b"X-Api-Key: " + key.encode(), *lines) == expected
    if expected[0] == 200:
        assert f"Authorization: Bearer token-of-{accounts[0]}".encode() in upstream.received[0]
        assert b"Token-Proxy-Account" not in upstream.received[0]
    else:
        assert upstream.received == []


OWN_ACCOUNTS = """
[callers.alice]
key = "tpk_alice_alice_alice_"
[callers.robot]
key = "tpk_robot_robot_robot_"
account = "Robot@corp"
"""


async def test_each_caller_has_its_own_account_and_its_own_connections(make, kit, upstream):
    route = "account = { caller = true }"
    async with make(OWN_ACCOUNTS, route=route, grant="authorization_code") as proxy:
        for account in ("alice", "Robot@corp"):
            await proxy.adopt(f"token-of-{account}", account)
        keys = ["tpk_alice_alice_alice_", "tpk_robot_robot_robot_"] * 3
        asked = [kit.request(b"GET", b"/up/x", b"X-Api-Key: " + key.encode()) for key in keys]
        answers = await proxy.ask(*asked, kit.request(b"GET", b"/up/x", b"Connection: close"))
        assert answers.count(b" 200 OK") == 6
    assert len(upstream.connections) == 2
    alice, robot = sorted(upstream.received, key=lambda received: b"Robot" in received)
    assert alice.count(b"Bearer token-of-alice") == robot.count(b"Bearer token-of-Robot@corp") == 3
    assert b"Robot" not in alice
    assert b"alice" not in robot


async def test_the_log_names_the_caller(make, kit):
    async with make(LIMITED) as proxy:
        told = []
        log = proxy.relay.context.log
        log.enabled, log.lines = True, RequestLines(json=True)
        log.add = lambda line: told.append(json.loads(line))
        await outcome(proxy, kit, b"X-Api-Key: tpk_freefreefreefreefree")
        await outcome(proxy, kit, b"X-Api-Key: tpk_limitedlimitedlimited")
        assert [(line["caller"], line["status"], line.get("error", "")) for line in told] == [
            ("free", 200, ""),
            ("limited", 403, "caller-denied"),
        ]


# -- which field has identified the caller: for web pages


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([fields(PLAIN)[0]], "plain"),
        ([fields(PLAIN)[1]], "plain"),
        ([fields(PLAIN)[2]], None),
        ([fields(PLAIN)[3]], "plain"),
        ([basic(PLAIN), b"X-Api-Key: " + DIGEST.encode()], "digest"),
        ([b"X-Api-Key: nobodys-key-of-length"], None),
        ([], None),
    ],
)
async def test_only_a_field_that_needs_a_preflight_proves_a_program(make, kit, lines, expected):
    from proxy.http.request_head import read_request

    async with make() as proxy:
        context = proxy.relay.context
        request = read_request(kit.request(b"GET", b"/up/x", *lines), context.head_limits)
        found = context.callers.by_field(request, Peer("127.0.0.1"))
        assert (found and found.name) == expected


class Peer:
    """A connection, as far as callers.py looks at it."""

    def __init__(self, address, names=(), process=None):
        self.peer_address, self.names, self.of = address, list(names), process
        self.is_tls = bool(names)
        self.standing = None

    def certificate_names(self):
        return self.names

    def process(self):
        return self.of


# -- networks

NETWORKS = f"""
[callers.near]
key = "{PLAIN}"
networks = ["{{near}}"]
[callers.digest]
key_sha256 = "{hashlib.sha256(DIGEST.encode()).hexdigest()}"
"""


@pytest.mark.parametrize(
    ("near", "expected"), [("127.0.0.0/8", 200), ("127.0.0.1", 200), ("10.0.0.0/8", 401)]
)
async def test_networks_narrow_a_key(make, kit, near, expected):
    async with make(NETWORKS.format(near=near)) as proxy:
        key = PLAIN.encode()
        assert (await outcome(proxy, kit, b"X-Api-Key: " + key))[0] == expected
        other = b"X-Goog-Api-Key: " + DIGEST.encode()
        assert (await outcome(proxy, kit, b"X-Api-Key: " + key, other))[0] == 200  # ignored as a wrong one
        assert (await outcome(proxy, kit, b"Token-Proxy-Key: " + key, other))[0] == expected


@pytest.mark.parametrize(("networks", "expected"), [(["127.0.0.1"], 200), (["10.0.0.0/8", "::1"], 401)])
async def test_networks_alone_identify(make, kit, networks, expected):
    async with make(f"[callers.near]\nnetworks = {networks}") as proxy:
        assert (await outcome(proxy, kit))[0] == expected
        assert (caller_requests(proxy) or {}) == ({("near", "up", "200"): 1} if expected == 200 else {})


# -- unix sockets and certificates, on listeners of their own


@asynccontextmanager
async def listening(proxy, address, tls=None):
    runner = web.ServerRunner(Listener(proxy.relay))
    await runner.setup()
    site = await listen.listen(runner, address, tls and listen.tls_context(tls))
    try:
        yield listen.bound_address(site, address)
    finally:
        await listen.close(runner)


async def say(address, data, context=None):
    if address.is_unix:
        opened = asyncio.open_unix_connection(address.path)
    else:
        opened = asyncio.open_connection(address.host, address.port, ssl=context)
    reader, writer = await opened
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


UNIX = """
[callers.me]
{key} = [{id}]
[callers.digest]
key_sha256 = "{digest}"
"""


@pytest.mark.parametrize(
    ("key", "number", "expected"),
    [
        ("uid", os.geteuid(), 200),
        ("uid", os.geteuid() + 1, 401),
        ("gid", os.getegid(), 200),
        ("gid", os.getegid() + 4321, 401),
    ],
)
async def test_on_a_unix_socket_the_process_identifies(tmp_path, upstream, kit, key, number, expected):
    path = tmp_path / "s"
    digest = hashlib.sha256(DIGEST.encode()).hexdigest()
    more = UNIX.format(key=key, id=number, digest=digest)
    route = f'[[routes]]\nlisten = "unix:{path}"\nupstream = "http://127.0.0.1:1"\ncredential = "cred"\n'
    async with proxying(tmp_path, f"http://127.0.0.1:{upstream.port}", limits=route + more) as proxy:
        request = kit.request(b"GET", b"/up/x", b"Connection: close")
        async with listening(proxy, Address("", 0, str(path))) as address:
            assert kit.split(await say(address, request))[0] == expected
            keyed = kit.request(b"GET", b"/up/x", b"Connection: close", b"X-Api-Key: " + DIGEST.encode())
            assert kit.split(await say(address, keyed))[0] == 200
            assert caller_requests(proxy)["digest", "up", "200"] == 1  # a key goes before uid and gid
        assert kit.split(await proxy.get())[0] == 401  # TCP tells of no process


ASK_AS = """
import socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(sys.argv[1])
    caller.sendall(b"GET /up/x HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    answer = b""
    while data := caller.recv(65536):
        answer += data
print(answer.split()[1].decode())
"""


@pytest.mark.privileged  # another user
@pytest.mark.parametrize(
    ("as_whom", "expected"),
    [
        (["--reuid=1234", "--regid=99", "--clear-groups"], "200"),
        (["--reuid=77", "--regid=2222", "--clear-groups"], "200"),
        (["--reuid=77", "--regid=99", "--groups=55,2222,56"], "200"),
        (["--reuid=77", "--regid=99", "--clear-groups"], "401"),
    ],
)
async def test_another_user_is_known_by_uid_group_and_further_groups(
    tmp_path, upstream, kit, as_whom, expected
):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # tmp_path can't be entered by others
        os.chmod(folder, 0o755)  # noqa: PTH101 (a path's method is forbidden in coroutines)
        path = f"{folder}/s"
        route = f'[[routes]]\nlisten = "unix:{path}"\nupstream = "http://127.0.0.1:1"\ncredential = "cred"\n'
        more = route + "[callers.user]\nuid = 1234\n[callers.group]\ngid = 2222\n"
        async with (
            proxying(tmp_path, f"http://127.0.0.1:{upstream.port}", limits=more) as proxy,
            listening(proxy, Address("", 0, path, 0o666)),
        ):
            asking = await asyncio.create_subprocess_exec(
                "setpriv", *as_whom, "/usr/bin/python3", "-c", ASK_AS, path, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await asyncio.wait_for(asking.communicate(), 60)
            assert said.decode().strip() == expected
            name = "user" if "--reuid=1234" in as_whom else "group"
            assert caller_requests(proxy) == ({(name, "up", "200"): 1} if expected == "200" else {})


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_files(authority, tmp_path):
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key, ca = tmp_path / "chain.pem", tmp_path / "chain.key", tmp_path / "callers.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    return f'tls = {{ cert = "{chain}", key = "{key}", client_ca = "{ca}" }}'


def uri_certificate(authority, uri):
    """trustme issues no URIs."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    issuer_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem) + private


BY_CERTIFICATE = """
[callers.spiffe]
certificate = "spiffe://corp/build"
[callers.dns]
certificate = ["build.corp.example"]
[callers.mail]
certificate = "build@corp.example"
[callers.plain]
key = "{plain}"
"""


@pytest.mark.parametrize(
    ("names", "lines", "expected"),
    [
        (["spiffe://corp/build"], [], "spiffe"),
        (["spiffe://corp/Build"], [], None),
        (["build.corp.example"], [], "dns"),
        (["other.example", "BUILD.corp.example"], [], "dns"),
        (["build@corp.example"], [], "mail"),
        (["Build@corp.example"], [], None),
        (["other.example"], [], None),
        ([], [], None),
        ([], [b"X-Api-Key: " + PLAIN.encode()], "plain"),
        (["other.example"], [b"X-Api-Key: " + PLAIN.encode()], "plain"),
        (["build.corp.example"], [b"X-Api-Key: " + PLAIN.encode()], "dns"),
        (["build.corp.example"], [b"X-Api-Key: of-nobody-but-long-enough"], "dns"),
        (["build.corp.example"], [b"Token-Proxy-Key: of-nobody-but-long-enough"], None),
    ],
)
async def test_a_certificate_identifies_before_a_key(
    tmp_path, upstream, kit, authority, tls_files, names, lines, expected
):
    listener = '[[routes]]\npath = "/o"\nupstream = "http://127.0.0.1:1"\ncredential = "cred"\n'
    callers = BY_CERTIFICATE.format(plain=PLAIN)
    async with proxying(
        tmp_path, f"http://127.0.0.1:{upstream.port}", limits=listener + callers, server=tls_files
    ) as proxy:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if names:
            if "://" in names[0]:
                file = tmp_path / "uri.pem"
                file.write_bytes(uri_certificate(authority, names[0]))
                context.load_cert_chain(file)
            else:
                authority.issue_cert(*names).configure_cert(context)
        request = kit.request(b"GET", b"/up/x", b"Connection: close", *lines)
        config = proxy.state.config
        async with listening(proxy, ANY, config.listener_tls(ANY)) as address:
            status, *_ = kit.split(await say(address, request, context))
        assert status == (401 if expected is None else 200)
        assert caller_requests(proxy) == ({(expected, "up", "200"): 1} if expected else {})


async def test_where_only_certificates_identify_one_is_required(
    tmp_path, upstream, kit, authority, tls_files
):
    callers = '[callers.dns]\ncertificate = "build.corp.example"\n'
    async with proxying(
        tmp_path, f"http://127.0.0.1:{upstream.port}", limits=callers, server=tls_files
    ) as proxy:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        request = kit.request(b"GET", b"/up/x", b"Connection: close")
        async with listening(proxy, ANY, proxy.state.config.listener_tls(ANY)) as address:
            try:
                said = await say(address, request, context)
            except OSError:  # the refusal comes with the handshake, or after it
                said = b""
            assert said == b""
            authority.issue_cert("build.corp.example").configure_cert(context)
            assert kit.split(await say(address, request, context))[0] == 200


# -- anyone


def test_anyone_is_this_machine_and_the_networks():
    import ipaddress

    table = CallerTable([], (ipaddress.ip_network("172.18.0.0/16"),), b"", lambda: 0.0)
    assert table.keys is None
    for address, expected in [
        ("", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("172.18.3.4", True),
        ("::ffff:172.18.3.4", True),
        ("172.19.0.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
    ]:
        assert table._stand(Peer(address)).needs_none is expected, address


# -- many callers


def test_many_keys_are_found_among_other_values():
    from proxy.http.key_fields import KnownKeys, without_keys

    for count in (1, 8, 9, 300):
        keys = [b"k" * (20 + at) for at in range(count)]
        known = KnownKeys(frozenset(hashlib.sha256(key).digest() for key in keys), keys, ())
        for key in keys:
            block = b"\r\nA: " + b"x" * len(key) + b"\r\nB:" + key + b"\r\nC: \t" + key + b"\t\r\nD: " + key
            assert without_keys(block, known) == b"\r\nA: " + b"x" * len(key)
        assert without_keys(b"\r\nA: b\r\nC: tpk_x", known) == b"\r\nA: b"


def test_a_key_known_by_its_digest_is_found_before_and_after_its_first_use():
    from proxy.http.key_fields import KnownKeys, PresentedKey, without_keys

    for key in (DIGEST.encode(), BUILD.encode()):
        digest = hashlib.sha256(key).digest()
        known = KnownKeys(frozenset([digest]), (), [digest])
        block = b"\r\nX-Request-Id: " + b"1" * 32 + b"\r\nX-Other: " + key
        assert without_keys(block, known) == b"\r\nX-Request-Id: " + b"1" * 32
        known.learn(PresentedKey(key, is_explicit=False, needs_preflight=True))
        assert known.unseen == set()
        assert without_keys(block, known) == b"\r\nX-Request-Id: " + b"1" * 32
