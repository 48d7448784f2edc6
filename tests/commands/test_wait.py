"""wait: looks at a running server until it is ready, and says why it is not."""

import asyncio
import json
import socket

import pytest
import trustme
from aiohttp import web

from proxy.commands import wait as module
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports, log_in

DONE, FAILED, USAGE = 0, 1, 2
FOREVER = "600"  # seconds: it ends as soon as it may
NO_SERVER = "no server responds at {}: expected `token-proxy run` with this configuration"
OTHER_PROGRAM = "what listens at {} does not know /readyz: expected token-proxy of this version"
NONE_VALID = "no valid token - run `token-proxy status`"


def with_health(bench, more=""):
    (port,) = free_ports(0)
    bench.edit("[server]\n", f'[server]\nhealth = "0.0.0.0:{port}"\n{more}')
    return f"127.0.0.1:{port}"


async def look(bench, *arguments):
    """Look once; the exit code and what it says."""
    found = await bench.call("wait", "--timeout", "0", *arguments)
    assert not found.stdout
    return found.exit_code, found.stderr


async def waiting(bench, *arguments):
    return await bench.start("wait", "--timeout", FOREVER, *arguments, "-c", str(bench.path))


@pytest.mark.parametrize("health", [False, True])
async def test_the_command_waits_until_a_person_has_logged_in(bench, health):
    if health:
        with_health(bench)
    command, started = await waiting(bench), await waiting(bench, "--for", "startup")
    await asyncio.sleep(1)
    async with bench.serving() as services:
        assert (await started.end(), started.out, started.log) == (DONE, "", [])
        assert not command.has_ended
        await log_in(services)
        assert (await command.end(), command.out, command.log) == (DONE, "", [])


@pytest.mark.parametrize("health", [False, True])
async def test_without_a_server_it_says_where_it_has_looked(bench, health):
    address = with_health(bench) if health else str(bench.config.server.admin)
    for wanted in ("ready", "startup", "healthy"):
        code, said = await look(bench, "--for", wanted)
        assert code == FAILED
        assert said == f"token-proxy: not {wanted}: {NO_SERVER.format(address)}\n"


async def test_it_gives_up_after_its_time(bench):
    found = await bench.call("wait", "--timeout", "0.7")
    assert (found.exit_code, found.stdout) == (FAILED, "")
    assert found.stderr.startswith("token-proxy: not ready after 0.7 s: no server responds at ")


@pytest.mark.parametrize("more", ["", "health_accounts = false\n", None])
async def test_it_names_the_account_and_what_to_do(bench, more):
    if more is not None:
        with_health(bench, more)
    async with bench.serving():
        sentence = "person/default is absent: nobody has logged in yet; run `token-proxy login person`"
        assert await look(bench) == (FAILED, f"token-proxy: not ready: {sentence}\n")
        for wanted in ("startup", "healthy"):
            assert await look(bench, "--for", wanted) == (DONE, "")
    await bench.log_in()
    async with bench.serving():
        assert await look(bench) == (DONE, "")


MORE_ROUTES = """
[[routes]]
path = "/{name}"
upstream = "http://127.0.0.1:9"
credential = "person"
account = "{name}"
"""


async def test_of_several_accounts_it_names_the_first(bench):
    more = "".join(MORE_ROUTES.format(name=name) for name in ("bob", "carol"))
    bench.edit("\n[log]", f"\n{more}\n[log]")
    async with bench.serving():
        code, said = await look(bench)
    assert code == FAILED
    assert said.startswith("token-proxy: not ready: person/bob is absent: ")
    assert said.endswith("(and 2 more: run `token-proxy status`)\n")


async def test_during_a_drain_it_says_that_the_server_stops(bench):
    with_health(bench)
    async with responding({"ready": False, "reasons": [{"state": "draining"}]}) as address:
        bench.edit(str(bench.config.server.health), address)
        assert await look(bench) == (FAILED, "token-proxy: not ready: the server is stopping\n")


async def test_a_server_that_starts_is_told_as_such(bench):
    """Its store accepts connections and says nothing."""
    address = with_health(bench)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/db"
        bench.path.write_text(bench.path.read_text() + f'\n[store]\nurl = "{url}"\nkey = "{"A" * 43}="\n')
        server = await bench.start("run", "-c", str(bench.path))
        await server.until(f"listening on 0.0.0.0:{address.rpartition(':')[2]}")
        sentence = "the server is starting: its store or a listener is not up yet, see its log\n"
        assert await look(bench) == (FAILED, f"token-proxy: not ready: {sentence}")
        assert await look(bench, "--for", "startup") == (FAILED, f"token-proxy: not startup: {sentence}")
        assert await look(bench, "--for", "healthy") == (DONE, "")


async def test_a_unix_socket_is_asked(bench, tmp_path):
    url, path = f'public_url = "{bench.admin}"', tmp_path / "admin.sock"
    bench.edit(f'admin = "{bench.config.server.admin}"', f'admin = "unix:{path}"\n{url}')
    assert (await look(bench))[1].startswith(f"token-proxy: not ready: no server responds at unix:{path}: ")
    async with bench.serving():
        assert await look(bench, "--for", "startup") == (DONE, "")


@pytest.fixture
def certificate(tmp_path):
    authority, both = trustme.CA(), tmp_path / "both.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return f'cert = "{both}", key = "{both}"'


