"""Upstreams that a token response names: each account's requests go to its own host, by TLS, or nowhere."""

import asyncio
import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme

from proxy.demo.faults import Fault
from proxy.errors import TokenError
from proxy.relay.runtime import POOLS
from proxy.secret import Secret
from proxy.tokens.attachment import Attachment
from proxy.tokens.saved import records

NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
MISCONFIGURED = "urn:token-proxy:problem:credential-misconfigured"


class Hosts:
    """Two upstreams, `one` and `two`: TLS servers on ports of 127.0.0.1, with a certificate for it."""

    def __init__(self, one, two, ca):
        self.one, self.two, self.ca = one, two, ca

    @property
    def allowed(self):
        return f'upstream_hosts = ["127.0.0.1:{self.one.port}", "127.0.0.1:{self.two.port}"]'

    def url(self, upstream):
        return f"https://127.0.0.1:{upstream.port}"

    def names(self, upstream, base=""):
        return Fault(change={"instance_url": self.url(upstream) + base})


@pytest.fixture
async def hosts(tmp_path, kit):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "hosts-ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(kit.serving(kit.Upstream(), context)) for _ in range(2)]
        yield Hosts(one, two, ca)


@pytest.fixture
def moving(make_proxy, hosts):
    """`async with moving(upstream=…, route=…) as proxy`."""

    @asynccontextmanager
    async def moving(upstream="{instance_url}/services", route="", allowed=None, **settings):
        route = f'{route}\n{hosts.allowed if allowed is None else allowed}\ntls = {{ ca = "{hosts.ca}" }}'
        async with make_proxy(upstream, route=route, **settings) as proxy:
            yield proxy

    return moving


ACCOUNTS = 'account = { header = "Token-Proxy-Account" }'


async def ask_as(proxy, kit, name, path=b"/up/x"):
    lines = b"Token-Proxy-Account: " + name, b"Connection: close"
    return await proxy.ask(kit.request(b"GET", path, *lines))


def heads(upstream):
    return [received.partition(b"\r\n\r\n")[0] for received in upstream.received]


async def test_the_first_token_response_names_the_host(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one))
        assert kit.split(await proxy.get(b"/up/x?y=1"))[0] == 200
        assert kit.split(await proxy.get())[0] == 200
    first, *_ = heads(hosts.one)
    lines = first.split(b"\r\n")
    assert lines[0] == b"GET /services/x?y=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{hosts.one.port}".encode() in lines
    assert any(line.startswith(b"Authorization: Bearer ") for line in lines)
    assert (hosts.one.requests, len(hosts.one.connections)) == (2, 1)  # the connection is kept


async def test_the_path_of_the_value_stands_before_the_base(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one, "/tenant/7/"))
        assert kit.split(await proxy.get(b"/up"))[0] == 200
    assert heads(hosts.one)[0].startswith(b"GET /tenant/7/services HTTP/1.1")


async def test_two_accounts_with_two_hosts_never_share_a_connection(moving, hosts, kit):
    async with moving(route=ACCOUNTS, grant="authorization_code") as proxy:
        for name, upstream in (("alice", hosts.one), ("bob", hosts.two)):
            await proxy.adopt(f"AT-{name}", name, upstreams=(("instance_url", hosts.url(upstream)),))
        for _ in range(3):
            answers = await asyncio.gather(*(ask_as(proxy, kit, name) for name in (b"alice", b"bob") * 5))
            assert {kit.split(answer)[0] for answer in answers} == {200}
    for upstream, ours, theirs in ((hosts.one, b"alice", b"bob"), (hosts.two, b"bob", b"alice")):
        assert upstream.requests == 15
        sent = b"".join(upstream.received)
        assert sent.count(b"Bearer AT-" + ours) == 15
        assert theirs not in sent


async def test_two_accounts_of_one_host_never_share_a_connection(moving, hosts, kit):
    async with moving(route=ACCOUNTS, grant="authorization_code") as proxy:
        for name in ("alice", "bob"):
            await proxy.adopt(f"AT-{name}", name, upstreams=(("instance_url", hosts.url(hosts.one)),))
        for name in (b"alice", b"bob", b"alice", b"bob"):
            assert kit.split(await ask_as(proxy, kit, name))[0] == 200
    assert len(hosts.one.connections) == 2
    assert not any(b"alice" in sent and b"bob" in sent for sent in hosts.one.received)


async def test_a_refresh_that_names_another_host_takes_the_requests_there(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one), hosts.names(hosts.two))
        assert kit.split(await proxy.get())[0] == 200
        old = proxy.account.attachment.access_token.reveal().encode()
        await proxy.tokens.refresh_now(proxy.account)
        assert kit.split(await proxy.get())[0] == 200
    assert (hosts.one.requests, hosts.two.requests) == (1, 1)
    assert old not in b"".join(hosts.two.received)


async def test_a_refresh_without_the_field_keeps_the_old_host(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one))
        await proxy.get()
        await proxy.tokens.refresh_now(proxy.account)
        assert kit.split(await proxy.get())[0] == 200
    assert (hosts.one.requests, hosts.two.requests) == (2, 0)


