"""python -m proxy.demo: the authorization server and the API in a process of their own, for tests.

Once they listen, one line of JSON on stdout tells where; SIGTERM and SIGINT end them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import click
import uvloop

from proxy.demo import control
from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.serve import running

_GRANTS = ("authorization_code", "refresh_token", "client_credentials")


async def serve(
    server: AuthorizationServer, port: int, api_port: int, control_port: int, *, until_eof: bool
) -> None:
    """Until a signal, or until stdin ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), _stop_at_the_end, sys.stdin.fileno(), stop)
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(running(server.application(), port=port))
        api = await stack.enter_async_context(running(api_application(server), port=api_port))
        controlled = control.Control(server).application()
        controls = await stack.enter_async_context(running(controlled, port=control_port))
        ready = {"event": "ready", "issuer": issuer, "api": api, "control": controls, "pid": os.getpid()}
        click.echo(json.dumps(ready))
        await stop.wait()


def _stop_at_the_end(of: int, stop: asyncio.Event) -> None:
    if not os.read(of, 4096):
        stop.set()


def _clients(named: Sequence[str], auth_method: str, redirect_uris: Sequence[str]) -> list[Client]:
    clients = []
    for text in named:
        client_id, _, secret = text.partition(":")
        method = auth_method if secret else "none"
        clients.append(Client(client_id, secret, method, tuple(redirect_uris), _GRANTS))
    return clients


_port = click.IntRange(0, 65535)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
    epilog="\n\n".join(f"\b\n{paragraph}" for paragraph in (control.__doc__ or "").split("\n\n")),
)
@click.option("--port", type=_port, default=0, help="Where it listens; 0: any free port.")
@click.option("--api-port", type=_port, default=0, help="Where the API listens that wants its tokens.")
@click.option("--control", "control_port", type=_port, default=0, help="Where it is controlled.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    default=("demo:secret",),
    metavar="ID:SECRET",
    help="Who may ask for tokens. ID alone: a public one.",
)
@click.option(
    "--client-auth",
    type=click.Choice(["client_secret_basic", "client_secret_post"]),
    default="client_secret_basic",
    help="How clients with a secret show it.",
)
@click.option(
    "--redirect-uri",
    "redirect_uris",
    multiple=True,
    metavar="URI",
    help="Where a browser may be sent back to, for all of them.",
)
@click.option("--user", "users", multiple=True, default=("alice",), metavar="NAME", help="Who may log in.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="How long a spent refresh token gets its answer again.",
)
@click.option("--lifetime", type=click.IntRange(1), default=60, metavar="SECONDS", help="Of access tokens.")
@click.option("--rotation/--no-rotation", default=True, help="Whether a refresh token works once.")
@click.option("--until-eof", is_flag=True, help="End when stdin does: with who started it.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="How many events and tokens to keep. Default: all."
)
def main(
    port: int,
    api_port: int,
    control_port: int,
    clients: Sequence[str],
    client_auth: str,
    redirect_uris: Sequence[str],
    users: Sequence[str],
    grace: float,
    lifetime: int,
    rotation: bool,
    until_eof: bool,
    limit: int | None,
) -> None:
    """An authorization server to test against, on 127.0.0.1.

    A line of JSON tells where it, its API and its control listen.
    """
    server = AuthorizationServer(
        clients=_clients(clients, client_auth, redirect_uris),
        users=users,
        access_token_lifetime=lifetime,
        rotation=rotation,
        grace=grace,
        limit=limit,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(server, port, api_port, control_port, until_eof=until_eof))


if __name__ == "__main__":
    main(prog_name="python -m proxy.demo")
