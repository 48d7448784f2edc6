"""Placeholders in the values of described requests: `{jwt}`, `{secret.NAME}`, `{step1.PATH}`. Pure.

`{{` is a brace. A fault is a ValueError whose message does not hold the value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

EXPECTED: Final = "expected {jwt}, {secret.NAME} or {step1.PATH}; {{ is a brace"
_TOKEN: Final = re.compile(r"\{\{|\{([^{}]*)\}|\{")
_SECRET: Final = re.compile(r"secret\.([A-Za-z0-9_-]+)")
_STEP: Final = re.compile(r"step([1-9][0-9]?)\.(.+)", re.DOTALL)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The place of a value that is known when the request is made."""

    kind: Literal["jwt", "secret", "step"]
    name: str = ""  # of a secret
    step: int = 0  # 1 is the first
    path: Path = ()  # in the response to that step

    def __str__(self) -> str:
        inner = {
            "jwt": "jwt",
            "secret": f"secret.{self.name}",
            "step": f"step{self.step}.{'.'.join(self.path)}",
        }
        return f"{{{inner[self.kind]}}}"


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and placeholders, in order."""

    parts: tuple[str | Placeholder, ...]

    @property
    def placeholders(self) -> Iterator[Placeholder]:
        return (part for part in self.parts if isinstance(part, Placeholder))

    @property
    def literal(self) -> str:
        """The text between the placeholders."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def __str__(self) -> str:
        """As it is written."""
        return "".join(
            str(part) if isinstance(part, Placeholder) else part.replace("{", "{{") for part in self.parts
        )


def read_template(text: str) -> Template:
    """Raises ValueError."""
    parts: list[str | Placeholder] = []
    begin = 0
    for found in _TOKEN.finditer(text):
        parts.append(text[begin : found.start()])
        parts.append("{" if found[0] == "{{" else _placeholder(found[1]))
        begin = found.end()
    parts.append(text[begin:])
    return Template(tuple(_joined(parts)))


def read_path(text: str) -> Path:
    """A dotted path into JSON: names of members, and indexes of lists from 0. Raises ValueError."""
    path = tuple(text.split("."))
    if not text.isprintable() or not all(path):
        raise ValueError("expected a dotted path into the response: token, or data.items.0.token")
    return path


def find(document: object, path: Path) -> object:
    """The value at a path in parsed JSON; None if there is none."""
    for name in path:
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isascii() and name.isdigit() and len(name) < 7:
            document = document[int(name)] if int(name) < len(document) else None
        else:
            return None
    return document


def _placeholder(name: str | None) -> Placeholder:
    """`name`: between the braces; None if they are not closed."""
    if name is None:
        raise ValueError(f"a brace that opens no placeholder: {EXPECTED}")
    if name == "jwt":
        return Placeholder("jwt")
    if secret := _SECRET.fullmatch(name):
        return Placeholder("secret", name=secret[1])
    if step := _STEP.fullmatch(name):
        return Placeholder("step", step=int(step[1]), path=read_path(step[2]))
    raise ValueError(f"an unknown placeholder: {EXPECTED}")


def _joined(parts: list[str | Placeholder]) -> Iterator[str | Placeholder]:
    """Adjacent texts as one, and none empty."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        text = ""
        yield part
    if text:
        yield text
