"""The delivery of a notification: to a real program, and to a real HTTP server."""

from __future__ import annotations

import asyncio
import os
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from proxy.config.address import read_egress
from proxy.config.lookups import Command
from proxy.demo.serve import running
from proxy.notify import delivery
from proxy.notify.delivery import NotDelivered, post, run
from proxy.notify.message import LONGEST, Message
from proxy.secret import Secret
from tests.fakes.egress import egress_proxy
from tests.patience import until

BODY = Message("crm/ann needs a person", "crm", "ann", "login_required", None).to_json()
PATH = {"PATH": os.environ["PATH"]}
FOR_EVER = 100_000  # seconds


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Command]:
    return lambda script, *arguments: Command(("sh", "-c", script, *arguments), tmp_path)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LIMIT", 0.5)


async def failure(doing: Awaitable[None]) -> tuple[str, int | None]:
    with pytest.raises(NotDelivered) as raised:
        await doing
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    return raised.value.error, raised.value.status


def is_alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def has_ended(file: Path) -> None:
    """The process whose id is in this file."""
    await until(lambda: file.exists() and file.read_text().strip())
    await until(lambda: not is_alive(int(file.read_text())))


# -- a program


async def test_it_gets_the_notification_on_stdin_and_nothing_else(
    shell: Callable[..., Command], tmp_path: Path
) -> None:
    environ = {**PATH, "HOME": "/somewhere", "LC_ALL": "C", "OAUTH_CLIENT_SECRET": "hunter2", "AWS_KEY": "x"}
    script = 'cat > body; pwd > place; env > environment; for each; do echo "$each"; done > arguments'
    await run(shell(script, "page", "$HOME; exit 1", "a b"), environ, BODY)
    assert (tmp_path / "body").read_bytes() == BODY
    assert (tmp_path / "place").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "arguments").read_text() == "$HOME; exit 1\na b\n"  # there is no shell of ours
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "HOME", "LC_ALL"}


async def test_the_longest_notification_arrives_whole(shell: Callable[..., Command], tmp_path: Path) -> None:
    body = Message("é" * LONGEST, "c" * 63, "a" * 128, "login_required", "https://x.example/" + "y" * 500)
    await run(shell("sleep 0.1; cat > body"), PATH, body.to_json())
    assert (tmp_path / "body").read_bytes() == body.to_json()


async def test_one_that_does_not_read_it_is_no_failure(shell: Callable[..., Command]) -> None:
    await run(shell("exec <&-; true"), PATH, BODY)


async def test_its_output_is_dropped(
    shell: Callable[..., Command], capfd: pytest.CaptureFixture[str]
) -> None:
    await run(shell("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2"), PATH, BODY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 3", ("exit_code", 3)), ("kill -9 $$", ("signal", -9)), ("no-such-program", ("exit_code", 127))],
)
async def test_one_that_fails(script: str, expected: tuple[str, int], shell: Callable[..., Command]) -> None:
    assert await failure(run(shell(f"{script} # hunter2"), PATH, BODY)) == expected


