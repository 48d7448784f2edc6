"""The documents beside this file: a configuration with a mistake, and what `token-proxy check` says of it."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_SECTION = re.compile(r"^## (?P<number>\d+)(?P<letter>[a-z]?)\. (?P<title>.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(?P<kind>[a-z]+)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SET = re.compile(r"(?P<name>\w+)=(?P<value>.*)")


@dataclass(frozen=True)
class Mistake:
    number: int
    name: str  # as in "5b. A variable with braces"
    config: str
    environ: dict[str, str]
    files: dict[str, tuple[int, str]]  # name -> mode and content
    transcript: str  # of a terminal session; its last line is the exit code


def mistakes() -> list[Mistake]:
    return [
        mistake for document in sorted(FOLDER.glob("*.md")) for mistake in _read(document.read_text("utf-8"))
    ]


def _read(text: str) -> list[Mistake]:
    heads = list(_SECTION.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [_mistake(head, text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]


def _mistake(head: re.Match[str], body: str) -> Mistake:
    config, environ, files, transcript = None, {"CRM_SECRET": "s3same"}, {}, ""
    for block in _BLOCK.finditer(body):
        match block["kind"]:
            case "env":
                environ |= {found["name"]: found["value"] for found in _SET.finditer(block["text"])}
            case "file":
                name, mode = block["rest"].split()
                files[name] = int(mode, 8), block["text"]
            case "console":
                transcript = block["text"]
            case _:
                assert config is None, head["title"]
                config = block["text"]
    assert config is not None, head["title"]
    name = f"{head['number']}{head['letter']}. {head['title']}"
    return Mistake(int(head["number"]), name, config, environ, files, transcript)