async def test_a_refresh_that_repeats_the_token_can_still_name_another_host(moving, hosts, kit):
    async with moving() as proxy:
        same = {"access_token": "AT-same"}
        named = [Fault(change={**same, "instance_url": hosts.url(each)}) for each in (hosts.one, hosts.two)]
        proxy.server.script(*named)
        await proxy.get()
        await proxy.tokens.refresh_now(proxy.account)
        assert kit.split(await proxy.get())[0] == 200
    assert (hosts.one.requests, hosts.two.requests) == (1, 1)


async def test_the_number_of_hosts_of_a_route_is_bounded(moving, hosts, kit):
    allowed = f'upstream_hosts = ["127.0.0.1:{hosts.one.port}", "**.a.example"]'
    async with moving(allowed=allowed) as proxy:
        proxy.server.script(hosts.names(hosts.one))
        assert kit.split(await proxy.get())[0] == 200
        assert proxy.sample("upstream_connections", route="up", state="idle") == 1
        for number in range(POOLS):
            named = (("instance_url", f"https://h{number}.a.example"),)
            proxy.runtime.of_token(Attachment(Secret("x"), upstreams=named))
        assert proxy.sample("upstream_connections", route="up", state="idle") == 0  # the first is closed
        assert kit.split(await proxy.get())[0] == 200  # and opened again
    assert len(hosts.one.connections) == 2


@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_a_replay_goes_to_the_host_of_its_own_token(moving, hosts, kit, body):
    """The first token is refused by the first host; its successor belongs to another host."""
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one), hosts.names(hosts.two, "/new"))
        hosts.one.script = [NO]
        lines = [
            b"Content-Length: %d" % len(body),
            b"Destination: http://localhost/up/z",
            b"Connection: close",
        ]
        answer = await proxy.ask(kit.request(b"MOVE", b"/up/x", *lines, body=body))
        assert kit.split(answer)[0] == 200
    (first,), (second,) = heads(hosts.one), heads(hosts.two)
    assert first.startswith(b"MOVE /services/x HTTP/1.1")
    assert second.startswith(b"MOVE /new/services/x HTTP/1.1")
    assert f"Destination: {hosts.url(hosts.one)}/services/z".encode() in first
    assert f"Destination: {hosts.url(hosts.two)}/new/services/z".encode() in second
    tokens = {line for head in (first, second) for line in head.split(b"\r\n") if b"Bearer" in line}
    assert len(tokens) == 2
    assert hosts.two.received[0].endswith(body)


async def test_a_link_to_the_tokens_host_leads_back_through_the_proxy(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one))
        link = f"Location: {hosts.url(hosts.one)}/services/next".encode()
        hosts.one.script = [b"HTTP/1.1 302 Found\r\n" + link + b"\r\nContent-Length: 0\r\n\r\n"]
        _, fields, _ = kit.split(await proxy.get())
    assert b"Location: http://localhost/up/next" in fields


