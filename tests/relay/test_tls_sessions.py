"""TLS sessions: resumed by real servers, each where it belongs, and no longer than it may be."""

import asyncio
import json
import os
import ssl
import subprocess

import pytest
import trustme
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.relay import tls_sessions
from proxy.relay.tls_sessions import LONGEST, MOST_OF_A_ROUTE, NO_LIMIT, REST, SessionCache, Sessions, leaks
from tests.e2e.processes import free_port, wait_until
from tests.fakes.client_hello import tapping
from tests.fakes.clock import FakeClock
from tests.fakes.egress import egress_proxy
from tests.patience import FOR_CERTAIN, until
from tests.servers.nginx import main_file
from tests.servers.programs import find

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


class Identity:
    """An authority, and a server's context with its certificate for localhost."""

    def __init__(self, folder, version=ssl.TLSVersion.TLSv1_3):
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.certificate = self.authority.issue_cert("localhost", "127.0.0.1", "::1")
        self.version = version
        self.context = self.another_context()

    def another_context(self):
        """As after a restart of the server: it can't read the tickets of the one before."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.maximum_version = self.version
        self.certificate.configure_cert(context)
        return context

    @property
    def route(self):
        return f'tls = {{ ca = "{self.ca}", server_name = "localhost" }}'


def serving(kit, identity, **options):
    """An upstream whose every response ends the connection. `handshakes`: its SSLObjects."""

    class Upstream(kit.Upstream):
        handshakes = ()

        async def serve(self, reader, writer):
            self.handshakes += (writer.get_extra_info("ssl_object"),)
            await super().serve(reader, writer)

    served = Upstream()
    served.script = [OK] * 1000
    return kit.serving(served, identity.context, **options)


def resumed(upstream):
    """Of each connection in order: whether its session was resumed."""
    return [each.session_reused for each in upstream.handshakes]


async def ask(proxy, count=1, path=b"/up/x"):
    """Requests one after the other; each session is kept before the next request."""
    for _ in range(count):
        answer = await asyncio.wait_for(proxy.get(path), FOR_CERTAIN)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _room_to_read(monkeypatch):
    """Tests before these may have used up what this version of Python may read."""
    monkeypatch.setattr(tls_sessions.cache, "reads_left", NO_LIMIT)


@pytest.fixture
def clock():
    return FakeClock()


def aged_by(proxy, clock, most=100):
    """Give the route sessions whose age is that of `clock`."""
    cache = SessionCache(most, clock.boot)
    for runtime in proxy.relay.runtimes:
        runtime.sessions = runtime._dialer._sessions = Sessions(cache)
    return cache


# -- resumed


@versions
async def test_connections_to_a_python_server_resume(make_proxy, kit, tmp_path, version):
    identity = Identity(tmp_path, version)
    async with (
        serving(kit, identity) as upstream,
        make_proxy(f"https://127.0.0.1:{upstream.port}", route=identity.route) as proxy,
    ):
        await ask(proxy, 12)
    assert resumed(upstream) == [False] + [True] * 11


NGINX = """
    log_format sessions "$ssl_protocol $ssl_session_reused";
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols {protocol};
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/certificate.pem;
        {sessions}
        access_log {folder}/access.log sessions;
        location / {{ add_header Connection close; return 200 "ok"; }}
        keepalive_timeout 0;
    }}
