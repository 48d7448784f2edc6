"""python -m proxy.demo: the authorization server and the API in a separate process, for tests.

Once they listen, it prints their addresses as one line of JSON; SIGTERM and SIGINT stop it.
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
    """Serve until a signal, or until the end of stdin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), _stop_at_eof, sys.stdin.fileno(), stop)
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(running(server.application(), port=port))
        api = await stack.enter_async_context(running(api_application(server), port=api_port))
        controlled = control.Control(server).application()
        controls = await stack.enter_async_context(running(controlled, port=control_port))
        ready = {"event": "ready", "issuer": issuer, "api": api, "control": controls, "pid": os.getpid()}
        click.echo(json.dumps(ready))
        await stop.wait()


def _stop_at_eof(of: int, stop: asyncio.Event) -> None:
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
@click.option("--port", type=_port, default=0, help="Port of the server; 0: any free port.")
@click.option("--api-port", type=_port, default=0, help="Port of the API.")
@click.option("--control", "control_port", type=_port, default=0, help="Port of the control interface.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    default=("demo:secret",),
    metavar="ID:SECRET",
    help="A client; without SECRET a public one.",
)
@click.option(
    "--client-auth",
    type=click.Choice(["client_secret_basic", "client_secret_post"]),
    default="client_secret_basic",
    help="How clients with a secret authenticate.",
)
@click.option(
    "--redirect-uri",
    "redirect_uris",
    multiple=True,
    metavar="URI",
    help="A redirect URI, for all clients.",
)
@click.option(
    "--user", "users", multiple=True, default=("alice",), metavar="NAME", help="A user who may log in."
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="How long a spent refresh token still works.",
)
@click.option(
    "--lifetime", type=click.IntRange(1), default=60, metavar="SECONDS", help="Lifetime of access tokens."
)
@click.option("--rotation/--no-rotation", default=True, help="Whether refresh tokens rotate.")
@click.option("--until-eof", is_flag=True, help="Stop at the end of stdin, i.e. with the parent process.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Number of events and tokens to keep. Default: all."
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
    """An authorization server for tests, on 127.0.0.1.

    Prints the addresses of the server, its API and its control interface as a line of JSON.
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
