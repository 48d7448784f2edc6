"""A configuration from environment variables alone: one credential and one route, both named "default".

The variables become the document that a file would have given, so that the same model and checks apply. Their
faults name the variable in place of a position. Pure, but for what the values refer to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from proxy.config.admin_checks import CLEAR, OPEN
from proxy.config.caller_checks import FAR, IN_CLEAR, NOT_WITH_CALLERS, OPEN_NETWORKS
from proxy.config.client_auth import NONE_SENDS_NOTHING
from proxy.config.credential_checks import NOT_A_SEED
from proxy.config.fault_messages import Complaint
from proxy.config.literals import variable_in
from proxy.config.meanings import meant
from proxy.config.positions import Path
from proxy.config.route import EXPOSED
from proxy.config.values import COMMA, ONE_SCOPE
from proxy.config.variables import BY_NAME, NAME, OTHERS, PREFIX, VARIABLES, Variable, by_file
from proxy.errors import Fault

LONGEST: Final = 100  # characters of a name that are shown
_LINK: Final = re.compile(  # set by Kubernetes for each service whose name begins with "token-proxy"
    r"TOKEN_PROXY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_LINK_PORT: Final = re.compile(r"TOKEN_PROXY_(?:[A-Z0-9_]+_)?PORT")
_LINK_URL: Final = re.compile(r"(?:tcp|udp|sctp)://\S+")

# The key that a table lacks -> the variable to set, and what is expected of it
_WANTED: Final[Mapping[str, tuple[str, str]]] = {
    "upstream": ("TOKEN_PROXY_UPSTREAM", "expected the API's base URL: https://host/path"),
    "client_id": ("TOKEN_PROXY_CLIENT_ID", "expected the client's id at the authorization server"),
    "token_endpoint": (
        "TOKEN_PROXY_ISSUER",
        "expected the issuer of the tokens; or TOKEN_PROXY_TOKEN_ENDPOINT, where there is no discovery",
    ),
    "authorization_endpoint": (
        "TOKEN_PROXY_AUTHORIZATION_ENDPOINT",
        "expected beside TOKEN_PROXY_TOKEN_ENDPOINT; or TOKEN_PROXY_ISSUER, where there is discovery",
    ),
    "device_authorization_endpoint": (
        "TOKEN_PROXY_ISSUER",
        "expected for TOKEN_PROXY_GRANT=device_code: its metadata name the device authorization endpoint",
    ),
    "client_auth": (
        "TOKEN_PROXY_CLIENT_SECRET",
        "expected a secret, there or by TOKEN_PROXY_CLIENT_SECRET_FILE; or TOKEN_PROXY_CLIENT_AUTH=none",
    ),
    "refresh_token": (
        "TOKEN_PROXY_REFRESH_TOKEN",
        "expected the first one, there or by TOKEN_PROXY_REFRESH_TOKEN_FILE: this grant starts from one",
    ),
    "key": (
        "TOKEN_PROXY_STORE_KEY",
        "expected 32 bytes in base64, there or by TOKEN_PROXY_STORE_KEY_FILE; the same on all hosts",
    ),
    "public_url": ("TOKEN_PROXY_PUBLIC_URL", "expected the URL by which browsers reach the status page"),
    "state_dir": (
        "STATE_DIRECTORY",
        "expected a directory for the tokens, as there is no home directory here; or TOKEN_PROXY_STORE_URL",
    ),
}
_TABLES: Final[tuple[Path, ...]] = (
    ("credentials", NAME),
    ("credentials", NAME, "tls"),
    ("routes", 0),
    ("server",),
    ("store",),
)
_GRANT: Final = "TOKEN_PROXY_GRANT"  # of what is missing then
NEEDS_A_FILE: Final = "it needs what no variable gives: expected another grant, or a configuration file"
_FILE_NEEDED: Final = "or a configuration file"
# Sentences that name keys of a file -> the same in variables
_REWORDED: Final[Mapping[str, str]] = {
    EXPOSED: f"http would expose the token to the network: expected https, {_FILE_NEEDED} (plaintext)",
    COMMA: "a comma inside a scope: expected scopes separated by blanks: api offline_access",
    ONE_SCOPE: "expected scopes separated by blanks: api offline_access",
    NONE_SENDS_NOTHING: "none sends no secret - choose another, or unset TOKEN_PROXY_CLIENT_SECRET",
    NOT_A_SEED: "only for TOKEN_PROXY_GRANT=refresh_token - change the grant, or unset this",
    FAR: "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    f"TOKEN_PROXY_ANYONE, {_FILE_NEEDED} with [callers.NAME]",
    IN_CLEAR: "without TLS the network could read the caller's key: expected a loopback address or a unix "
    f"socket, {_FILE_NEEDED} with server.tls",
    NOT_WITH_CALLERS: "does not go with TOKEN_PROXY_CALLER_KEY - unset one of the two",
    OPEN_NETWORKS: "every program in these networks may use the route - TOKEN_PROXY_CALLER_KEY can limit it "
    "to one that has the key",
    OPEN: f"anyone on the network could use this page: expected an address of this machine, {_FILE_NEEDED} "
    "with server.admin_key and server.admin_tls",
    CLEAR: "keys and cookies would pass the network in clear: expected an address of this machine, "
    f"{_FILE_NEEDED} with server.admin_tls",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """The document that the variables stand for."""

    data: dict[str, Any]
    found: list[Complaint] = field(default_factory=list)  # faults of variables as such, by their names
    _present: tuple[Variable, ...] = ()
    _misspelt: Mapping[str, str] = field(
        default_factory=dict
    )  # the name of a variable -> what is set instead

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        values: dict[Variable, object] = {}
        found: list[Complaint] = []
        for variable in _present(environ):
            name = variable.name
            twin = next((other.name for other in values if other.path == variable.path), "")
            try:
                if twin:
                    raise ValueError(f"{twin} is set too - expected one of the two")
                values[variable] = variable.read(name, _text(environ[name], variable))
            except ValueError as error:
                found.append(Complaint((name,), str(error)))
        misspelt = {
            meant.removesuffix("_FILE"): _shown(name)
            for name in _unknown(environ, frozenset())
            if (meant := _meant(name))
        }
        return cls(_document(values), found, tuple(_present(environ)), misspelt)

    @property
    def digest(self) -> str:
        """SHA-256 in hex. Secrets count by where they are, as in a file."""
        return hashlib.sha256(json.dumps(self.data, sort_keys=True).encode()).hexdigest()

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(variable.name for variable in self._present)

    def faults(self, complaints: Iterable[Complaint]) -> list[Fault]:
        """A fault for each complaint, with its variable; if that is wrong as such, no other."""
        faults = {_fault(str(each.path[0]), each.sentence) for each in self.found}
        broken = {fault.variable for fault in faults}
        others = {self._worded(each) for each in complaints if each not in self.found}
        return sorted(faults | {_fault(*each) for each in others if each[0] not in broken})

    def _worded(self, complaint: Complaint) -> tuple[str, str]:
        """The variable and the sentence."""
        if complaint.missing:
            if complaint.missing not in _WANTED:
                return _GRANT, NEEDS_A_FILE
            name, expected = _WANTED[complaint.missing]
            instead = self._misspelt.get(name)
            return name, f"not set - {f'is {instead} misspelt? ' if instead else ''}{expected}"
        found = (each.name for each in (*self._present, *VARIABLES) if each.covers(complaint.path))
        return next(found), _REWORDED.get(complaint.sentence, complaint.said())


def _fault(name: str, sentence: str) -> Fault:
    order = VARIABLES.index(BY_NAME[name]) if name in BY_NAME else len(VARIABLES)
    return Fault(0, order, sentence, variable=name)


def given(environ: Mapping[str, str]) -> list[str]:
    """The names of the variables that describe a configuration."""
    return [variable.name for variable in VARIABLES if environ.get(variable.name)]


def check_beside(environ: Mapping[str, str], used: frozenset[str]) -> Iterator[Fault]:
    """Variables that describe a configuration beside a file, but for those to which that file refers."""
    names = [name for name in given(environ) if name not in used]
    if names:
        are, they = ("are", "they describe") if len(names) > 1 else ("is", "it describes")
        yield Fault(
            1,
            1,
            f"{', '.join(names)} {are} set too, and {they} a configuration without a file - unset "
            f"{'them' if len(names) > 1 else 'it'}, or move this file away",
        )


def check_unknown(environ: Mapping[str, str], used: frozenset[str]) -> Iterator[Fault]:
    """Variables that are probably misspelt: for warnings."""
    for name in _unknown(environ, used):
        meant = _meant(name)
        remedy = (
            f"did you mean {meant}?" if meant else "unset it, or see docs/operations.md for those that count"
        )
        yield Fault(0, len(VARIABLES), f"unknown variable - {remedy}", variable=_shown(name))


def _unknown(environ: Mapping[str, str], used: frozenset[str]) -> Iterator[str]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in BY_NAME or name in OTHERS or name in used:
            continue
        if not _is_link(name, environ[name]):
            yield name


def _meant(name: str) -> str:
    """The variable that another tool calls so, or the one with the most similar name; "" if there is none."""
    if variable := _alias(name):
        return variable.name
    suffixes = [known.removeprefix(PREFIX) for known in (*BY_NAME, *OTHERS)]
    close = get_close_matches(name.removeprefix(PREFIX), suffixes, 1)
    return f"{PREFIX}{close[0]}" if close else ""


def _alias(name: str) -> Variable | None:
    """The variable of the key that another tool calls so."""
    suffix = name.removeprefix(PREFIX).lower()
    for table in _TABLES:
        known = {str(each.path[-1]): each for each in reversed(VARIABLES) if each.path[:-1] == table}
        key = suffix.removeprefix("store_") if table == ("store",) else suffix
        found = meant(table, key, known, likeness=1.0)
        if found is not None and found.key:
            return known[found.key]
    return None


def _shown(name: str) -> str:
    return _printable(name[:LONGEST])


def _present(environ: Mapping[str, str]) -> Iterator[Variable]:
    """An empty variable counts as not set, as compose files pass on such; but not one of a secret."""
    return (
        variable
        for variable in VARIABLES
        if environ.get(variable.name) or (variable.refers and variable.name in environ)
    )


def _text(text: str, variable: Variable) -> str:
    """Raises ValueError."""
    if not text:
        kind = "the path of a file" if variable.read is by_file else "a value"
        raise ValueError(f"empty - expected {kind}, or unset it")
    try:
        text.encode()
    except UnicodeEncodeError:  # Python decodes invalid bytes to lone surrogates
        raise ValueError("not UTF-8 - expected UTF-8 text") from None
    if name := variable_in(text):
        raise ValueError(f"names the variable {name}, which is not replaced here - expected its value")
    return text


def _document(values: Mapping[Variable, object]) -> dict[str, Any]:
    route: dict[str, Any] = {"name": NAME, "path": "/", "credential": NAME}
    data: dict[str, Any] = {"credentials": {NAME: {}}, "routes": [route]}
    for variable, value in values.items():
        _put(data, variable.path, value)
    for variable, value in values.items():
        if variable.of_route and str(route.get("upstream")).startswith("https:"):
            _put(data, variable.of_route, value)
    return data


def _put(node: Any, path: Path, value: object) -> None:
    *steps, last = path
    for step in steps:
        node = node[step] if isinstance(step, int) else node.setdefault(step, {})
    node[last] = value


def _is_link(name: str, value: str) -> bool:
    return bool(_LINK.fullmatch(name) or (_LINK_PORT.fullmatch(name) and _LINK_URL.fullmatch(value)))


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
