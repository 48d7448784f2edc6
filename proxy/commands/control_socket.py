"""Ask the running server by the control socket in state_dir (admin/control.py)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import aiohttp

from proxy.admin.control import VERSION, RouteEntry, ServerEntry, short_path
from proxy.config.model import Config

TIMEOUT: Final = 2.0  # seconds, for a whole response; for a server that is busy
LARGEST: Final = 4 * 1024 * 1024  # bytes, of a response


async def find_server(config: Config) -> ServerEntry | None:
    """The server that has this state_dir, with whatever configuration; None if none responds."""
    body = await ask(config, "/server")
    return None if body is None else read_entry(body)


async def ask(config: Config, path: str) -> bytes | None:
    """The body of a response with status 200; None if there is none."""
    with suppress(OSError, aiohttp.ClientError, TimeoutError), short_path(config.server.state_dir) as socket:
        if _is_trusted(socket, config.server.state_dir):
            return await _get(socket, path)
    return None


def _is_trusted(socket: Path, state_dir: Path) -> bool:
    """Whether it is of our own user, of root, or of the owner of state_dir. Raises OSError."""
    return socket.stat().st_uid in {0, os.geteuid(), state_dir.stat().st_uid}


async def _get(socket: Path, path: str) -> bytes | None:
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket)),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            trust_env=False,
        ) as session,
        session.get(f"http://localhost{path}", allow_redirects=False) as response,
    ):
        body = await response.content.read(LARGEST) if response.status == 200 else b""
        while response.status == 200 and len(body) < LARGEST and (more := await response.content.readany()):
            body += more
        return body or None


def read_entry(body: bytes) -> ServerEntry | None:
    """None if it is not of this version of the document."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(body)
        if _is_entry(entry):
            return cast("ServerEntry", entry)
    return None


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("version") == VERSION
        and isinstance(entry.get("pid"), int)
        and (entry.get("config") is None or isinstance(entry.get("config"), str))
        and isinstance(entry.get("digest"), str)
        and _are(entry.get("routes"), _is_route)
        and _are(entry.get("hints"), lambda each: isinstance(each, str) and each.isprintable())
    )


def _are(values: Any, fits: Any) -> bool:
    return isinstance(values, list) and all(map(fits, values))


def _is_route(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    route = cast("RouteEntry", value)
    url = route.get("base_url")
    return (
        isinstance(route.get("name"), str)
        and isinstance(route.get("variable"), str)
        and (url is None or isinstance(url, str))
    )
