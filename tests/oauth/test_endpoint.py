"""The requests to the token endpoint of an authorization server, and the handling of its responses."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from dataclasses import replace
from email.utils import formatdate
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants.base import refresh_form
from proxy.oauth.token import Principal
from proxy.secret import Secret
from tests.fakes.id_tokens import id_token
from tests.oauth.outcome import outcome_of

FORM = refresh_form((), Secret("R0"))
GOOD = {"access_token": "AT-1", "token_type": "Bearer", "expires_in": 60}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(make_puppet, puppet, servers, web_client, status):
    async with make_puppet() as elsewhere:
        elsewhere.says("/token", GOOD)
        puppet.says("/moved", GOOD)
        for target in (f"{elsewhere.url}/token", f"{puppet.url}/moved", "/moved"):

            async def redirect(_request, target=target):
                return web.Response(status=status, headers={"Location": target})

            puppet.answers["/token"] = redirect
            assert await outcome_of(servers.token(web_client, FORM)) == ("misconfigured", "redirect")
        assert elsewhere.hits == []
        assert puppet.hits == ["POST /token"] * 3


async def test_a_token_is_dated_by_when_it_was_asked_for(puppet, servers, web_client, clock):
    async def slowly(_request):
        clock.advance(3)  # the response takes three seconds
        return web.json_response({**GOOD, "refresh_expires_in": 600})

    puppet.answers["/token"] = slowly
    sent_at, sent_boot = clock.wall(), clock.boot()
    token = await servers.token(web_client, FORM)
    assert (token.issued_at, token.issued_boot, token.boot_id) == (sent_at, sent_boot, clock.boot_id)
    assert token.expires_at == sent_at + 60
    assert token.refresh_expires_at == sent_at + 600
    assert (token.server, token.client_id) == (f"{puppet.url}/token", "web")


async def test_an_id_token_names_the_person_who_logged_in(puppet, servers, web_client):
    issuer = "https://login.example"  # none is configured: that of the id_token counts
    puppet.says("/token", {**GOOD, "id_token": id_token(issuer, "web", "ann-7", email="ann@example.com")})
    for ask in (servers.token, servers.token_of_person):
        assert (await ask(web_client, FORM)).principal == Principal(issuer, "ann-7", "ann@example.com")
    puppet.says("/token", GOOD)
    for ask in (servers.token, servers.token_of_person):
        assert (await ask(web_client, FORM)).principal is None


NO_GOOD = [("", None), (None, None), ("x", "malformed"), ([1], "malformed")]
NO_GOOD += [(id_token("https://login.example", "another", "ann-7"), "audience")]


@pytest.mark.parametrize(("text", "error"), NO_GOOD)
async def test_a_bad_id_token_fails_no_refresh_and_names_nobody(puppet, servers, web_client, text, error):
    puppet.says("/token", {**GOOD, "refresh_token": "R1", "id_token": text})
    token = await servers.token(web_client, FORM)
    assert (token.refresh_token, token.principal) == (Secret("R1"), None)
    if error is None:
        again = await servers.token_of_person(web_client, FORM)
        assert replace(again, skew=token.skew) == token  # between the two, the server's clock goes on
    else:
        asking = servers.token_of_person(web_client, FORM)
        assert await outcome_of(asking) == ("misconfigured", f"id_token_{error}")


def dated(clock, body, *, off, took=0.0, **fields):
    """Responds after `took` seconds, with a Date that is `off` seconds ahead of our clock."""

    async def respond(_request):
        clock.advance(took / 2)
        date = formatdate(clock.wall() + off, usegmt=True)
        clock.advance(took / 2)
        return web.json_response(body, headers={"Date": date, **fields})

    return respond


SKEWS = [  # seconds: the server's clock is ahead, its response takes; the token's skew
    (0, 0, 0.0),
    (0, 8, 0.0),
    (3, 8, 0.0),  # may be the network delay
    (3600, 0, 3600.0),
    (3600, 8, 3596.0),  # at least
    (-3600, 8, -3604.0),
    (10**9, 0, 1e9),
]


@pytest.mark.parametrize(("off", "took", "skew"), SKEWS)
async def test_a_token_has_the_skew_of_the_servers_clock(puppet, servers, web_client, clock, off, took, skew):
    sent_at, sent_boot = clock.wall(), clock.boot()
    puppet.answers["/token"] = dated(clock, GOOD, off=off, took=took)
    token = await servers.token(web_client, FORM)
    assert (token.issued_at, token.skew) == (sent_at, skew)
    heard = clock.heard[token.server] + sent_boot - sent_at
    assert heard == 0 if skew == 0 else off <= heard <= off + took / 2 + 1


async def test_a_response_without_a_date_of_its_own_gives_no_skew(puppet, servers, web_client, clock):
    puppet.answers["/token"] = dated(clock, GOOD, off=3600, Age="60")
    assert (await servers.token(web_client, FORM)).skew is None
    assert clock.heard == {}


JWT = "e30.eyJpYXQiOjE4MDAwMDM2MDAsImV4cCI6MTgwMDAwNDIwMH0.x"  # iat 1800003600, exp ten minutes later
LIVES = [  # members of the response, keys of the configuration, expected lifetime
    ({"expires_in": 60}, {}, 60),
    ({"expires_in": 60}, {"access_token_lifetime": 600}, 600),  # the configuration takes precedence
    ({"expires_in": None}, {"access_token_lifetime": 600}, 600),
    ({"expires_in": 1_800_003_660}, {}, 60),  # a date, by the server's clock
    ({"expires_in": 0, "access_token": JWT}, {}, 600),
    ({"expires_in": 60, "access_token": JWT}, {}, 60),
    ({"expires_in": None}, {}, None),
]


@pytest.mark.parametrize(("members", "keys", "expected"), LIVES)
async def test_the_most_reliable_statement_of_the_lifetime_counts(
    puppet, servers, credential, clock, members, keys, expected
):
    client = credential(
        token_endpoint=f"{puppet.url}/token", authorization_endpoint="https://x.example/", **keys
    )
    puppet.answers["/token"] = dated(clock, {**GOOD, **members, "refresh_in": 30}, off=3600)
    token = await servers.token(client, FORM)
    assert (token.lifetime, token.refresh_in) == (expected, 30)


async def test_more_parameters_are_sent_with_every_grant_and_lists_are_repeated(credential, puppet, servers):
    forms = []

    async def read(request):
        forms.append(parse_qsl(await request.text()))
        return web.json_response(GOOD)

    puppet.answers["/token"] = read
    client = credential(
        token_endpoint=f"{puppet.url}/token",
        authorization_endpoint=f"{puppet.url}/authorize",
        client_secret="s",
        client_auth="client_secret_post",
        token_params={"audience": "a&b", "resource": ["https://one.example/", "https://two.example/"]},
    )
    await servers.token(client, FORM)
    assert forms == [
        [
            ("grant_type", "refresh_token"),
            ("refresh_token", "R0"),
            ("audience", "a&b"),
            ("resource", "https://one.example/"),
            ("resource", "https://two.example/"),
            ("client_id", "web"),
            ("client_secret", "s"),
        ]
    ]


async def test_bytes_on_an_idle_connection_are_no_response_to_the_next_request(servers, credential):
    """RFC 9112 section 9.2. The next request may be another account's."""
    serving = []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                for name in (b"mine", b"stray"):
                    body = b'{"access_token": "%s", "token_type": "Bearer"}' % name
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    await writer.drain()
                    await asyncio.sleep(0.02)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = credential(
            token_endpoint=f"http://127.0.0.1:{port}/", authorization_endpoint="https://x.example/"
        )
        tokens = []
        for _ in range(3):
            tokens.append((await servers.token(client, FORM)).access_token.reveal())
            await asyncio.sleep(0.03)
        await asyncio.wait(serving, timeout=5)
    assert tokens == ["mine"] * 3
    assert len(serving) == 3


