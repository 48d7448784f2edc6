"""`token-proxy demo`: a complete set-up in one process, on loopback only, with all state temporary.

An authorization server with access tokens of a minute and rotating refresh tokens, an API that requires its
tokens, and the real proxy in front of it. Faults of the authorization server can be scripted (`--fault`).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp

from proxy import signals, startup
from proxy.admin import launch, peers
from proxy.config.load import load
from proxy.config.model import Config
from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import DEVICE_CODE, TOKEN_EXCHANGE, Client
from proxy.demo.control import Control
from proxy.demo.script import Order
from proxy.demo.serve import running
from proxy.errors import LoginFailed
from proxy.observe import logs
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.tokens.login.pending import new_secret

PERSON: Final = "alice"
PORTS: Final = (8080, 8081)  # data, admin; others if these are taken
CONFIG: Final = """\
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[log]
format = "text"

[credentials.person]
issuer = "{issuer}"
grant = "authorization_code"
client_id = "demo-app"
client_secret = {{ file = "{state}/secret" }}
scopes = ["api"]

[credentials.machine]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "demo-machine"
client_secret = {{ file = "{state}/secret" }}
scopes = ["api"]

[[routes]]
path = "/demo"
upstream = "{api}"
credential = "person"

[[routes]]
path = "/machine"
upstream = "{api}"
credential = "machine"
"""
WELCOME: Final = """
token-proxy demo: {person} is logged in at the authorization server. Without a token of your own, try:

    curl {data}/demo/hello
    curl -d 'a body' {data}/demo/orders
    curl {data}/machine/report

Each response says which token came with the request: the proxy has attached it. {tokens};
leave it running and watch them change:

    {page}          status page
    {admin}/metrics   Prometheus

Now end {person}'s login at the authorization server, as its administrator could, and call again. The status
page shows what is wrong, and its button Reconnect mends it.

    curl -X DELETE {control}/logins/{person}
    curl {data}/demo/hello   # 401: the API refuses the token, and the authorization server a new one
    curl {data}/demo/hello   # 503: from now on the proxy says what to do

{faults}

Ctrl-C stops everything.
"""
NO_FAULTS: Final = """\
No faults are scripted. To see how the proxy handles some, run

    {program} demo --fault outage@60-150         no refresh for a minute and a half
    {program} demo --fault drop-after-commit:1   a response is lost, and with it the login
    {program} demo --fault drop-after-commit:1 --grace 30
    {program} demo --list-faults                 all faults"""
JOURNAL_LIMIT: Final = 10_000  # events and tokens: hours of a busy demo, in a few megabytes
Say = Callable[[str], object]


async def run_demo(
    say: Say,
    orders: Sequence[Order] = (),
    *,
    program: str = "token-proxy",
    lifetime: int = 60,
    grace: float = 0.0,
    rotation: bool = True,
) -> int:
    """Run until a signal. Raises LoginFailed, StoreError, CannotListen.

    `program`: the command, as it can be typed. The orders apply to refreshes only, so that a login always
    works and can repair what a fault broke.
    """
    stop = asyncio.Event()
    signals.stop_on_signals(stop)
    data, admin = free_ports(*PORTS)
    settings: Any = {"access_token_lifetime": lifetime, "grace": grace, "rotation": rotation}
    async with embedded(data, admin, limit=JOURNAL_LIMIT, **settings) as (server, config):
        logs.set_up(config.log)
        controlled = running(Control(server).application())
        async with controlled as control, startup.serving(config) as state:
            await log_in(state)
            for order in orders:
                server.script(
                    order.fault,
                    times=order.times,
                    after=order.after,
                    lasting=order.lasting,
                    grant_type="refresh_token",
                )
            say(
                WELCOME.format(
                    person=PERSON,
                    data=f"http://127.0.0.1:{data}",
                    admin=config.public_url,
                    page=await _page(config, state),
                    tokens=_describe_settings(lifetime, grace, rotation=rotation),
                    control=control,
                    faults=_describe_orders(orders) or NO_FAULTS.format(program=program),
                )
            )
            await stop.wait()
    return 0


async def _page(config: Config, state: Services) -> str:
    """Where our own user can't be recognised, the status page needs a session."""
    return f"{config.public_url}/" if peers.TELLS_USERS else await launch.make(config, state.store)


def _describe_settings(lifetime: int, grace: float, *, rotation: bool) -> str:
    if not rotation:
        return f"Access tokens live for {lifetime} seconds and the refresh token stays"
    again = f", or again within {grace:g} seconds" if grace else ""
    return f"Access tokens live for {lifetime} seconds and every refresh token works once{again}"


def _describe_orders(orders: Sequence[Order]) -> str:
    if not orders:
        return ""
    return "Faults of refreshes:\n\n" + "\n".join(f"    {order}" for order in orders)


@asynccontextmanager
async def embedded(
    data: int, admin: int, **options: Any
) -> AsyncIterator[tuple[AuthorizationServer, Config]]:
    """Run the authorization server (with `options`) and the API; yield the server and a configuration.

    `data` and `admin` are the ports of the proxy's listeners. All files are removed after the block.
    """
    secret = secrets.token_urlsafe(24)
    person = Client(
        "demo-app",
        secret,
        redirect_uris=(f"http://127.0.0.1:{admin}/callback",),
        grants=("authorization_code", "refresh_token", DEVICE_CODE),
    )
    machine = Client(
        "demo-machine",
        secret,
        grants=("client_credentials", "password", "refresh_token", TOKEN_EXCHANGE),
    )
    server = AuthorizationServer(clients=(person, machine), users=(PERSON,), **options)
    with TemporaryDirectory(prefix="token-proxy-demo-") as folder:
        (Path(folder) / "secret").write_text(secret)
        async with running(server.application()) as issuer, running(api_application(server)) as api:
            path = Path(folder) / "config.toml"
            path.write_text(CONFIG.format(state=folder, data=data, admin=admin, issuer=issuer, api=api))
            yield server, load(path, {}).config


async def log_in(state: Services) -> None:
    """Log in like a browser: open the address of an invitation, and submit the form that it leads to."""
    invited = await state.logins.invite(AccountId("person", "default"), command=new_secret())
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
        browser.get(invited) as page,
        browser.post(page.url, data={"user": PERSON}) as done,
    ):
        if done.status != 200:
            raise LoginFailed("the demo could not log itself in")


QUIET_PORTS: Final = range(15_000, 30_000)  # below the range of outgoing connections


def free_ports(*preferred: int) -> list[int]:
    """Each port as preferred if it is free (0: any), else another free one."""
    with ExitStack() as stack:
        # all are open at the same time, so that no port is returned twice
        sockets = [stack.enter_context(_bound(port)) for port in preferred]
        return [sock.getsockname()[1] for sock in sockets]


def _bound(preferred: int) -> socket.socket:
    """A listening socket, as SO_REUSEADDR would let another socket bind the port."""
    port = preferred or random.choice(QUIET_PORTS)  # noqa: S311 (any will do)
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            port = random.choice(QUIET_PORTS)  # noqa: S311 (as above)
