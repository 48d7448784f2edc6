"""`token-proxy demo`: its options."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from proxy.commands.shared import command, config_ignored, run_async

if TYPE_CHECKING:
    from proxy.demo.script import Order

FAULT_EXAMPLES: Final = """\b
See how the proxy handles failures of the authorization server:
  token-proxy demo --fault outage@60-150                down for a minute and a half
  token-proxy demo --fault drop-after-commit:1          it has rotated, but the response is lost
  token-proxy demo --fault html:2,too-many-requests:3   one after the other"""


def _parse_faults(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> list[Order]:
    if not texts:
        return []
    from proxy.demo.script import parse_orders

    try:
        return [order for text in texts for order in parse_orders(text)]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _list_faults(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from proxy.demo.faults import NAMED

    formatter = click.HelpFormatter(width=110)
    formatter.write_dl([(name, fault.about) for name, fault in NAMED.items()])
    click.echo(formatter.getvalue(), nl=False)
    context.exit()


@click.command(epilog=FAULT_EXAMPLES)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[:TIMES][@FROM[-TO]]",
    callback=_parse_faults,
    help="A fault of refreshes, applied TIMES times (default: always), between the seconds FROM and TO. "
    "Several are separated by commas; the first that applies counts.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List all faults.",
)
@click.option(
    "--lifetime",
    type=click.IntRange(1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Lifetime of access tokens.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="How long a used refresh token still gets its successor; used after that, it revokes the login.",
)
@click.option("--no-rotation", is_flag=True, help="Refresh tokens stay valid, instead of working once.")
@config_ignored
@command
def demo(faults: list[Order], lifetime: int, grace: float, no_rotation: bool) -> int:
    """Try the proxy without any set-up.

    Runs an authorization server, an API that requires its tokens, the proxy and its status page.
    """
    from proxy.demo.wiring import run_demo

    program = typed(sys.argv[0])
    return run_async(
        run_demo(
            click.echo, faults, program=program, lifetime=lifetime, grace=grace, rotation=not no_rotation
        )
    )


def typed(started_as: str) -> str:
    """The command that starts this program: by its name only if it is found by that."""
    name = Path(started_as).name
    if name == "__main__.py":
        return f"{sys.executable} -m proxy"
    found = shutil.which(name)
    return name if found and os.path.realpath(found) == os.path.realpath(started_as) else started_as
