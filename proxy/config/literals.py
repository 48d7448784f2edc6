"""Literals that can't be meant: variables and files in other tools' notation, and placeholders. Pure.

Values are taken as they are written: nothing in them is replaced.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
_VARIABLES: Final = tuple(
    map(
        re.compile,
        (
            r"\$([A-Z][A-Z0-9_]+)",  # not $ecret, which may be one
            rf"\$\{{(?:env[.:])?({_NAME})(?:[^A-Za-z0-9_}}][^}}]*)?\}}",  # also ${NAME:-default}
            rf"\$(?i:env:)({_NAME})",
            rf"(?i:env(?:iron)?)[:.]({_NAME})",
            rf"(?:os\.)?(?:env|environ|getenv)[(\[]['\"]?({_NAME})['\"]?[)\]]",
            r"%([A-Z][A-Z0-9_]+)%",
            rf"\{{\{{-?\s*(?:env\s*|\.?(?i:env|values|secrets)\.|\$)?\"?\.?({_NAME})\"?\s*-?\}}\}}",
            r"((?:[A-Z0-9]+_)*CLIENT_(?:ID|SECRET))",  # the name alone
        ),
    )
)
_FILE: Final = re.compile(r"file:(?://)?(?P<path>[\w./~-]{1,200})")
_COMMAND: Final = re.compile(r"\$\(.*\)|`.*`|!\S+ .*")
_SOURCES: Final = (
    (re.compile(r"op://\S+"), '{ command = ["op", "read", "op://…"] }'),
    (re.compile(r"(?:keyring|keychain):\S+"), '{ keyring = "service/name" }'),
)
_ANYTHING: Final = "[-_ a-z0-9]*"
_PLACEHOLDER: Final = re.compile(
    "|".join(
        (
            r"<[^<>]*>",
            r"x{3,}|\*{3,}|\.{3,}|…",
            rf"your[-_ ]?(?:o?auth2?|app|api|client)?{_ANYTHING}(?:id|secret|key|token|password|here)",
            rf"(?:change|replace|fill)[-_ ]?(?:me|this|it|in|with)\b{_ANYTHING}",
            rf"(?:change|replace)[-_]?me[-_]{_ANYTHING}",
            rf"(?:insert|put|enter|add|paste)[-_ ]{_ANYTHING}[-_ ]here",
            r"todo|fixme|tbd|placeholder",
        )
    ),
    re.IGNORECASE,
)
LONGEST: Final = 1000  # characters of a text that is looked at; keys are longer
AN_EXAMPLE: Final = "a placeholder from an example: expected the real value"


def refuse(text: str) -> None:
    """Raises ValueError if the text is a variable, a placeholder or a reference instead of the value."""
    if len(text) > LONGEST:
        return
    refuse_placeholder(text)
    if name := variable_in(text):
        raise ValueError(f'a text, not the variable {name}: expected {{ env = "{name}" }}')
    if found := _FILE.fullmatch(text):
        raise ValueError(f'a text, not the content of the file: expected {{ file = "{found["path"]}" }}')
    if _COMMAND.fullmatch(text):
        raise ValueError('a text, not what the command prints: expected { command = ["…"] }')
    for pattern, form in _SOURCES:
        if pattern.fullmatch(text):
            raise ValueError(f"a text, not the secret itself: expected {form}")


def refuse_content(text: str, variable: str) -> None:
    """The same for the content of an environment variable."""
    if name := variable_in(text):
        raise ValueError(
            f"the environment variable {variable} names {name}, which is not replaced: expected its value"
        )
    try:
        refuse_placeholder(text)
    except ValueError as error:
        raise ValueError(f"the environment variable {variable} has {error}") from None


def variable_in(text: str) -> str:
    """The name of the variable that a text stands for; "" if it does not, or is a placeholder."""
    if len(text) > LONGEST or _PLACEHOLDER.fullmatch(text.strip()):
        return ""
    return next((found[1] for each in _VARIABLES if (found := each.fullmatch(text))), "")


def refuse_placeholder(text: str) -> None:
    """Raises ValueError, if it is from an example."""
    if len(text) <= 100 and _PLACEHOLDER.fullmatch(text.strip()):
        raise ValueError(AN_EXAMPLE)


def stands_for_a_variable(text: str) -> bool:
    """Whether a URL begins as a variable does in other tools."""
    return text.startswith(("$", "{{", "%", "env:"))
