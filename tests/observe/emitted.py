"""What the source logs, read from its syntax trees: the levels and fields of each event."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field, fields
from pathlib import Path

import proxy
from proxy.config.changes import Changes

EMITTERS = {"event", "_event", "unexpected", "decision"}
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
IN_TEXT = re.compile(r'"level": "(\w+)", "event": "(\w+)"')  # lines that are formatted by hand
KEY = {"credential", "account"}
# Fields that a call passes as a mapping, or that the reader of an event adds: event -> fields
PASSED_ON = {
    "refresh": {"outcome", "why", "duration_ms"} | KEY,
    "refresh_failed": {"outcome", "why", "duration_ms"} | KEY,
    "login_failed": {"login_url", "error", "cause"},
    "no_refresh_token": {"login_url", "ends_at"},
    "revocation_failed": {"error", "cause", "token"},
    "reload": {each.name for each in fields(Changes)},
    "start": {  # Summary.fields
        *("version", "compiled", "config", "store", "public_url", "routes", "routes_left_out")
    },
    "listen": {"listen"},
    "stop": {"signal"},
    "link_dropped": {"route"},
    "refused": {"reason", "count"},
    "log_lines_dropped": {"count"},
    "internal_error": {"error"},  # the traceback
}
OF_THE_AUDIT_LOG = {"audit_lines_dropped"}


@dataclass
class Emitted:
    levels: set[str] = field(default_factory=set)  # in lower case; "any": a variable decides
    fields: set[str] = field(default_factory=set)


def emitted() -> dict[str, Emitted]:
    """What the source logs, by the name of the event."""
    found: dict[str, Emitted] = defaultdict(Emitted)
    for path in sorted(Path(proxy.__file__).parent.rglob("*.py")):
        if "demo" in path.parts or path.name in {"events.py", "event_table.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                _note_call(node, found)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                for level, name in IN_TEXT.findall(node.value):
                    found[name].levels.add(level)
            elif isinstance(node, ast.Dict) and (name := _event_of(node)):
                found[name]  # a line of the audit log, or what a call passes on as a variable
    return found


def _note_call(call: ast.Call, found: dict[str, Emitted]) -> None:
    function = call.func
    called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if isinstance(extra, ast.Dict) and (name := _event_of(extra)):
        found[name].levels.add(called)
    elif called in EMITTERS and not isinstance(call.args[0], ast.Constant):  # else an event for browsers
        names = [each.value for each in call.args if isinstance(each, ast.Constant)]
        name = "decision" if called == "decision" else next((each for each in names if _is_name(each)), "")
        if name:  # else it is a function that passes on what it was given
            found[name].levels |= _levels_of(call, called)
            found[name].fields |= {each.arg for each in call.keywords if each.arg}
            if called == "_event" or any("._asdict" in ast.unparse(each) for each in call.keywords):
                found[name].fields |= KEY


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", value) is not None


def _event_of(node: ast.Dict) -> str:
    for key, value in zip(node.keys, node.values, strict=True):
        is_name = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if isinstance(key, ast.Constant) and key.value == "event" and is_name:
            assert isinstance(value, ast.Constant)
            return str(value.value)
    return ""


def _levels_of(call: ast.Call, called: str) -> set[str]:
    if called in {"unexpected", "decision"}:
        return {{"unexpected": "error", "decision": "debug"}[called]}
    level = call.args[0 if called == "_event" else 1]
    names = {getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(level)}
    return {name.lower() for name in names & LEVELS} or {"any"}


EMITTED = emitted()
