"""Completion of the command line in bash, zsh and fish: the scripts, and the names that they complete.

Names of credentials, callers and routes are read from the configuration file as TOML alone, so that a fault
elsewhere in it hides none, and without pydantic, whose import takes longer than the rest. Names of accounts
are those of the file and of the store, or of the running server where the store is shared. Whatever fails,
there is nothing to complete: a message would end up in the middle of the command line.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import click
from click import shell_completion

from proxy.commands.group import example
from proxy.commands.shared import DONE, command

PROGRAM: Final = "token-proxy"
VARIABLE: Final = "_TOKEN_PROXY_COMPLETE"  # click's name for it
PLACES: Final = (Path("config.toml"), Path("/etc/token-proxy/config.toml"))  # as config/load.py has them
MOST: Final = 200  # names of accounts: a list that a person still reads

Names = Callable[[click.Context, click.Parameter, str], list[str]]

# Unlike click's: bash splits words at "@", ":" and "=" too, which names of accounts and URLs may have, and
# then replaces only what follows the last of them. And `nosort` is unknown to bash before 4.4.
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' typed word before="" breaks completion type value
    typed="${COMP_LINE:0:COMP_POINT}"
    word="${typed##* }"
    if [[ "$word" == --*=* ]]; then word="${word#*=}"; fi
    breaks="${COMP_WORDBREAKS//[^@=:]/}"
    if [[ -n "$breaks" ]]; then before="${word%%"${word##*["$breaks"]}"}"; fi
    COMPREPLY=()
    for completion in $(COMP_WORDS="$typed" %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        IFS=',' read -r type value <<< "$completion"
        case "$type" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""


class _Bash(shell_completion.BashComplete):
    source_template = _BASH

    def source(self) -> str:
        return self.source_template % self.source_vars()  # without starting a bash to look at its version

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = shell_completion.split_arg_string(line)[1:]
        begins_word = not words or line[-1:].isspace()
        return (words, "") if begins_word else (words[:-1], words[-1])


shell_completion.add_completion_class(_Bash)


@click.command(
    epilog=example("token-proxy completion bash > ~/.local/share/bash-completion/completions/token-proxy")
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@command
def completion(shell: str) -> int:
    r"""Print the completion script of SHELL.

    It completes commands and options, and the names of credentials, accounts and callers.

    \b
    bash: token-proxy completion bash > ~/.local/share/bash-completion/completions/token-proxy
    zsh:  token-proxy completion zsh > "${fpath[1]}/_token-proxy", then start a new shell
    fish: token-proxy completion fish > ~/.config/fish/completions/token-proxy.fish
    """
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    click.echo(found(click.Group(), {}, PROGRAM, VARIABLE).source(), nl=False)
    return DONE


def _quiet(names: Callable[[click.Context, str], Iterable[str]]) -> Names:
    """Those names that begin with what was typed; none if that fails."""

    @functools.wraps(names)
    def found(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        logging.disable()
        try:
            with suppress(Exception):  # see above
                return sorted({name for name in names(context, typed) if name.startswith(typed)})
            return []
        finally:
            logging.disable(logging.NOTSET)

    return found


@_quiet
def credentials(context: click.Context, _typed: str) -> Iterable[str]:
    return _tables(context, "credentials") or (["default"] if _file(context) is None else [])


@_quiet
def callers(context: click.Context, _typed: str) -> Iterable[str]:
    return _tables(context, "callers")


@_quiet
def paths(context: click.Context, _typed: str) -> Iterable[str]:
    """Of the routes."""
    return [route["path"] for route in _data(context).get("routes", []) if "path" in route]


@_quiet
def accounts(context: click.Context, typed: str) -> Iterable[str]:
    """Of the credential that the command line names."""
    credential = context.params.get("credential")
    if credential is None:  # click stops at the option without its value, and leaves the arguments
        credential = next(word for word in context.args if not word.startswith("-"))
    routes = _data(context).get("routes", [])
    named = [route.get("account", "default") for route in routes if route.get("credential") == credential]
    fixed = [name for name in named if isinstance(name, str)]
    with suppress(Exception):  # without a store there are these
        return [*fixed, *_stored(context, credential, typed)]
    return fixed


def _stored(context: click.Context, credential: str, typed: str) -> Iterable[str]:
    from proxy.config.load import load

    config = load(_file(context), secrets=False).config
    if config.store.scheme == "sqlite":
        from proxy.store.sqlite.names import account_names

        path = config.server.state_dir / config.store.url.reveal().partition(":")[2]
        return account_names(path, credential, typed, MOST)
    from proxy import control_socket

    query = urlencode({"credential": credential, "q": typed, "limit": MOST})
    body = control_socket.ask(config.server.state_dir, f"/api/status?{query}") or b"{}"
    entries = json.loads(body).get("tokens", [])
    return [entry["account"] for entry in entries if entry["credential"] == credential]


def _tables(context: click.Context, name: str) -> list[str]:
    return list(_data(context).get(name, {}))


def _data(context: click.Context) -> dict[str, Any]:
    path = _file(context)
    return {} if path is None else tomllib.loads(path.read_text())


def _file(context: click.Context) -> Path | None:
    """The configuration file, as find_config of config/load.py finds it."""
    before = context.find_root().params.get("config")  # the command group
    given = context.params.get("config") or before or os.environ.get("TOKEN_PROXY_CONFIG")
    return Path(given) if given else next(filter(Path.exists, PLACES), None)
