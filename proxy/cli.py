"""The command line: options, output and exit codes. (`python -m proxy.demo` has its own.)

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 a person must log in.

The modules of a command are imported when it runs, so that `--help` is fast.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.commands.account_commands import login, logout, token
from proxy.commands.completions import callers, completion
from proxy.commands.demo import demo
from proxy.commands.group import CommandGroup, example, show_version
from proxy.commands.server_commands import explain, open_page, status, wait
from proxy.commands.shared import (
    DONE,
    command,
    config_before,
    config_ignored,
    config_option,
    load_config,
    read_config,
    run_async,
    warn,
)

if TYPE_CHECKING:
    from proxy.systemd import Supervisor


@click.group(
    cls=CommandGroup,
    epilog=example("token-proxy demo"),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _show_version(context) if wanted else None,
    help="Show the version, and whether the data path is compiled.",
)
@config_before
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """A reverse proxy that attaches OAuth 2.0 tokens to outgoing calls.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 a person must log in.
    """
    context.obj = config
    if context.invoked_subcommand is None:
        if config is not None:
            context.fail("Missing command.")
        click.echo(context.get_help())


def _show_version(context: click.Context) -> None:
    context.invoke(show_version)
    context.exit()


@main.command(epilog=example("token-proxy run -c config.toml"))
@click.option("--watch", is_flag=True, help="Reload whenever the configuration file changes.")
@config_option
@command
def run(watch: bool, config: Path | None) -> int:
    """Run the proxy until SIGTERM.

    Requests in flight are completed first; a second SIGTERM stops at once. SIGHUP reloads the configuration:
    a faulty one changes nothing, and is logged. Changed files of secrets and certificates need no reload.
    """
    from proxy import systemd

    supervisor = systemd.take()  # before any child may be started
    with supervisor.told():
        return _run(config, supervisor, watch=watch)


def _run(config: Path | None, supervisor: Supervisor, *, watch: bool) -> int:
    loaded = read_config(config)
    if watch and loaded.config.path is None:
        raise click.UsageError("--watch needs a configuration file, and there are only variables")
    from proxy.commands.run import run_server
    from proxy.observe import logs

    logs.set_up(loaded.config.log)
    with logs.own_thread(loaded.config.log):
        logs.warn(loaded.warnings, loaded.config.place)
        say = _to_stderr if sys.stderr.isatty() else None
        return run_async(run_server(loaded, say, supervisor, loaded.config.path if watch else None))


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


for _each in (demo, login, token, logout, status, wait, open_page, explain, completion):
    main.add_command(_each)


@main.command(epilog=example("token-proxy check -v"))
@click.option(
    "--no-secrets",
    is_flag=True,
    help="Do not read what the configuration refers to: variables, files with secrets, certificates and keys "
    "need not exist, as in CI.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show what was understood, defaults included.")
@config_option
@command
def check(no_secrets: bool, verbose: bool, config: Path | None) -> int:
    """Check the configuration and report every fault.

    Exit code 2 if there is one. Secrets are never shown.
    """
    from proxy.commands import check as checking
    from proxy.config.load import find_config, load
    from proxy.tokens.saved.lasting import store_warning

    more = [] if no_secrets else [checking.check_store, checking.check_tls]
    loaded = load(find_config(config), secrets=not no_secrets, more=more)
    warn([*loaded.warnings, *loaded.advice, *loaded.unused], loaded.config)
    if not no_secrets and (warning := store_warning(loaded.config)):
        click.echo(f"warning: {warning}", err=True)
    checking.report(loaded, click.echo, verbose=verbose)
    return DONE


@main.command(name="schema", epilog=example("token-proxy schema > config.schema.json"))
@config_ignored
@command
def show_schema() -> int:
    """Print the JSON Schema of the configuration.

    For editors that complete and check it.
    """
    from proxy.config.load import schema

    click.echo(json.dumps(schema(), indent=2))
    return DONE


@main.command(
    name="exec",
    context_settings={"allow_interspersed_args": False},
    epilog=example("token-proxy exec -- python app.py"),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.option(
    "--caller",
    metavar="CALLER",
    shell_complete=callers,
    help="Give CMD a key of this caller of the configuration in TOKEN_PROXY_KEY, valid for 24 hours.",
)
@config_option
@command
def execute(command: tuple[str, ...], caller: str | None, config: Path | None) -> int:
    """Start CMD with the base URL of each route in its environment.

    Route crm-eu is in CRM_EU_BASE_URL, or in the variable that its key `env` names. A running server of this
    configuration is used; else this command serves on loopback itself until CMD ends. The exit code is CMD's,
    or 128 + the number of the signal that ended it.

    CMD does not get the variables that the configuration reads, like client secrets. Where HTTP_PROXY or its
    kin are set, the hosts of the base URLs are added to NO_PROXY.

    A CMD that runs for longer than its key is valid needs a key of its own: see caller-key.
    """
    from proxy.commands import exec as program
    from proxy.config.load import find_config, load

    path = find_config(config)
    known = load(path, secrets=False)
    if caller is not None and caller not in known.config.callers:
        names = ", ".join(sorted(known.config.callers)) or "none"
        raise click.BadParameter(f"expected a caller of the configuration: {names}", param_hint="--caller")
    return program.execute(known, functools.partial(load, path), command, caller, _to_stderr)


@main.command(name="caller-key", epilog=example("token-proxy caller-key build"))
@click.argument("name", shell_complete=callers)
@click.option(
    "--ttl",
    metavar="TIME",
    help="Sign a key that is valid for TIME (90s, 15m, 8h; at most 24h), for a caller of the configuration.",
)
@config_option
@command
def caller_key(name: str, ttl: str | None, config: Path | None) -> int:
    """Print a key for the caller NAME.

    stdout has the key and nothing else. Without --ttl it is random: add the line key_sha256, which is printed
    on stderr, to [callers.NAME] in the configuration. No file is changed.
    """
    from proxy.commands.caller_key import print_key, print_signed, read_ttl

    if ttl is None:
        return print_key(name, click.echo, _to_stderr, explain=sys.stderr.isatty())
    try:
        seconds = read_ttl(ttl)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None
    return print_signed(load_config(config), name, seconds, click.echo)