async def test_a_body_that_drips_is_given_up(puppet, impatient, clock, web_client):
    async def drip(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client has stopped reading
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)
        return response

    puppet.answers["/token"] = drip
    assert await outcome_of(AuthorizationServers(impatient, clock).token(web_client, FORM)) == (
        "transient",
        "timeout",
    )


async def test_a_body_without_end_is_not_read_to_it(puppet, servers, web_client):
    sent = 0

    async def flood(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 100:
                await response.write(b" " * 2**20)
                sent += 1
        return response

    puppet.answers["/token"] = flood
    assert await outcome_of(servers.token(web_client, FORM)) == ("transient", "too_large")
    assert sent < 30  # megabytes, kernel buffers included


async def test_a_gzip_bomb_is_not_unfolded(puppet, servers, web_client):
    async def bomb(_request):
        return web.Response(body=gzip.compress(b" " * 10**7), headers={"Content-Encoding": "gzip"})

    puppet.answers["/token"] = bomb
    assert await outcome_of(servers.token(web_client, FORM)) == ("transient", "too_large")


RAW = [  # a fault of the connection, and its code
    (b"", "connection_lost"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "connection_lost"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "connection_lost"),
    (b"SSH-2.0-OpenSSH\r\n", "connection_lost"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "connection_lost"),
]


@pytest.mark.parametrize(("said", "error"), RAW)
async def test_a_missing_or_broken_response_is_transient(credential, servers, said, error):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = credential(
            token_endpoint=f"http://127.0.0.1:{port}/", authorization_endpoint="https://x.example/"
        )
        assert await outcome_of(servers.token(client, FORM)) == ("transient", error)


async def test_an_unreachable_server_is_transient(credential, servers, make_puppet):
    async with make_puppet() as gone:
        pass
    client = credential(token_endpoint=f"{gone.url}/token", authorization_endpoint="https://x.example/")
    assert await outcome_of(servers.token(client, FORM)) == ("transient", "unreachable")


async def test_a_server_with_a_wrong_certificate_is_reported_as_tls(credential, servers, tmp_path):
    import ssl

    import trustme

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    async def serve(_reader, writer):
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        client = credential(
            token_endpoint=f"https://127.0.0.1:{port}/",
            authorization_endpoint="https://x.example/",
            tls={"ca": str(other)},
        )
        assert await outcome_of(servers.token(client, FORM)) == ("transient", "tls")


async def test_a_certificate_with_only_a_common_name_is_reported_as_tls(credential, servers, tmp_path):
    import ssl

    from tests.relay.conformance_certificates import authority_of_rsa, for_nobody

    context, authority = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), authority_of_rsa()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for_nobody(context, authority, tmp_path)

    async def serve(_reader, writer):
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        client = credential(
            token_endpoint=f"https://localhost:{server.sockets[0].getsockname()[1]}/",
            authorization_endpoint="https://x.example/",
            tls={"ca": str(tmp_path / "ca.pem")},
        )
        assert await outcome_of(servers.token(client, FORM)) == ("transient", "tls")


async def test_a_request_stopped_by_before_send_is_not_sent(servers, credential):
    class TooLateError(Exception):
        pass

    received, connected, closed = bytearray(), asyncio.Event(), asyncio.Event()

    async def listen(reader, writer):
        connected.set()
        received.extend(await reader.read())
        writer.close()
        closed.set()

    def stop():
        raise TooLateError

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = credential(token_endpoint=url, authorization_endpoint=url, client_secret="s")
        with pytest.raises(TooLateError):
            await servers.token(client, FORM, before_send=stop)
        await asyncio.wait_for(closed.wait(), 5)
    assert connected.is_set()
    assert b"R0" not in received


async def test_the_environment_can_redirect_nothing(puppet, servers, web_client, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    puppet.says("/token", GOOD)
    assert (await servers.token(web_client, FORM)).access_token.reveal() == "AT-1"
