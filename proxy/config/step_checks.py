"""Rules of grant = "request" that concern several keys of its table. Pure: parsed TOML in, complaints out.

As in checks.py, a value of the wrong type is skipped: its complaint comes from the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from proxy.config.fault_messages import Complaint, suggestion
from proxy.config.grants import requirements_of
from proxy.config.placeholders import Placeholder, read_template
from proxy.config.positions import Path
from proxy.config.step_url import read_step_url
from proxy.config.tables import Tables, table

REQUIRED: Final = ("steps", "response")
_BODIES: Final = ("headers", "json", "form")
_SECRET_FIELD: Final = re.compile("key|token|secret|auth|passw|cookie", re.IGNORECASE)


_PUBLIC_FIELD: Final = re.compile("(name|type|id|version|scheme)$", re.IGNORECASE)


def check_steps(data: Tables) -> Iterator[Complaint]:
    """Keys that this grant requires, and placeholders without a value."""
    for name, credential in table(data, "credentials").items():
        asks = requirements_of(credential.get("grant")) if isinstance(credential, dict) else None
        if asks is not None and asks.described:
            yield from _check_required(credential, ("credentials", name))
            yield from _check_placeholders(credential, ("credentials", name))


def check_step_secrets(data: Tables) -> Iterator[Complaint]:
    """Secrets written into the file: for warnings."""
    for name, credential in table(data, "credentials").items():
        if not isinstance(credential, dict):
            continue
        place = ("credentials", name)
        secrets, jwt = table(credential, "secrets"), table(credential, "jwt")
        given: list[tuple[Path, object]] = [((*place, "secrets", each), secrets[each]) for each in secrets]
        given.append(((*place, "jwt", "key"), jwt.get("key")))
        for path, text in _texts(credential.get("steps"), (*place, "steps")):
            if is_literal_secret(path, text):
                given.append((path, text))
        for path, value in given:
            if isinstance(value, str):
                sentence = (
                    'a secret in the configuration file itself - use { env = "NAME" } or { file = "name" }'
                )
                is_step = "steps" in path
                yield Complaint(
                    path, f"{sentence} in secrets, and {{secret.NAME}} here" if is_step else sentence
                )


def is_literal_secret(path: Path, text: str) -> bool:
    """Whether a text in `steps` seems to be a secret itself, by its name."""
    named = path[path.index("steps") + 2 :] if "steps" in path else ()
    is_value = bool(named) and named[0] in _BODIES
    name = str(named[-1]) if named else ""
    is_secret = bool(_SECRET_FIELD.search(name)) and not _PUBLIC_FIELD.search(name)
    return is_value and is_secret and "{" not in text


def _check_required(credential: Tables, place: Path) -> Iterator[Complaint]:
    for key in REQUIRED:
        if not credential.get(key):
            yield Complaint(place, f'{key} is missing - grant = "request" requires it', "table", missing=key)


def _check_placeholders(credential: Tables, place: Path) -> Iterator[Complaint]:
    secrets = table(credential, "secrets")
    used: set[Placeholder] = set()
    steps = credential.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        for path, text in _values(step, (*place, "steps", index)):
            for each in _placeholders(text):
                used.add(each)
                if fault := _missing(each, secrets, "jwt" in credential, index):
                    yield Complaint(path, fault)
    for path, text in _texts(table(credential, "jwt").get("claims"), (*place, "jwt", "claims")):
        for each in _placeholders(text):
            used.add(each)
            fault = (
                _missing(each, secrets, True, 0)
                if each.kind == "secret"
                else "only {secret.NAME} is known here"
            )
            if fault:
                yield Complaint(path, fault)
    yield from _check_use(credential, place, used)


def _check_use(credential: Tables, place: Path, used: set[Placeholder]) -> Iterator[Complaint]:
    names, kinds = {each.name for each in used}, {each.kind for each in used}
    for name in table(credential, "secrets"):
        if name not in names:
            yield Complaint(
                (*place, "secrets", name), f"no step uses it: expected {{secret.{name}}} in a value", "key"
            )
    if "jwt" in credential and "jwt" not in kinds:
        yield Complaint((*place, "jwt"), "no step uses it: expected {jwt} in a value", "key")


def _missing(each: Placeholder, secrets: Tables, has_jwt: bool, index: int) -> str:
    """Why the step at `index` has no value for a placeholder; "" if it has."""
    if each.kind == "jwt" and not has_jwt:
        return "there is no jwt to put here - add jwt = { alg = …, key = …, claims = … }"
    if each.kind == "secret" and each.name not in secrets:
        remedy = suggestion(each.name, secrets) or f"add secrets = {{ {each.name} = {{ … }} }}"
        return f"there is no secret {each.name!r} - {remedy}"
    if each.kind == "step" and each.step > index:
        before = f"expected {{step{index}.…}} or an earlier one" if index else "expected none in the first"
        return f"only the responses to earlier steps are known in step {index + 1}: {before}"
    return ""


def _values(step: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Each string of a step in which placeholders may stand."""
    if not isinstance(step, dict):
        return
    url = step.get("url")
    with suppress(ValueError):  # the model's complaint
        if isinstance(url, str):
            read_step_url(url)
            yield (*path, "url"), url
    for key in _BODIES:
        yield from _texts(step.get(key), (*path, key))


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Each string in a document, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*path, index))


def _placeholders(text: str) -> list[Placeholder]:
    try:
        return list(read_template(text).placeholders)
    except ValueError:
        return []  # the model's complaint