async def test_one_that_can_not_be_started(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("")  # not executable
    for program in ("/no/such/program", "no-such-program", "./page", str(tmp_path)):
        assert await failure(run(Command((program, "hunter2"), tmp_path), PATH, BODY)) == (
            "not_started",
            None,
        )
    elsewhere = Command(("true",), tmp_path / "removed")
    assert await failure(run(elsewhere, PATH, BODY)) == ("not_started", None)


async def test_one_that_hangs_ends_with_its_children(
    shell: Callable[..., Command], tmp_path: Path, hasty: None
) -> None:
    script = f"sleep {FOR_EVER} & echo $! > child; sleep {FOR_EVER}"
    assert await failure(run(shell(script), PATH, BODY)) == ("timeout", None)
    await has_ended(tmp_path / "child")


async def test_one_that_ends_is_not_waited_for_further_and_its_children_end_too(
    shell: Callable[..., Command], tmp_path: Path
) -> None:
    await run(shell(f"sleep {FOR_EVER} & echo $! > child"), PATH, BODY)  # it holds stdin and stdout
    await has_ended(tmp_path / "child")


async def test_one_that_runs_when_the_process_stops_ends(
    shell: Callable[..., Command], tmp_path: Path
) -> None:
    running_ = asyncio.create_task(run(shell(f"echo $$ > child; sleep {FOR_EVER}"), PATH, BODY))
    await until((tmp_path / "child").exists)
    running_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_
    await has_ended(tmp_path / "child")


async def test_no_file_stays_open(shell: Callable[..., Command]) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await run(shell("true"), PATH, BODY)
    before = open_files()
    for _ in range(5):
        await run(shell("true"), PATH, BODY)
        await failure(run(shell("exit 1"), PATH, BODY))
        await failure(run(Command(("no-such-program",), Path("/")), PATH, BODY))
    assert open_files() <= before


# -- a URL


class Hook:
    """A webhook: `/hunter2/200` responds with 200, and so on."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.fields: list[dict[str, str]] = []
        self.app = web.Application()
        self.app.router.add_post("/hunter2/{status}", self._respond)
        self.app.router.add_route("*", "/elsewhere", self._respond)

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.got.append((request.path, await request.read()))
        self.fields.append(dict(request.headers))
        match request.match_info.get("status"):
            case "slow":
                await asyncio.sleep(FOR_EVER)
            case "endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(bytes(65536))
            case "307" | "308" as status:
                return web.Response(status=int(status), headers={"Location": "/elsewhere"})
            case str() as status:
                return web.Response(status=int(status), body=b"ok", headers={"Set-Cookie": "a=b"})
        return web.Response()


@pytest.fixture
async def hook() -> AsyncIterator[tuple[Hook, str]]:
    made = Hook()
    async with running(made.app) as url:
        yield made, url


async def test_it_is_posted_as_json(hook: tuple[Hook, str]) -> None:
    made, url = hook
    for status in (200, 202, 204):
        await post(Secret(f"{url}/hunter2/{status}?room=1"), None, BODY)
    assert made.got == [(f"/hunter2/{status}", BODY) for status in (200, 202, 204)]
    for fields in made.fields:
        assert fields["Content-Type"] == "application/json"
        assert fields["User-Agent"].startswith("token-proxy/")
        assert not {"Cookie", "Authorization"} & fields.keys()


@pytest.mark.parametrize("status", [301, 302, 303, 400, 401, 404, 410, 429, 500, 503, 599])
async def test_every_other_status_is_a_failure(status: int, hook: tuple[Hook, str]) -> None:
    assert await failure(post(Secret(f"{hook[1]}/hunter2/{status}"), None, BODY)) == ("http_status", status)


@pytest.mark.parametrize("status", [307, 308])
async def test_no_redirect_is_followed(status: int, hook: tuple[Hook, str]) -> None:
    made, url = hook
    assert await failure(post(Secret(f"{url}/hunter2/{status}"), None, BODY)) == ("http_status", status)
    assert [path for path, _ in made.got] == [f"/hunter2/{status}"]


async def test_a_slow_one_is_given_up(hook: tuple[Hook, str], hasty: None) -> None:
    assert await failure(post(Secret(f"{hook[1]}/hunter2/slow"), None, BODY)) == ("timeout", None)


async def test_its_response_is_not_read(hook: tuple[Hook, str]) -> None:
    await post(Secret(f"{hook[1]}/hunter2/endless"), None, BODY)


async def test_one_that_is_not_there() -> None:
    assert await failure(post(Secret("http://127.0.0.1:1/hunter2"), None, BODY)) == ("unreachable", None)


@asynccontextmanager
async def saying(response: bytes) -> AsyncIterator[str]:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hunter2"


@pytest.mark.parametrize(
    "response",
    [b"", b"\x00\xff hunter2", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000],
)
async def test_one_that_does_not_speak_http(response: bytes) -> None:
    async with saying(response) as url:
        assert await failure(post(Secret(url), None, BODY)) == ("connection_lost", None)


async def test_its_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, made = trustme.CA(), Hook()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with running(made.app, ssl_context=context) as url:
        assert await failure(post(Secret(f"{url}/hunter2/200"), None, BODY)) == ("tls", None)
        assert made.got == []
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        await post(Secret(f"{url}/hunter2/200"), None, BODY)
    assert len(made.got) == 1


async def test_other_machines_are_reached_through_the_egress_proxy_and_this_one_is_not(
    hook: tuple[Hook, str],
) -> None:
    async with egress_proxy() as egress:
        through = read_egress(f"http://me:word@127.0.0.1:{egress.port}")
        egress.answers, egress.then = [b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"], "hang up"
        far = Secret("https://hooks.example/hunter2")
        assert await failure(post(far, through, BODY)) == ("egress_proxy", None)
        (head,) = egress.heads
        assert head.startswith(b"CONNECT hooks.example:443 HTTP/1.1\r\n")
        await post(Secret(f"{hook[1]}/hunter2/200"), through, BODY)
        assert len(egress.heads) == 1


async def test_the_environments_proxies_do_not_count(
    hook: tuple[Hook, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await post(Secret(f"{hook[1]}/hunter2/200"), None, BODY)