"""
NGINX_KEEPS = {
    "tickets": "",
    "its own cache": "ssl_session_tickets off; ssl_session_cache shared:sessions:1m;",
    "nothing": "ssl_session_tickets off; ssl_session_cache off;",
}


@pytest.mark.privileged
@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("keeps", NGINX_KEEPS)
async def test_connections_to_nginx_resume(make_proxy, tmp_path, protocol, keeps):
    identity, folder, port = Identity(tmp_path), tmp_path / "nginx", free_port()
    folder.mkdir()
    identity.certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "certificate.pem"))
    content = NGINX.format(port=port, protocol=protocol, folder=folder, sessions=NGINX_KEEPS[keeps])
    (folder / "nginx.conf").write_text(main_file(folder, content, as_root=os.geteuid() == 0))
    command = [find("nginx"), "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    nginx = await asyncio.to_thread(subprocess.Popen, command)
    log = folder / "access.log"
    try:
        await asyncio.to_thread(wait_until, (folder / "pid").exists, "nginx")
        async with make_proxy(f"https://127.0.0.1:{port}", route=identity.route) as proxy:
            await ask(proxy, 12)
        lines = await until(lambda: len(found := log.read_text().splitlines()) == 12 and found)
    finally:
        nginx.terminate()
        await asyncio.to_thread(nginx.wait)
    again = "." if keeps == "nothing" else "r"
    assert lines == [f"{protocol} ."] + [f"{protocol} {again}"] * 11


async def test_a_ticket_of_tls_1_3_is_offered_once(make_proxy, kit, tmp_path):
    """Twenty at once, in several rounds: each offers another ticket, or none (RFC 8446 section C.4)."""
    identity = Identity(tmp_path)
    async with (
        serving(kit, identity) as upstream,
        tapping(upstream.port) as tap,
        make_proxy(f"https://127.0.0.1:{tap.port}", route=identity.route) as proxy,
    ):
        for _ in range(4):
            await asyncio.gather(*(ask(proxy) for _ in range(20)))
    tickets = [hello.ticket for hello in tap.hellos if hello.ticket]
    assert len(tap.hellos) == 80
    assert len(tickets) >= 40
    assert len(set(tickets)) == len(tickets)


async def test_many_tickets_of_one_connection_are_one_here(make_proxy, kit, tmp_path, clock):
    identity = Identity(tmp_path)
    identity.context.num_tickets = 200
    async with (
        serving(kit, identity) as upstream,
        make_proxy(f"https://127.0.0.1:{upstream.port}", route=identity.route) as proxy,
    ):
        cache = aged_by(proxy, clock)
        await ask(proxy, 3)
        assert len(cache) == 1
    assert resumed(upstream) == [False, True, True]


# -- not for ever


@versions
async def test_after_an_hour_the_certificate_is_verified_again(make_proxy, kit, tmp_path, clock, version):
    """However often the session has been resumed since."""
    identity = Identity(tmp_path, version)
    async with (
        serving(kit, identity) as upstream,
        make_proxy(f"https://127.0.0.1:{upstream.port}", route=identity.route) as proxy,
    ):
        aged_by(proxy, clock)
        for _ in range(12):
            await ask(proxy)
            clock.advance(LONGEST / 10)
    assert resumed(upstream) == [False] + [True] * 9 + [False, True]


@versions
async def test_after_a_restart_of_the_server_one_handshake_is_full(make_proxy, kit, tmp_path, version):
    """Which a session that it can't read costs nothing but that."""
    identity = Identity(tmp_path, version)
    async with serving(kit, identity) as first:
        url = f"https://127.0.0.1:{first.port}"
        async with make_proxy(url, route=identity.route) as proxy:
            await ask(proxy, 3)
            first.stop()
            identity.context = identity.another_context()
            async with serving(kit, identity, port=first.port) as second:
                await ask(proxy, 3)
    assert resumed(first) == resumed(second) == [False, True, True]


@versions
async def test_a_server_that_rejects_every_session_makes_full_handshakes(make_proxy, kit, tmp_path, version):
    """As one of many behind a load balancer, each with keys of its own."""
    identity = Identity(tmp_path, version)

    class Forgetful(kit.Upstream):
        handshakes = ()

        async def serve(self, reader, writer):
            await writer.start_tls(identity.another_context())
            self.handshakes += (writer.get_extra_info("ssl_object"),)
            await super().serve(reader, writer)

    forgetful = Forgetful()
    forgetful.script = [OK] * 5
    async with (
        kit.serving(forgetful) as upstream,
        tapping(upstream.port) as tap,
        make_proxy(f"https://127.0.0.1:{tap.port}", route=identity.route) as proxy,
    ):
        await ask(proxy, 5)
    assert resumed(upstream) == [False] * 5
    assert [bool(hello.ticket) for hello in tap.hellos] == [False] + [True] * 4


