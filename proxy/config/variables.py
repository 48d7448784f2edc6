"""The environment variables that describe a configuration, each with the key of a file that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from proxy.config.positions import Path

PREFIX: Final = "TOKEN_PROXY_"
NAME: Final = "default"  # of the credential, the route and the caller
_CREDENTIAL: Final = ("credentials", NAME)
_ROUTE: Final = ("routes", 0)
Read = Callable[[str, str], object]  # name and text to the value in a file


@dataclass(frozen=True, slots=True)
class Variable:
    """`path`: the key that it stands for; `of_route`: one of an https route that it stands for as well."""

    suffix: str
    path: Path
    read: Read = lambda _, text: text
    of_route: Path = ()

    @property
    def name(self) -> str:
        return PREFIX + self.suffix

    @property
    def refers(self) -> bool:
        """Whether it holds or names a secret."""
        return self.read in {by_name, by_file}

    def covers(self, path: Path) -> bool:
        """Whether a fault at `path` is this variable's."""
        return any(part and path[: len(part)] == part for part in (self.path, self.of_route))


def by_name(name: str, _text: str) -> object:
    return {"env": name}


def by_file(_name: str, text: str) -> object:
    return {"file": text}


def _words(_name: str, text: str) -> object:
    return text.split()


def _one_or_more(_name: str, text: str) -> object:
    words = text.split()
    return words[0] if len(words) == 1 else words


def _parameters(_name: str, text: str) -> object:
    """`a=b&c=d`, form-encoded; a repeated one becomes a list. Raises ValueError."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise ValueError("expected parameters: audience=https://api.example&other=value") from None
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _secret(suffix: str, *path: str | int) -> tuple[Variable, Variable]:
    """A secret in the variable itself, or in the file that it names."""
    return Variable(suffix, path, by_name), Variable(f"{suffix}_FILE", path, by_file)


VARIABLES: Final = (
    Variable("UPSTREAM", (*_ROUTE, "upstream")),
    Variable("ISSUER", (*_CREDENTIAL, "issuer")),
    Variable("AUTHORIZATION_ENDPOINT", (*_CREDENTIAL, "authorization_endpoint")),
    Variable("TOKEN_ENDPOINT", (*_CREDENTIAL, "token_endpoint")),
    Variable("GRANT", (*_CREDENTIAL, "grant")),
    Variable("CLIENT_ID", (*_CREDENTIAL, "client_id")),
    *_secret("CLIENT_SECRET", *_CREDENTIAL, "client_secret"),
    Variable("CLIENT_AUTH", (*_CREDENTIAL, "client_auth")),
    Variable("SCOPES", (*_CREDENTIAL, "scopes"), _words),
    Variable("TOKEN_PARAMS", (*_CREDENTIAL, "token_params"), _parameters),
    *_secret("REFRESH_TOKEN", *_CREDENTIAL, "refresh_token"),
    Variable("CA", (*_CREDENTIAL, "tls", "ca"), of_route=(*_ROUTE, "tls", "ca")),
    Variable("PROXY", ("server", "proxy"), by_name),  # may hold a password
    Variable("LISTEN", ("server", "listen"), _one_or_more),
    Variable("ADMIN", ("server", "admin")),
    Variable("HEALTH", ("server", "health")),
    Variable("PUBLIC_URL", ("server", "public_url")),
    *_secret("ADMIN_KEY", "server", "admin_key"),
    *_secret("CALLER_KEY", "callers", NAME, "key"),
    Variable("ANYONE", ("server", "anyone"), _words),
    Variable("STORE_URL", ("store", "url"), by_name),
    *_secret("STORE_KEY", "store", "key"),
)
BY_NAME: Final = {variable.name: variable for variable in VARIABLES}
# `token-proxy` reads the first, `exec` sets the second for its command, hatch_build.py reads the third.
OTHERS: Final = ("TOKEN_PROXY_CONFIG", "TOKEN_PROXY_KEY", "TOKEN_PROXY_COMPILE")
