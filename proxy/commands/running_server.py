"""The status of a running server. Any program may have the admin port: nothing that it sends is trusted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp

from proxy import control_socket
from proxy.config.address import Address
from proxy.config.model import Config
from proxy.observe.status import Entry, Status
from proxy.store.base import AccountId

TIMEOUT: Final = 2.0  # seconds, for the whole response; for a server on this machine
SEEN_WITHIN: Final = (
    5.0  # seconds until a server has seen a login in its store, at which it looks each second
)
LOOK_EVERY: Final = 0.1  # seconds
LARGEST: Final = 4 * 1024 * 1024  # bytes; a page of 500 accounts has half a million
UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"
Check = Callable[[Any], bool]
_EVERYTHING: Final[Mapping[str, str]] = MappingProxyType({})


async def ask_server(config: Config, fields: Mapping[str, str] = _EVERYTHING) -> Status | None:
    """The status from the running server of this configuration; None if none runs here.

    `fields`: parameters of /api/status.

    By the control socket if there is one: it is certainly our server's.
    """
    path = f"/api/status?{urlencode(fields)}"
    body = await asyncio.to_thread(control_socket.ask, config.server.state_dir, path)
    if body is not None and (status := read_status(body, config)) is not None:
        return status
    try:
        async with _asking(config, path) as response:
            return read_status(await body_of(response), config)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


async def still_needs_login(config: Config, key: AccountId) -> bool:
    """Whether the server that runs here does not see a login that was saved: its store is another one."""
    deadline = time.monotonic() + SEEN_WITHIN
    while time.monotonic() < deadline:
        status = await ask_server(config)
        entries = status["tokens"] if status is not None else []
        if not any(entry["needs_person"] for entry in entries if _is_of(entry, key)):
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True


def _is_of(entry: Entry, key: AccountId) -> bool:
    return (entry["credential"], entry["account"]) == key


async def is_serving(config: Config) -> bool:
    """Whether a server responds at the admin listener's address, to known visitors or to all."""
    try:
        async with _asking(config, "/healthz") as response:
            return response.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False


def _asking(config: Config, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return ask(config.server.admin, path, tls=config.server.admin_tls is not None)


@asynccontextmanager
async def ask(
    address: Address, path: str, *, tls: bool, seconds: float = TIMEOUT
) -> AsyncIterator[aiohttp.ClientResponse]:
    """GET `path` of a listener. Raises ClientError, TimeoutError (after `seconds`), OSError, ValueError."""
    scheme = "https" if tls else "http"
    connector = aiohttp.UnixConnector(address.path) if address.is_unix else None
    url = f"{scheme}://localhost" if address.is_unix else f"{scheme}://{address}"
    async with (
        aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=seconds),
            trust_env=False,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        ) as session,
        # Not verified: no secret is sent, and the certificate is for the name that browsers use.
        session.get(f"{url}{path}", ssl=False, allow_redirects=False) as response,
    ):
        yield response


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """Raises ValueError if it is too large."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST:
            raise ValueError("too large")
    return bytes(body)


def read_status(body: bytes, config: Config) -> Status | None:
    """None if it is of another program, or of a server with another configuration or of another version."""
    try:
        status = json.loads(body)
        if not _fits(status, _STATUS) or status["version"] != 1:
            return None
        if set(status["counts"]) != set(config.credentials):
            return None
        return cast("Status", _printable(status))
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return None


def _fits(value: Any, checks: Mapping[str, Check]) -> bool:
    return isinstance(value, dict) and all(
        name in value and fits(value[name]) for name, fits in checks.items()
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(states, dict) and all(map(_is_number, states.values())) for states in value.values()
    )


_LAST_REFRESH: Final[Mapping[str, Check]] = {
    "at": _or_null(_is_number),
    "outcome": _or_null(_is_text),
    "error": _or_null(_is_text),
}
_ENTRY: Final[Mapping[str, Check]] = {
    "credential": _is_text,
    "account": _is_text,
    "grant": _is_text,
    "owner": _or_null(_is_text),
    "state": _is_text,
    "generation": _is_number,
    "issued_at": _or_null(_is_number),
    "expires_at": _or_null(_is_number),
    "refresh_due_at": _or_null(_is_number),
    "refresh_expires_at": _or_null(_is_number),
    "last_refresh": lambda value: _fits(value, _LAST_REFRESH),
    "failures": _is_number,
    "failing_since": _or_null(_is_number),
    "next_try_at": _or_null(_is_number),
    "last_unauthorized_at": _or_null(_is_number),
    "reason": _or_null(_is_text),
    "remedy": _or_null(_is_text),
    "needs_person": _is_flag,
    "serves": _is_flag,
    "needs_attention": _is_flag,
    "actions": _is_texts,
    "login_url": _or_null(_is_text),
    "routes": _is_texts,
}
assert set(_ENTRY) == Entry.__required_keys__
_STATUS: Final[Mapping[str, Check]] = {
    "version": _is_number,
    "now": _is_number,
    "ready": _is_flag,
    "tokens": lambda value: isinstance(value, list) and all(_fits(entry, _ENTRY) for entry in value),
    "counts": _is_counts,
    "attention": _is_number,
    "joinable": _is_texts,
    "next": _or_null(_is_text),
}
assert set(_STATUS) == Status.__required_keys__


def _printable(value: Any) -> Any:
    """Without what a terminal would obey instead of showing it."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else UNPRINTABLE for c in value)
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {_printable(name): _printable(each) for name, each in value.items()}
    return value
