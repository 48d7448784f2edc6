"""The environment of the program that `exec` starts. Pure.

It is that of `exec`, but for the variables that the configuration reads, which hold secrets, and with those
of the routes, and the caller's key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

KEY: Final = "TOKEN_PROXY_KEY"
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_EXEMPT: Final = ("no_proxy", "NO_PROXY")  # programs differ in which of them they read first


def child_environment(
    environ: Mapping[str, str], read: Collection[str], urls: Mapping[str, str], key: str | None
) -> dict[str, str]:
    """`read`: the names of what the configuration reads. `urls`: a base URL by variable."""
    kept = {name: value for name, value in environ.items() if name not in read}
    set_by_us = urls if key is None else {**urls, KEY: key}
    return {**kept, **_exempted(kept, urls.values()), **set_by_us}


def _exempted(environ: Mapping[str, str], urls: Iterable[str]) -> dict[str, str]:
    """`no_proxy` with the hosts of `urls`, where requests would go through an HTTP proxy.

    That proxy would look for them on its own machine, and would see the caller's key.
    """
    if not any(environ.get(each) or environ.get(each.upper()) for each in _PROXIES):
        return {}
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
    given = next((environ[name] for name in _EXEMPT if environ.get(name)), "")
    return {name: _with(environ.get(name) or given, hosts) for name in _EXEMPT}


def _with(exempt: str, hosts: Iterable[str]) -> str:
    listed = [each.strip() for each in exempt.split(",") if each.strip()]
    if "*" in listed:
        return exempt
    return ",".join([*listed, *(host for host in hosts if host not in listed)])