@versions
@pytest.mark.parametrize("how", ["alert", "close", "reset"])
async def test_a_server_that_fails_at_a_session_is_tried_once_without_one(
    make_proxy, kit, tmp_path, clock, version, how
):
    identity = Identity(tmp_path, version)
    async with (
        serving(kit, identity) as upstream,
        tapping(upstream.port, lambda hello: how if hello.ticket else "") as tap,
        make_proxy(f"https://127.0.0.1:{tap.port}", route=identity.route) as proxy,
    ):
        aged_by(proxy, clock)
        await ask(proxy, 5)
        offers = [bool(hello.ticket) for hello in tap.hellos]
        assert offers == [False, True, False, False, False, False]
        clock.advance(REST)
        await ask(proxy, 2)  # a session is kept again, and fails again
        assert [bool(hello.ticket) for hello in tap.hellos[6:]] == [False, True, False]


async def test_a_server_that_fails_at_any_handshake_is_tried_no_more_often(make_proxy, kit, tmp_path, clock):
    identity = Identity(tmp_path)
    verdicts = [""]
    async with (
        serving(kit, identity) as upstream,
        tapping(upstream.port, lambda _: verdicts[-1]) as tap,
        make_proxy(f"https://127.0.0.1:{tap.port}", route=identity.route) as proxy,
    ):
        await ask(proxy)
        verdicts.append("alert")
        for tries in (3, 4):  # the first with a session, and once more without
            status, _, body = kit.split(await proxy.get())
            assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")
            assert len(tap.hellos) == tries


@versions
async def test_a_server_that_hangs_at_a_session_is_offered_none_the_next_time(
    make_proxy, kit, tmp_path, version
):
    identity = Identity(tmp_path, version)
    async with (
        serving(kit, identity) as upstream,
        tapping(upstream.port, lambda hello: "hang" if hello.ticket else "") as tap,
        make_proxy(f"https://127.0.0.1:{tap.port}", route=identity.route, limits="connect = 5.0") as proxy,
    ):
        await ask(proxy)
        assert (await proxy.get()).startswith(b"HTTP/1.1 504 ")
        await ask(proxy)
        assert [bool(hello.ticket) for hello in tap.hellos] == [False, True, False]


async def test_a_wrong_certificate_is_no_reason_to_try_again(make_proxy, kit, tmp_path):
    identity = Identity(tmp_path)
    async with (
        serving(kit, identity) as upstream,
        make_proxy(f"https://localhost:{upstream.port}", route=identity.route) as proxy,
    ):
        await ask(proxy)
        (tmp_path / "other").mkdir()
        other = Identity(tmp_path / "other")
        async with serving(kit, other) as impostor:
            proxy.lead_to(impostor.port)
            status, _, body = kit.split(await proxy.get())
            assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")
            assert impostor.requests == 0
    assert proxy.sample("upstream_errors_total", route="up", error="upstream-tls") == 1


# -- where they belong


def certified(identity, folder, name):
    """The settings of a route with a client certificate of its own."""
    ours = identity.authority.issue_cert(name)
    ours.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    ours.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return (
        f'tls = {{ ca = "{identity.ca}", server_name = "localhost", cert = "{folder}/{name}.pem", '
        f'key = "{folder}/{name}.key" }}'
    )


def name_of(handshake):
    return handshake.getpeercert()["subjectAltName"][0][1]


