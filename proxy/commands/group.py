"""The command group: other tools' names of our commands, `help` and `version`, and examples in the help."""

from __future__ import annotations

from typing import Final

import click

# What other tools call it, where the spelling does not lead to ours.
VERBS: Final = {
    "serve": "run",
    "start": "run",
    "up": "run",
    "ls": "status",
    "list": "status",
    "ps": "status",
    "accounts": "status",
    "signin": "login",
    "sign-in": "login",
    "auth": "login",
    "connect": "login",
    "signout": "logout",
    "sign-out": "logout",
    "revoke": "logout",
    "disconnect": "logout",
    "validate": "check",
    "test": "check",
    "lint": "check",
    "renew": "token",
    "refresh": "token",
    "ready": "wait",
    "completions": "completion",
}


def example(line: str) -> str:
    """The end of a command's help."""
    return f"\b\nExample:\n  {line}"


class CommandGroup(click.Group):
    """Suggests our command for the name that other tools have for it; `help` and `version` are not listed."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _UNLISTED.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            if meant := VERBS.get(error.command_name.lower()):
                raise click.UsageError(
                    f"No such command {error.command_name!r}: it is `token-proxy {meant}` here.", ctx
                ) from None
            raise


@click.command(name="help", add_help_option=False)
@click.argument("names", nargs=-1, metavar="[COMMAND]")
@click.pass_context
def _show_help(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command."""
    group = context.find_root()
    assert isinstance(group.command, click.Group)
    if not names:
        click.echo(group.get_help())
        return
    name, found, _ = group.command.resolve_command(group, list(names))
    assert found is not None
    with click.Context(found, info_name=name, parent=group) as shown:
        click.echo(found.get_help(shown))


@click.command(name="version", add_help_option=False)
def show_version() -> None:
    """Show the version, and whether the data path is compiled."""
    from proxy import compiled

    click.echo(f"token-proxy, version {compiled.about()}")


_UNLISTED: Final = {"help": _show_help, "version": show_version}
