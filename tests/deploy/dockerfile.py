"""Reads a Dockerfile: the instructions that ours uses, and no other one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

OF_THE_BUILD = ("ARG", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR")
OF_CONTAINERS = ("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "VOLUME")
CONTINUED = re.compile(r"\\\n")
COMMENT = re.compile(r"^\s*#.*\n", re.MULTILINE)
PAIR = re.compile(r'([\w.]+)=("[^"]*"|\S*)')
FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    flags: Mapping[str, str]
    value: str  # with the variables of the build as they are at this place, but for RUN: its shell does that

    @property
    def pairs(self) -> dict[str, str]:
        return {key: value.strip('"') for key, value in PAIR.findall(self.value)}

    @property
    def exec_form(self) -> list[str]:
        """Raises ValueError for the shell form: a shell would be the process that gets the signals."""
        words: list[str] = json.loads(self.value)
        return words


@dataclass(slots=True)
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)  # of ARG, for RUN

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]


def read(path: Path, arguments: Mapping[str, str]) -> list[Stage]:
    """The stages of a Dockerfile, built with these --build-arg."""
    shared: dict[str, str] = {}
    known: dict[str, str] = {}  # ARG and ENV of the stage
    stages: list[Stage] = []
    for name, rest in _lines(path.read_text()):
        assert name in OF_THE_BUILD + OF_CONTAINERS, f"the tests can't replay {name}"
        if name == "FROM":
            base, _, alias = Template(rest).substitute(shared).partition(" AS ")
            stages.append(Stage(base, alias))
            known = {}
            continue
        if name == "ARG":
            key, _, default = rest.partition("=")
            (known if stages else shared)[key] = arguments.get(key, default)
            if stages:
                stages[-1].arguments[key] = known[key]
            continue
        value = rest if name in {"RUN", "CMD", "ENTRYPOINT"} else Template(rest).safe_substitute(known)
        flags = dict(FLAG.findall(value)) if name in {"COPY", "HEALTHCHECK"} else {}
        made = Instruction(name, flags, FLAG.sub("", value) if flags else value)
        known |= made.pairs if name == "ENV" else {}
        stages[-1].instructions.append(made)
    return stages


def _lines(text: str) -> Iterator[tuple[str, str]]:
    joined = CONTINUED.sub(" ", COMMENT.sub("", text))
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest.strip()
