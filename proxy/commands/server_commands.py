"""`token-proxy status`, `wait`, `open` and `explain`, about a running server or its store: their options."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.commands.completions import callers, credentials, paths
from proxy.commands.group import example
from proxy.commands.shared import command, config_option, load_config, run_async

# As in tokens/lifetime.py and observe/query.py, without their imports.
STATES = ("valid", "stale", "expired", "login_required", "misconfigured", "absent")
ATTENTION = "attention"

if TYPE_CHECKING:
    from proxy.commands.wait import Wanted


@click.command(name="open", epilog=example("token-proxy open"))
@config_option
@command
def open_page(config: Path | None) -> int:
    """Open the status page in the browser, signed in.

    It uses a link that works once. Without a browser, the link is printed.
    """
    loaded = load_config(config)
    from proxy.commands import open as page

    return run_async(page.open_page(loaded, click.echo))


@click.command(epilog=example("token-proxy status --watch"))
@click.option("--state", type=click.Choice([*STATES, ATTENTION]), help="Accounts in this state only.")
@click.option(
    "--credential", default="", metavar="CREDENTIAL", shell_complete=credentials, help="Its accounts only."
)
@click.option(
    "-q", "text", default="", metavar="SEARCH", help="Accounts whose name, or credential, has this in it."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as /api/status does.")
@click.option(
    "--watch", is_flag=True, help="Redraw it every two seconds; if it is not a terminal, print changes."
)
@config_option
@command
def status(
    state: str | None, credential: str, text: str, as_json: bool, watch: bool, config: Path | None
) -> int:
    """Show the state of every token.

    Below the table are the commands that mend what does not work. Asks a running server, or reads the store
    if none runs. Exit code 3 if a person must log in (or give a refresh token), else 1 if an account can't
    serve.
    """
    loaded = load_config(config)
    from proxy.commands.status import show_status
    from proxy.commands.status_table import Selection
    from proxy.commands.tokens import key_of
    from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT
    from proxy.observe.query import BadQueryError, Query

    selection = Selection(state or "", credential, text)
    try:
        Query.of(selection.fields(1))
    except BadQueryError as error:
        raise click.UsageError(str(error)) from None
    if credential:
        key_of(loaded, credential, DEFAULT_ACCOUNT)
    return run_async(show_status(loaded, click.echo, selection, as_json=as_json, watch=watch))


@click.command(epilog=example("token-proxy wait --timeout 30 && ./job"))
@click.option(
    "--for",
    "wanted",
    type=click.Choice(["ready", "startup", "healthy"]),
    default="ready",
    show_default=True,
    help="ready: every required credential can serve (/readyz). startup: the store and the listeners are up "
    "(/startupz). healthy: the process lives (/healthz).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 30 * 86400.0),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait; 0: look once, as a container's HEALTHCHECK does.",
)
@config_option
@command
def wait(wanted: Wanted, timeout: float, config: Path | None) -> int:
    """Wait until a running server is ready.

    Asks the health listener, if the configuration has one, else the admin listener. Silent on success;
    otherwise it prints why the server is not ready, with exit code 1.
    """
    if isnan(timeout):
        raise click.BadParameter("expected a number of seconds", param_hint="--timeout")
    from proxy.commands.wait import wait as wait_for
    from proxy.config.load import find_config, load

    loaded = load(find_config(config), secrets=False)  # a health check may be without them
    return run_async(wait_for(loaded.config, wanted, timeout))


@click.command(epilog=example("token-proxy explain GET /crm/contacts"))
@click.argument("method")
@click.argument("url", shell_complete=paths)
@click.option(
    "--caller",
    metavar="CALLER",
    shell_complete=callers,
    help="The caller that sends it, as named in the configuration; from any of its networks.",
)
@config_option
@command
def explain(method: str, url: str, caller: str | None, config: Path | None) -> int:
    """Show what would happen to a request METHOD URL.

    Shows its route, caller, policy, credential and token. URL is one of this proxy, or a path alone. Nothing
    is sent upstream. Exit code 1 if the request would be refused.
    """
    loaded = load_config(config)
    from proxy.commands.explain import explain as explain_request

    return run_async(explain_request(loaded, method, url, caller, click.echo))