@versions
async def test_client_certificates_of_routes_never_cross(make_proxy, kit, tmp_path, version):
    """The server takes the certificate of a resumed connection from the session."""
    identity = Identity(tmp_path, version)
    identity.context.verify_mode = ssl.CERT_REQUIRED
    identity.authority.configure_trust(identity.context)
    names = ["one.example", "two.example", "three.example"]
    tls = [certified(identity, tmp_path, name) for name in names]
    async with serving(kit, identity) as upstream:
        url = f"https://127.0.0.1:{upstream.port}"
        more = "".join(
            f'[[routes]]\npath = "/r{number}"\nupstream = "{url}"\ncredential = "cred"\n{tls[number]}\n'
            for number in (1, 2)
        )
        async with make_proxy(url, route=f"{tls[0]}\n{more}") as proxy:
            for path in [b"/up/x", b"/r1/x", b"/r2/x"] * 3 + [b"/r2/x", b"/r1/x", b"/up/x"]:
                await ask(proxy, 1, path)
    assert [name_of(each) for each in upstream.handshakes] == names * 3 + names[::-1]
    assert resumed(upstream) == [False] * 3 + [True] * 9


async def test_a_context_takes_no_session_of_another(kit, tmp_path):
    """OpenSSL's own guard, below ours."""
    identity = Identity(tmp_path)
    first, second = (ssl.create_default_context(cafile=str(identity.ca)) for _ in range(2))
    async with serving(kit, identity) as upstream:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", upstream.port, ssl=first, server_hostname="localhost"
        )
        session = writer.get_extra_info("ssl_object").session
        writer.close()
    with pytest.raises(ValueError, match="different SSLContext"):
        second.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost", session=session)


@versions
async def test_through_an_egress_proxy_the_upstreams_sessions_resume(make_proxy, kit, tmp_path, version):
    identity = Identity(tmp_path, version)
    async with serving(kit, identity) as upstream, egress_proxy() as egress:
        route = f'{identity.route}\nproxy = "http://127.0.0.1:{egress.port}"'
        async with make_proxy(f"https://api.example:{upstream.port}", route=route) as proxy:
            await ask(proxy, 4)
        assert len(egress.heads) == 4
    assert resumed(upstream) == [False, True, True, True]


async def test_an_upstream_by_an_ipv6_literal_resumes(make_proxy, kit, tmp_path):
    identity = Identity(tmp_path)
    async with (
        serving(kit, identity, host="::1") as upstream,
        make_proxy(f"https://[::1]:{upstream.port}", route=f'tls = {{ ca = "{identity.ca}" }}') as proxy,
    ):
        await ask(proxy, 3)
    assert resumed(upstream) == [False, True, True]


async def test_a_route_that_is_over_keeps_none(make_proxy, kit, tmp_path, clock):
    identity = Identity(tmp_path)
    async with (
        serving(kit, identity) as upstream,
        make_proxy(f"https://127.0.0.1:{upstream.port}", route=identity.route) as proxy,
    ):
        cache = aged_by(proxy, clock)
        await ask(proxy, 2)
        assert len(cache) == 1
        proxy.runtime.retire()
        assert len(cache) == 0
        await ask(proxy, 2)  # as requests in flight do that are sent again
        assert len(cache) == 0
    assert resumed(upstream) == [False, True, False, False]


# -- bounded


class Tls:
    """As an SSLObject after a handshake: whether it is TLS 1.3, and whether a session was resumed."""

    def __init__(self, *, newest, reused=False, hint=7200, has_ticket=True):
        self.session_reused = reused
        self.session = Ticket(hint, has_ticket)
        self._version = "TLSv1.3" if newest else "TLSv1.2"

    def version(self):
        return self._version


class Ticket:
    def __init__(self, hint, has_ticket):
        self.id, self.has_ticket, self.ticket_lifetime_hint = b"id", has_ticket, hint


def test_a_route_keeps_as_many_tickets_as_it_may_use_at_once(clock):
    sessions = Sessions(cache := SessionCache(now=clock.boot))
    for _ in range(MOST_OF_A_ROUTE + 10):
        sessions.keep(Tls(newest=True), clock.boot())
    assert len(cache) == MOST_OF_A_ROUTE
    clock.advance(LONGEST)
    sessions.keep(Tls(newest=True), clock.boot())  # what is too old gives way
    assert sessions.take() is not None
    assert sessions.take() is None
    assert len(cache) == 0