async def test_an_admin_listener_with_tls_is_asked(bench, certificate):
    bench.edit("[server]\n", f"[server]\nadmin_tls = {{ {certificate} }}\n")
    async with bench.serving():
        assert await look(bench, "--for", "startup") == (DONE, "")


async def test_without_a_client_certificate_the_health_listener_is_needed(bench, certificate, tmp_path):
    tls = f'admin_tls = {{ {certificate}, client_ca = "{tmp_path}/ca.pem" }}\n'
    bench.edit("[server]\n", f"[server]\n{tls}")
    sentence = "the admin listener asks for a client certificate: expected server.health, to be asked"
    assert await look(bench) == (FAILED, f"token-proxy: {sentence}\n")
    with_health(bench)
    async with bench.serving():
        assert await look(bench, "--for", "startup") == (DONE, "")


# other programs at that address


def responding(document, status=503):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    app = web.Application()

    async def respond(_request):
        return web.Response(status=status, body=body)

    app.router.add_get("/{path:.*}", respond)

    class Running:
        async def __aenter__(self):
            self._running = running(app)
            return (await self._running.__aenter__()).removeprefix("http://")

        async def __aexit__(self, *error):
            await self._running.__aexit__(*error)

    return Running()


@pytest.mark.parametrize(
    ("document", "status", "sentence"),
    [
        (b"nonsense", 503, f"a required credential has {NONE_VALID}"),
        ([], 503, f"a required credential has {NONE_VALID}"),
        ({"reasons": 1}, 503, f"a required credential has {NONE_VALID}"),
        (
            {"reasons": ["x", {"credential": ["\x1b[2J"]}]},
            503,
            f"a required credential has {NONE_VALID}",
        ),
        (
            {"reasons": [{"credential": "\x1b[2J"}]},
            503,
            f"a required credential has {NONE_VALID}",
        ),
        (b"[" * 100_000, 503, f"a required credential has {NONE_VALID}"),
        (
            {"reasons": [{"credential": "person", "account": "x"}, {"credential": "machine"}]},
            503,
            f"credential person has {NONE_VALID} (and 1 more: run `token-proxy status`)",
        ),
        (b"", 404, OTHER_PROGRAM),
        (b"", 302, OTHER_PROGRAM),
        (
            b"x" * 5_000_000,
            503,
            NO_SERVER,
        ),
    ],
)
async def test_another_program_confuses_nobody(bench, document, status, sentence):
    async with responding(document, status) as address:
        bench.edit("[server]\n", f'[server]\nhealth = "{address}"\n')
        assert await look(bench) == (FAILED, f"token-proxy: not ready: {sentence.format(address)}\n")


async def test_what_does_not_respond_is_given_up(bench, monkeypatch):
    monkeypatch.setattr(module, "ONE_LOOK", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        bench.edit("[server]\n", f'[server]\nhealth = "{address}"\n')
        code, said = await look(bench)
    assert code == FAILED
    assert said.startswith(f"token-proxy: not ready: {address} accepts connections, but does not respond: ")


@pytest.mark.parametrize("given", ["-1", "nan", "1m", "inf", ""])
async def test_a_timeout_is_a_number_of_seconds(bench, given):
    found = await bench.call("wait", "--timeout", given)
    assert found.exit_code == USAGE
    assert "--timeout" in found.stderr


async def test_a_fault_in_the_configuration_is_one_of_usage(bench):
    bench.path.write_text("[sever]\n")
    assert (await bench.call("wait", "--timeout", FOREVER)).exit_code == USAGE


async def test_no_secret_needs_to_be_readable(bench):
    await bench.log_in()
    async with bench.serving():
        (bench.config.server.state_dir / "secret").unlink()
        assert await look(bench) == (DONE, "")


async def test_the_configuration_may_be_the_environment_alone(bench, tmp_path):
    listen, admin, health = free_ports(0, 0, 0)
    environment = {
        "TOKEN_PROXY_UPSTREAM": "http://127.0.0.1:9",
        "TOKEN_PROXY_ISSUER": bench.server.issuer,
        "TOKEN_PROXY_GRANT": "client_credentials",
        "TOKEN_PROXY_CLIENT_ID": "demo-machine",
        "TOKEN_PROXY_CLIENT_SECRET_FILE": f"{bench.config.server.state_dir}/secret",
        "TOKEN_PROXY_LISTEN": f"127.0.0.1:{listen}",
        "TOKEN_PROXY_ADMIN": f"127.0.0.1:{admin}",
        "TOKEN_PROXY_HEALTH": f"0.0.0.0:{health}",
        "STATE_DIRECTORY": str(tmp_path),
    }
    command = await bench.start("wait", "--timeout", FOREVER, **environment)
    server = await bench.start("run", **environment)
    await server.until("token-proxy is ready")
    assert (await command.end(), command.out, command.log) == (DONE, "", [])
    command = await bench.start("wait", "--timeout", "0", TOKEN_PROXY_HEALTH=f"127.0.0.1:{admin}")
    assert await command.end() == USAGE, "the rest is missing"


async def test_warnings_are_not_repeated_at_each_look(bench):
    with_health(bench)
    secret = bench.config.server.state_dir / "secret"
    bench.edit(f'{{ file = "{secret}" }}', f'"{secret.read_text()}"')
    await bench.log_in()
    async with bench.serving():
        assert await look(bench) == (DONE, "")
