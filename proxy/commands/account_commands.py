"""`token-proxy login`, `token` and `logout`, of one account each: their options."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.commands.completions import accounts, credentials
from proxy.commands.group import example
from proxy.commands.shared import (
    command,
    config_option,
    load_config,
    read_config,
    run_async,
    warn,
)

if TYPE_CHECKING:
    from proxy.config.model import Config

account_option = click.option(
    "--account", default="default", show_default=True, shell_complete=accounts, help="Name of the account."
)


@click.command(epilog=example("token-proxy login crm --account alice"))
@click.argument("credential", required=False, shell_complete=credentials)
@click.option("--account", show_default="default", shell_complete=accounts, help="Name of the account.")
@click.option(
    "--no-browser",
    is_flag=True,
    help="Do not open a browser: print the URL and read the pasted redirect URL.",
)
@click.option(
    "--device",
    is_flag=True,
    help="Log in on any device, with a user code (RFC 8628). Always so for grant device_code.",
)
@click.option("--code", help="Exchange an authorization code obtained elsewhere and store the tokens.")
@click.option(
    "--redirect-uri",
    metavar="URI",
    help="With --code: the redirect URI of the code. Default: the one that the credential's logins use.",
)
@click.option("--code-verifier", metavar="VERIFIER", help="With --code: the PKCE verifier, if one was used.")
@config_option
@command
def login(
    credential: str | None,
    account: str | None,
    no_browser: bool,
    device: bool,
    code: str | None,
    redirect_uri: str | None,
    code_verifier: str | None,
    config: Path | None,
) -> int:
    """Log in to CREDENTIAL and store its tokens.

    Without CREDENTIAL: the only one that has a login, else a list of them.

    The redirect goes to a running server, or to this command. If the browser can reach neither, paste the
    redirect URL here. With grant device_code, or --device, enter the code that this command shows on any
    device.
    """
    if code is None and (redirect_uri or code_verifier):
        raise click.UsageError("--redirect-uri and --code-verifier go with --code")
    if code is not None and device:
        raise click.UsageError("--device does not go with --code")
    loaded = read_config(config)
    warn(loaded.warnings, loaded.config)
    from proxy.commands.device_login import is_on_device
    from proxy.commands.login import exchange_code, log_in, log_in_on_device

    credential, account = _chosen(loaded.config, credential, account)
    if code is not None:
        return run_async(
            exchange_code(loaded.config, credential, account, code, redirect_uri, code_verifier, click.echo)
        )
    opens = not no_browser
    if device or is_on_device(loaded.config, credential):
        in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return run_async(
            log_in_on_device(
                loaded.config, credential, account, click.echo, open_browser=opens, in_colour=in_colour
            )
        )
    return run_async(log_in(loaded.config, credential, account, click.echo, open_browser=opens))


def _chosen(config: Config, credential: str | None, account: str | None) -> tuple[str, str]:
    from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT

    if credential is not None:
        return credential, DEFAULT_ACCOUNT if account is None else account
    from proxy.commands.login_choice import choose

    found = run_async(choose(config, account, click.echo))
    if found is None:
        raise click.UsageError("name the credential to log in to, as one of these commands does")
    return found


@click.command(epilog=example('curl -H "$(token-proxy token crm --format header)" https://api.example.com/'))
@click.argument("credential", shell_complete=credentials)
@click.argument("operation", required=False, metavar="")  # of git, which appends it
@account_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["plain", "json", "header", "env", "git", "exec-credential"]),
    default="plain",
    help="plain: the token alone. json. header: the field, as for curl -H. env: NAME_ACCESS_TOKEN=…. git: as "
    "a credential helper. exec-credential: for kubectl.",
)
@config_option
@command
def token(credential: str, operation: str | None, account: str, form: str, config: Path | None) -> int:
    """Print the access token of CREDENTIAL, and nothing else.

    It is refreshed first if necessary. Exit code 3 if a person must log in.

    For git: git config credential.https://git.example.helper '!token-proxy token CREDENTIAL --format git'
    """
    if operation is not None and form != "git":
        raise click.UsageError(f"Got unexpected extra argument ({operation})")
    if operation not in {None, "get", "erase"}:  # store, or one of a later git: nothing to do
        return 0
    loaded = load_config(config)
    from proxy.commands.token_formats import read_git
    from proxy.commands.tokens import git_refused, print_token

    git = read_git(sys.stdin.read()) if operation is not None else {}
    if operation == "erase":
        return run_async(git_refused(loaded, credential, account, git))
    return run_async(print_token(loaded, credential, account, click.echo, form, git))


@click.command(epilog=example("token-proxy logout crm"))
@click.argument("credential", shell_complete=credentials)
@account_option
@config_option
@command
def logout(credential: str, account: str, config: Path | None) -> int:
    """Revoke the tokens of CREDENTIAL and delete them."""
    loaded = load_config(config)
    from proxy.commands.tokens import log_out

    return run_async(log_out(loaded, credential, account, click.echo, partial(click.echo, err=True)))
