"""`run --watch`: a reload whenever the text of the configuration file has changed.

The folders of the file are watched, not the file: editors and Kubernetes put another file, or link, in its
place. What counts is its text, once two looks agree. It is also looked at every LOOK_EVERY, as not all
file systems report changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Final

from watchfiles import awatch

from proxy import tasks
from proxy.file_thread import FileThread
from proxy.observe.events import event

LOOK_EVERY: Final = 2000  # milliseconds, without a reported change
DEBOUNCE: Final = 200  # milliseconds for which changes are collected, in a folder that changes all the time
SETTLED: Final = 0.1  # seconds between two looks that must agree
GONE_FOR: Final = 2.0  # seconds; an editor that writes anew takes less
TASK: Final = "watch the configuration file"  # in internal_errors_total

_log = logging.getLogger("proxy.reload")


class ConfigWatch:
    def __init__(self, path: Path, digest: str, wanted: asyncio.Event, files: FileThread) -> None:
        """`digest`: of the text that is served (Config.digest). `wanted`: set when it has changed."""
        self._path = path.absolute()
        self._known = digest  # of the text for which a reload was wanted last
        self._wanted = wanted
        self._files = files

    def start(self) -> asyncio.Task[None]:
        return tasks.forever(TASK, self._watch)

    async def _watch(self) -> None:
        """Until the folders are others."""
        folders = await self._files.run(partial(folders_of, self._path))
        try:
            changes = awatch(
                *folders,
                watch_filter=None,
                recursive=False,
                debounce=DEBOUNCE,
                rust_timeout=LOOK_EVERY,
                yield_on_timeout=True,
            )
            await self._look()
            async for _ in changes:
                await self._look()
                if await self._files.run(partial(folders_of, self._path)) != folders:
                    return
        except OSError as error:  # no more watches, or a folder has just gone
            event(
                _log, logging.DEBUG, "reload", "the folder of the configuration can't be watched: %s", error
            )
            await asyncio.sleep(LOOK_EVERY / 1000)
            await self._look()

    async def _look(self) -> None:
        digest = await self._settled()
        if digest != self._known:
            self._known = digest
            self._wanted.set()

    async def _settled(self) -> str:
        """The digest of the text, once it no longer changes; empty if the file is gone for good."""
        loop = asyncio.get_running_loop()
        gone_until = loop.time() + GONE_FOR
        seen = await self._digest()
        while seen != self._known:
            await asyncio.sleep(SETTLED)
            before, seen = seen, await self._digest()
            if seen == before and (seen or loop.time() > gone_until):
                break
        return seen

    async def _digest(self) -> str:
        return await self._files.run(partial(digest_of, self._path))


def folders_of(path: Path) -> list[str]:
    """Its folder, and those of what it links to, as far as they exist."""
    folders = {path.parent}
    for _ in range(40):  # the kernel follows as many
        try:
            target = path.readlink()
        except OSError:
            break
        path = path.parent / target
        folders.add(path.parent)
    folders.add(path.resolve().parent)
    return sorted({str(folder.resolve()) for folder in folders if folder.is_dir()})


def digest_of(path: Path) -> str:
    """As Config.digest; empty for a file that is not there."""
    try:
        text = path.read_bytes().replace(b"\r\n", b"\n")
    except OSError:
        return ""
    return hashlib.sha256(text).hexdigest()
