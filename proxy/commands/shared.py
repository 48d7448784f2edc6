"""What all commands share: options, loading the configuration, and how an error becomes an exit code."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from proxy.commands.fault_report import all_faults, one_fault
from proxy.errors import ConfigError, Fault, LoginRequired, ProxyError

if TYPE_CHECKING:
    from proxy.config.load import Loaded
    from proxy.config.model import Config

DONE: Final = 0
FAILED: Final = 1
WRONG_CONFIG: Final = 2
LOGIN_NEEDED: Final = 3
INTERRUPTED: Final = 130  # as shells report SIGINT
Result = TypeVar("Result")


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    import asyncio

    import uvloop

    from proxy.commands.hardening import keep_to_ourselves

    keep_to_ourselves()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _outcome(action: Callable[[], int], *, debug: bool) -> int:
    """Run a command; an error becomes one sentence and an exit code. `debug`: an unexpected one is raised."""
    try:
        return action()
    except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise  # handled by click; a closed pipe is no error to report
    except ConfigError as error:
        click.echo(all_faults(error, sys.stderr), err=True)
        return WRONG_CONFIG
    except ProxyError as error:
        click.echo(f"token-proxy: {error}", err=True)
        return LOGIN_NEEDED if isinstance(error, LoginRequired) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # last resort: a sentence instead of a traceback
        if debug:
            raise
        name = type(error).__name__
        click.echo(
            f"token-proxy: unexpected {name}: run it with --debug to see where, and please report it",
            err=True,
        )
        return FAILED


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Add --debug to a command, and turn its result or exception into an exit code."""

    @click.option("--debug", is_flag=True, help="Verbose messages, and the traceback of an unexpected error.")
    @functools.wraps(function)
    def run(*, debug: bool, **options: Any) -> None:
        from proxy.observe import logs

        _show_what_can_be_shown()
        logs.set_up_command(debug=debug)
        action = functools.partial(function, **options)
        sys.exit(_outcome(action, debug=debug))

    return run


def _show_what_can_be_shown() -> None:
    """A terminal or a pipe that is not in UTF-8 gets "?" for what it does not know, instead of nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _config_option(**more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "-c",
        "--config",
        "config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Configuration file. Default: $TOKEN_PROXY_CONFIG, ./config.toml, /etc/token-proxy/config.toml; "
        "without any, the TOKEN_PROXY_ variables.",
        **more,
    )


def _given_before(context: click.Context, _option: click.Parameter, after: Path | None) -> Path | None:
    """The file given after the command, else the one before it."""
    return after if after is not None else context.find_object(Path)


config_option = _config_option(callback=_given_before)
config_ignored = _config_option(expose_value=False, hidden=True)  # accepted, but not used
config_before = _config_option()  # of the command group


def read_config(given: Path | None) -> Loaded:
    from proxy.config.load import find_config, load

    return load(find_config(given))


def load_config(given: Path | None) -> Config:
    """For commands that scripts call often: without warnings."""
    return read_config(given).config


def warn(faults: Iterable[Fault], config: Config) -> None:
    for fault in faults:
        click.echo(one_fault(fault, config.place, sys.stderr, "warning"), err=True)