REFUSED = [  # what the response says, and what the problem says of it
    ({}, "is missing"),
    ({"instance_url": ""}, "is missing"),
    ({"instance_url": 7}, "is missing"),
    ({"instance_url": ["https://127.0.0.1"]}, "is missing"),
    ({"instance_url": "https://evil.example/x"}, "leads to a host that is not in upstream_hosts"),
    ({"instance_url": "https://127.0.0.1"}, "leads to a host that is not in upstream_hosts"),
    ({"instance_url": "HTTP"}, "is not https"),
    ({"instance_url": "unix:/run/x.sock:/x"}, "leads to a host that is not in upstream_hosts"),
    ({"instance_url": "https://me:pw@HOST"}, "is no https URL and no host"),
    ({"instance_url": "https://HOST/a/%2e%2e/b"}, "is no https URL and no host"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED)
async def test_a_value_outside_the_list_sends_nothing(moving, hosts, kit, change, why):
    url = hosts.url(hosts.one)
    places = {"HTTP": url.replace("https", "http")}
    change = {
        name: places.get(value, value.replace("HOST", url.removeprefix("https://")))
        if isinstance(value, str)
        else value
        for name, value in change.items()
    }
    async with moving() as proxy:
        proxy.server.script(Fault(change=change))
        for _ in range(2):  # with and without a token at hand
            status, _, body = kit.split(await proxy.get())
            problem = json.loads(body)
            assert (status, problem["type"], problem["credential"]) == (503, MISCONFIGURED, "cred")
            assert problem["detail"].startswith(
                f"instance_url of the token response {why}: check upstream and"
            )
            assert "evil" not in problem["detail"]
        assert proxy.refused("credential-misconfigured") == 2
        assert proxy.sample("requests_in_flight", route="up") == 0
        assert proxy.sample("requests_total", route="up", method="GET", code="503") == 2
    assert hosts.one.connections == []


async def test_a_person_is_told_where_to_log_in_again(moving, hosts, kit):
    async with moving(grant="authorization_code") as proxy:
        await proxy.adopt("AT-1", "default", upstreams=(("instance_url", "https://evil.example"),))
        problem = json.loads(kit.split(await proxy.get())[2])
        login_url = f"{proxy.relay.context.public_url}/login/cred/default"
    assert (problem["account"], problem["login_url"]) == ("default", login_url)


async def test_a_value_outside_the_list_is_logged_once_for_each_account_and_host(moving, hosts, caplog):
    def logged():
        return [each for each in caplog.records if getattr(each, "event", "") == "upstream_not_allowed"]

    async with moving() as proxy:
        evil = [
            Fault(change={"instance_url": f"https://{name}.example"}) for name in ("evil", "worse", "evil")
        ]
        proxy.server.script(*evil)
        for _ in range(3):
            await proxy.get()
        (record,) = logged()
        assert (record.levelname, record.fields) == (
            "WARNING",
            {"route": "up", "credential": "cred", "account": "default"},
        )
        assert record.getMessage() == (
            "cred/default: no request is sent: instance_url of the token response leads to a host that is "
            "not in upstream_hosts: check upstream and upstream_hosts of the route up, then refresh the "
            "token or log in again"
        )
        for _ in range(2):
            await proxy.tokens.refresh_now(proxy.account)
            await proxy.get()
            await proxy.get()
        assert len(logged()) == 3
    assert not any("evil" in each.getMessage() for each in caplog.records)


async def test_a_refused_host_is_used_once_a_refresh_names_a_good_one(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(Fault(change={"instance_url": "https://evil.example"}), hosts.names(hosts.two))
        assert kit.split(await proxy.get())[0] == 503
        await proxy.tokens.refresh_now(proxy.account)
        assert kit.split(await proxy.get())[0] == 200


async def test_a_replay_whose_token_leads_nowhere_is_refused(moving, hosts, kit):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one), Fault(change={"instance_url": "https://evil.example"}))
        hosts.one.script = [NO]
        status, _, body = kit.split(await proxy.get())
        assert (status, json.loads(body)["type"]) == (503, MISCONFIGURED)
        assert proxy.sample("requests_in_flight", route="up") == 0
    assert hosts.one.requests == 1


async def test_the_certificate_must_have_the_name_of_the_tokens_host(moving, hosts, kit):
    """The certificate is for 127.0.0.1, and the response names localhost."""
    allowed = f'upstream_hosts = ["localhost:{hosts.one.port}"]'
    async with moving(allowed=allowed) as proxy:
        proxy.server.script(Fault(change={"instance_url": f"https://localhost:{hosts.one.port}"}))
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")
    assert b"localhost" not in body  # nothing that a server sent is shown
    assert hosts.one.requests == 0


async def test_a_host_that_leads_back_to_this_proxy_is_a_loop(moving, hosts, kit):
    """The named host sends the request back here, with our own Via."""
    async with moving() as proxy:

        async def send_back(connection):
            answer = await proxy.ask(
                connection.received.partition(b"\r\n\r\n")[0] + b"\r\nConnection: close\r\n\r\n"
            )
            connection.writer.write(answer)

        proxy.server.script(hosts.names(hosts.one))
        hosts.one.script = [send_back]
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (508, "urn:token-proxy:problem:loop")


async def test_the_host_survives_a_restart(moving, hosts):
    async with moving() as proxy:
        proxy.server.script(hosts.names(hosts.one))
        await proxy.get()
        record = await proxy.state.store.get(proxy.account.key)
        fresh = type(proxy.account)(
            proxy.account.key, proxy.account.credential, proxy.state.clock, proxy.account.throttle
        )
        assert fresh.attachment is None
        fresh.apply(records.of_record(record, proxy.account.credential))
        assert dict(fresh.attachment.upstreams) == {"instance_url": hosts.url(hosts.one)}


async def test_metrics_count_the_connections_of_all_hosts(moving, hosts, kit):
    async with moving(route=ACCOUNTS, grant="authorization_code") as proxy:
        for name, upstream in (("alice", hosts.one), ("bob", hosts.two)):
            await proxy.adopt(f"AT-{name}", name, upstreams=(("instance_url", hosts.url(upstream)),))
            assert kit.split(await ask_as(proxy, kit, name.encode()))[0] == 200
        assert proxy.sample("upstream_connections", route="up", state="idle") == 2
        runtime = proxy.runtime
        runtime.retire()
        assert proxy.sample("upstream_connections", route="up", state="idle") == 0


async def test_without_a_token_the_ending_is_the_tokens(moving, hosts, kit):
    async with moving(route=ACCOUNTS, grant="authorization_code") as proxy:
        status, _, body = kit.split(await ask_as(proxy, kit, b"carol"))
        assert (status, json.loads(body)["type"]) == (503, "urn:token-proxy:problem:login-required")
        with pytest.raises(TokenError):
            await proxy.tokens.get(proxy.tokens.account("cred", "carol"))
