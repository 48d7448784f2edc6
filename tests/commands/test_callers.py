"""A running server that identifies its callers: keys of the command, unix sockets, log and metrics."""

import asyncio
import json
import os
import stat
import sys

import aiohttp
import pytest
import trustme

CALLERS = """
[callers.build]
{digest}
routes = ["machine"]
[callers.job]
not_before = 1700000000
[callers.me]
uid = {uid}
"""


@pytest.fixture
async def shared(bench):
    """The server listens on all addresses and on a socket for others; the key is the one of `build`."""
    port = bench.config.server.listen[0].port
    path = bench.path.with_name("data.sock")
    made = await bench.call("caller-key", "build")
    listen = (
        f'["0.0.0.0:{port}", {{ unix = "{path}", mode = "0660", group = {os.getegid()} }}]\nplaintext = true'
    )
    text = bench.path.read_text().replace(f'"127.0.0.1:{port}"', listen)
    bench.path.write_text(text + CALLERS.format(digest=made.stderr, uid=os.geteuid()))
    return made.stdout.strip()


async def ask(url, path=None, **fields):
    connector = aiohttp.UnixConnector(str(path)) if path else None
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers=fields) as response,
    ):
        body = await response.json()
        return response.status, body.get("type", "").rpartition(":")[2]


async def test_a_server_for_known_callers_only(bench, shared):
    server = await bench.run()
    url = f"{bench.data}/machine/x".replace("0.0.0.0", "127.0.0.1")
    path = bench.path.with_name("data.sock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert await ask(url) == (401, "caller-unknown")
    assert await ask(url, **{"X-Api-Key": shared}) == (200, "")
    assert await ask(url.replace("/machine", "/demo"), **{"X-Api-Key": shared}) == (403, "caller-denied")
    assert await ask("http://localhost/machine/x", path) == (200, "")

    signed = (await bench.call("caller-key", "job", "--ttl", "5m")).stdout.strip()
    assert await ask(url, Authorization=f"Bearer {signed}") == (200, "")
    assert await ask(url, Authorization=f"Bearer {signed[:-1]}") == (401, "caller-unknown")
    assert await ask(url, Host="0.0.0.0") == (421, "host-refused")

    metrics = await scraped(bench)
    counted = {line for line in metrics.splitlines() if line.startswith("token_proxy_caller_requests_total")}
    assert counted == {
        'token_proxy_caller_requests_total{caller="build",code="200",route="machine"} 1.0',
        'token_proxy_caller_requests_total{caller="build",code="403",route="demo"} 1.0',
        'token_proxy_caller_requests_total{caller="me",code="200",route="machine"} 1.0',
        'token_proxy_caller_requests_total{caller="job",code="200",route="machine"} 1.0',
    }
    server.signal()
    assert await server.end() == 0
    assert not path.exists()
    lines = [json.loads(line) for line in server.log]
    requests = [(line["caller"], line["status"]) for line in lines if line["event"] == "request"]
    assert requests == [("build", 200), ("build", 403), ("me", 200), ("job", 200)]
    assert not any(shared in line or signed in line for line in server.log)


async def scraped(bench):
    async with aiohttp.ClientSession() as session, session.get(f"{bench.admin}/metrics") as response:
        return await response.text()


async def test_over_tls_a_certificate_or_a_key_will_do(bench, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    for name, issuer in (("build", authority), ("other", authority), ("stranger", stranger)):
        issued = issuer.issue_cert(f"{name}.corp.example")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    port, made = bench.config.server.listen[0].port, await bench.call("caller-key", "job")
    server, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    callers = f'[callers.build]\ncertificate = "build.corp.example"\n[callers.job]\n{made.stderr}'
    tls = f'listen = "0.0.0.0:{port}"\ntls = {{ cert = "{server}", key = "{server}", client_ca = "{ca}" }}'
    text = bench.path.read_text().replace(f'listen = "127.0.0.1:{port}"', tls)
    bench.path.write_text(text + callers)
    await bench.run()

    async def curl(*arguments):
        process = await asyncio.create_subprocess_exec(
            *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(ca), *arguments),
            f"https://localhost:{port}/machine/x",
            stdout=asyncio.subprocess.PIPE,
        )
        return (await asyncio.wait_for(process.communicate(), 60))[0].decode()

    assert await curl() == "401"
    assert await curl("--cert", str(tmp_path / "build.pem")) == "200"
    assert await curl("--cert", str(tmp_path / "other.pem")) == "401"
    assert await curl("--cert", str(tmp_path / "stranger.pem")) == "000"  # the handshake fails
    assert await curl("-u", f"me:{made.stdout.strip()}") == "200"
    assert await curl("--cert", str(tmp_path / "other.pem"), "-u", f"me:{made.stdout.strip()}") == "200"
    metrics = await scraped(bench)
    assert 'caller_requests_total{caller="build",code="200",route="machine"} 1.0' in metrics
    assert 'caller_requests_total{caller="job",code="200",route="machine"} 2.0' in metrics


async def test_git_sends_the_urls_password_after_the_challenge(bench, shared):
    await bench.run()
    url = f"{bench.data}/machine/repository".replace("http://", f"http://me:{shared}@").replace(
        "0.0.0.0", "localhost"
    )
    git = await asyncio.create_subprocess_exec(
        *("git", "-c", "credential.helper=", "ls-remote", url),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
    )
    await asyncio.wait_for(git.communicate(), 60)  # it fails: what is behind is no repository
    metrics = await scraped(bench)
    assert 'token_proxy_refused_total{reason="caller-unknown"} 1.0' in metrics
    assert 'token_proxy_caller_requests_total{caller="build",code="200",route="machine"}' in metrics


async def test_without_callers_there_is_no_metric_of_them(bench):
    await bench.run()
    assert "caller_requests" not in await scraped(bench)


async def test_anyone_is_warned_about_at_each_start(bench):
    bench.edit("[log]", 'anyone = ["172.18.0.0/16"]\n[log]')
    server = await bench.run()
    assert any(
        "every program in these networks may use all routes and accounts" in line for line in server.log
    )
    assert await ask(f"{bench.data}/machine/x") == (200, "")  # from this machine, as ever


@pytest.mark.privileged  # a network of its own
@pytest.mark.parametrize(("anyone", "expected"), [("203.0.113.0/24", "200"), ("198.51.100.0/24", "401")])
async def test_an_address_beyond_this_machine_must_be_anyones(bench, anyone, expected):
    port = bench.config.server.listen[0].port
    bench.edit(f'listen = "127.0.0.1:{port}"', f'listen = "0.0.0.0:{port}"\nanyone = "{anyone}"')
    command = SCRIPT.format(python=sys.executable, config=bench.path, port=port)
    inside = await asyncio.create_subprocess_exec(
        "unshare", "-n", "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await asyncio.wait_for(inside.communicate(), 120)
    # there is no authorization server in there: a request that is let in gets no token
    assert said.decode().split() == [{"200": "503", "401": "401"}[expected], "503"], errors.decode()[-2000:]


SCRIPT = """
ip link set lo up && ip addr add 203.0.113.5/32 dev lo
{python} -m proxy run -c {config} &
server=$!
until curl -s -o /dev/null http://127.0.0.1:{port}/; do sleep 0.1; done
curl -s -o /dev/null -w '%{{http_code}}\\n' http://203.0.113.5:{port}/machine/x
curl -s -o /dev/null -w '%{{http_code}}\\n' http://127.0.0.1:{port}/machine/x
kill $server
wait $server
"""
