"""The reference of the commands, from click's help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from docs.tools.markdown import code, table, text

OF_ALL = frozenset({"--config", "--debug", "--help"})  # options that every command takes
_AS_IT_STANDS = "\b\n"  # of click: a paragraph that is not wrapped
_TOLD = re.compile(r"^( *token-proxy .*?\S) {2,}([^\s#])", re.MULTILINE)  # a command, and what it does


def page(main: click.Group) -> str:
    top = click.Context(main, info_name="token-proxy", **main.context_settings)
    parts = [_about(main, top)]
    for name in sorted(main.commands):
        command = main.commands[name]
        context = click.Context(command, parent=top, info_name=name)
        parts.append(f"## token-proxy {name}\n\n{_about(command, context)}")
    return "\n".join(parts)


def _about(command: click.Command, context: click.Context) -> str:
    usage = " ".join(["Usage:", context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"```text\n{usage}\n```\n", *_paragraphs(command.help or "")]
    own = [
        each
        for each in command.get_params(context)
        if context.parent is None or not OF_ALL.intersection(each.opts)
    ]
    rows = [row for row in (_option(each, context) for each in own) if row]
    if rows:
        parts.append(table(("option", "meaning"), rows))
    parts += _paragraphs(command.epilog or "")
    return "\n".join(parts)


def _option(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    if record is None or not record[1]:
        return None  # an argument, which the usage names
    names, meaning = record
    return code(names), text(re.sub(r"\s+", " ", meaning))


def _paragraphs(help_text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(help_text)):
        if paragraph.startswith(_AS_IT_STANDS):
            lines = inspect.cleandoc("\n" + paragraph.removeprefix(_AS_IT_STANDS))
            commented = _TOLD.sub(r"\1  # \2", lines)
            yield f"```text\n{commented}\n```\n"
        elif paragraph:
            yield text(paragraph) + "\n"