def test_where_reading_loses_memory_only_so_many_sessions_are_read(clock):
    sessions = Sessions(SessionCache(now=clock.boot, reads=3))
    kept = []
    for _ in range(10):
        sessions.keep(Tls(newest=True), clock.boot())
        kept.append(sessions.take() is not None)
    assert kept == [True] * 3 + [False] * 7


@pytest.mark.parametrize(
    ("python", "lost"),
    [
        ((3, 11, 7), True),
        ((3, 12, 7), True),
        ((3, 12, 8), False),
        ((3, 13, 0), True),
        ((3, 13, 1), False),
        ((3, 14, 0), False),
    ],
)
def test_which_versions_of_python_lose_what_they_read(python, lost):
    assert leaks(python) is lost


def test_thousands_of_routes_keep_no_more_than_all_may(clock):
    cache = SessionCache(100, clock.boot)
    routes = [Sessions(cache) for _ in range(5000)]
    for route in routes:
        for _ in range(2):
            route.keep(Tls(newest=True), clock.boot())
    assert len(cache) == 100
    assert [route for route in routes if route.take()] == routes[-50:]


@pytest.mark.parametrize(
    ("tls", "seconds"),
    [
        (Tls(newest=True, hint=300), 300),
        (Tls(newest=True, hint=0), 0),  # RFC 8446 section 4.6.1: to be discarded
        (Tls(newest=True, hint=86400), LONGEST),
        (Tls(newest=True, has_ticket=False), 0),
        (Tls(newest=False, hint=300), 300),
        (Tls(newest=False, hint=0), LONGEST),  # RFC 5077 section 3.3: not said
        (Tls(newest=False, hint=0, has_ticket=False), LONGEST),  # by its id
    ],
)
def test_the_servers_lifetime_of_a_ticket_counts(clock, tls, seconds):
    sessions = Sessions(SessionCache(now=clock.boot))
    began = clock.boot()
    sessions.keep(tls, began)
    clock.advance(max(seconds - 1, 0))
    assert (sessions.take() is not None) == (seconds > 0)
    if not tls._version.endswith("3"):
        clock.advance(1)
        assert sessions.take() is None


class Machine(RuleBasedStateMachine):
    """Two routes, and a cache for six sessions: what is taken belongs, is valid, and is not used twice."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.cache = SessionCache(6, self.clock.boot)
        self.routes = [Sessions(self.cache), Sessions(self.cache)]
        self.kept = [{}, {}]  # session -> when its certificate was verified, of each route
        self.used = set()
        self.retired = set()

    @rule(number=st.integers(0, 1), newest=st.booleans(), hint=st.sampled_from([0, 100, 7200]))
    def full(self, number, newest, hint):
        self._keep(number, Tls(newest=newest, hint=hint), None)

    @rule(number=st.integers(0, 1), accepts=st.booleans(), newest=st.booleans())
    def dial(self, number, accepts, newest):
        session = self.routes[number].take()
        if session is None:
            return
        assert number not in self.retired
        verified = self.kept[number][session.session]  # of this route
        assert session.verified == verified
        assert self.clock.boot() < verified + LONGEST
        assert session.session not in self.used
        if session.once:
            self.used.add(session.session)
        self._keep(number, Tls(newest=newest, reused=accepts), session)

    def _keep(self, number, tls, offered):
        verified = self.routes[number].agreed(tls, offered)
        if offered is None or not tls.session_reused:
            assert verified == self.clock.boot()
        else:
            assert verified == offered.verified
        self.kept[number][tls.session] = verified
        self.routes[number].keep(tls, verified)

    @rule(number=st.integers(0, 1))
    def fails(self, number):
        self.routes[number].failed()
        assert self.routes[number].take() is None

    @precondition(lambda self: len(self.retired) == 0)
    @rule(number=st.integers(0, 1))
    def ends(self, number):
        self.routes[number].retire()
        self.retired.add(number)

    @rule(seconds=st.sampled_from([1, 30, 200, LONGEST / 3]))
    def passes(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def bounded(self):
        assert len(self.cache) <= 6
        assert len(self.cache) == sum(len(route._kept) for route in self.routes)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
