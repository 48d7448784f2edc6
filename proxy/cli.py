"""The command line: the only printing, the only exit codes.

0 done, 1 failed, 2 usage or configuration, 3 a person must log in.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import click

from proxy import logs
from proxy.config.load import Loaded, find_config, load, schema
from proxy.config.model import Log
from proxy.errors import ConfigError, LoginRequired, ProxyError

DONE: Final = 0
FAILED: Final = 1
WRONG_CONFIG: Final = 2
LOGIN_NEEDED: Final = 3


def _run(work: Coroutine[Any, Any, int]) -> int:
    import uvloop  # a command that serves nothing starts without it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _outcome(action: Callable[[], int]) -> int:
    """Run a command; what goes wrong becomes one sentence and an exit code."""
    try:
        return action()
    except ConfigError as error:
        click.echo(str(error), err=True)
        return WRONG_CONFIG
    except LoginRequired as error:
        click.echo(f"token-proxy: {error}", err=True)
        return LOGIN_NEEDED
    except ProxyError as error:
        click.echo(f"token-proxy: {error}", err=True)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:  # noqa: BLE001 (the last resort of a command: a sentence instead of a traceback)
        click.echo(f"token-proxy: unexpected {type(error).__name__}; --debug shows where", err=True)
        return FAILED


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Give a command --debug, and turn what it returns or raises into an exit code."""

    @click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
    @functools.wraps(function)
    def run(*, debug: bool, **options: Any) -> None:
        action = functools.partial(function, **options)
        sys.exit(action() if debug else _outcome(action))

    return run


config_option = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="The configuration. Default: $TOKEN_PROXY_CONFIG, ./config.toml, /etc/token-proxy/config.toml.",
)
account_option = click.option("--account", default="default", show_default=True, help="Which account.")


def _load(config: Path | None, *, quiet: bool = True) -> Loaded:
    loaded = load(find_config(config))
    for warning in loaded.warnings:
        click.echo(f"warning: {warning.render(str(loaded.config.path))}", err=True)
    logs.set_up(Log(level="warning", format="text") if quiet else loaded.config.log)
    return loaded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="token-proxy")
def main() -> None:
    """A reverse proxy that attaches OAuth 2.0 tokens to outgoing calls."""


@main.command()
@config_option
@command
def run(config: Path | None) -> int:
    """Serve until SIGTERM."""
    from proxy.commands.run import run_server

    return _run(run_server(_load(config, quiet=False).config))


@main.command()
@command
def demo() -> int:
    """Run everything embedded: authorization server, API, proxy, status page. Ctrl-C stops it."""
    from proxy.demo.wiring import run_demo

    return _run(run_demo(click.echo))


@main.command()
@config_option
@command
def check(config: Path | None) -> int:
    """Report every fault of the configuration."""
    loaded = _load(config)
    click.echo(f"{loaded.config.path}: no faults")
    return DONE


@main.command(name="schema")
@command
def show_schema() -> int:
    """Print the JSON Schema of the configuration, for editors."""
    click.echo(json.dumps(schema(), indent=2))
    return DONE


@main.command()
@click.argument("credential")
@account_option
@click.option("--no-browser", is_flag=True, help="Print the URL, and take the redirect URL that you paste.")
@click.option("--code", help="A code obtained elsewhere: exchange it and store the tokens.")
@click.option("--redirect-uri", help="With --code: where it was sent. Default: public_url + /callback.")
@click.option("--code-verifier", help="With --code: the PKCE verifier, if there was one.")
@config_option
@command
def login(
    credential: str,
    account: str,
    no_browser: bool,
    code: str | None,
    redirect_uri: str | None,
    code_verifier: str | None,
    config: Path | None,
) -> int:
    """Log in to CREDENTIAL: get the first tokens."""
    from proxy.commands.login import exchange_code, log_in

    if code is None and (redirect_uri or code_verifier):
        raise click.UsageError("--redirect-uri and --code-verifier go with --code")
    loaded = _load(config).config
    if code is not None:
        return _run(exchange_code(loaded, credential, account, code, redirect_uri, code_verifier, click.echo))
    return _run(log_in(loaded, credential, account, click.echo, open_browser=not no_browser))


@main.command()
@click.argument("credential")
@account_option
@config_option
@command
def token(credential: str, account: str, config: Path | None) -> int:
    """Print the access token, refreshed if need be, and nothing else."""
    from proxy.commands.tokens import print_token

    return _run(print_token(_load(config).config, credential, account, click.echo))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="What /api/status gives.")
@click.option("--watch", is_flag=True, help="Again every two seconds.")
@config_option
@command
def status(as_json: bool, watch: bool, config: Path | None) -> int:
    """Show the health of every token. Exit code 3 if one needs a login."""
    from proxy.commands.status import show_status

    return _run(show_status(_load(config).config, click.echo, as_json=as_json, watch=watch))


@main.command()
@click.argument("credential")
@account_option
@config_option
@command
def logout(credential: str, account: str, config: Path | None) -> int:
    """Revoke the tokens and forget them."""
    from proxy.commands.tokens import log_out

    return _run(log_out(_load(config).config, credential, account, click.echo))
