"""Reloads of a serving process: another configuration, or other contents of the files that it names.

SIGHUP, --watch ──► the file is read again ──┐
                                             ├──► TLS contexts ──► Process.replace
a file has changed ──► the text as accepted, ┘
                       its new contents

One at a time. A failure changes nothing: a reload that was asked for is reported with every fault, and a file
that can't be used with one warning, until it changes again. Wherever a file can't be used now, its last good
content counts; only what the configuration did not name before must be good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from proxy import tasks
from proxy.config.changes import Changes, changes, needs_restart
from proxy.config.load import Loaded
from proxy.errors import ConfigError, ProxyError
from proxy.file_thread import FileThread
from proxy.hooks import call
from proxy.observe import logs
from proxy.observe.events import event
from proxy.process import Process
from proxy.tls_material import Material, files_of, gather, needed
from proxy.watched_files import Group, Looks, Prints, Watch

LOOK_EVERY: Final = 1.0  # seconds
MOST_FAULTS: Final = 50  # that are logged, of one reload
LOOK: Final = "look at files"  # in internal_errors_total

_log = logging.getLogger("proxy.reload")


class Unusable(ProxyError):
    """Changed files that can't be taken up."""


class Reloader:
    def __init__(self, process: Process, wanted: asyncio.Event) -> None:
        """`wanted`: set to ask for a reload. Asking again during a reload makes one more."""
        self._process = process
        self._wanted = wanted
        self._files = FileThread()
        self._lock = asyncio.Lock()
        self._looks, self._watch = Looks(), Watch()
        self._had_lost = False  # values of credentials
        self._metrics = process.services.metrics

    @asynccontextmanager
    async def running(self, watched: Path | None = None) -> AsyncIterator[None]:
        """Reload when asked to, and take up changed files, within the block. Its end waits for nothing.

        `watched`: the configuration file, if its changes ask for a reload too.
        """
        loops = [tasks.forever("reload", self._serve), tasks.forever(LOOK, self._look)]
        if watched is not None:
            from proxy.config_watch import ConfigWatch  # noqa: PLC0415 (only for --watch)

            digest = self._process.loaded.config.digest
            loops.append(ConfigWatch(watched, digest, self._wanted, self._files).start())
        try:
            yield
        finally:
            await tasks.cancel(*loops)
            self._files.close()

    # -- another configuration

    async def _serve(self) -> None:
        await self._wanted.wait()
        async with self._lock:
            self._wanted.clear()  # what is asked for from here on is not in this one
            call(self._process.hooks.reloading)
            await self._reload()
            call(self._process.hooks.settled)

    async def _reload(self) -> None:
        before = self._process.loaded
        try:
            await self._replace(partial(before.reread, before.files.again()))
        except ConfigError as error:
            self._metrics.reload_failed()
            _log_faults(error)
        except Exception as error:  # noqa: BLE001 (whatever it is, the process goes on as it was)
            self._metrics.reload_failed()
            tasks.report("reload", error, "unexpected error in a reload, and nothing has changed: report it")
        else:
            self._metrics.reload_succeeded(self._process.services.clock.wall())
            loaded = self._process.loaded
            _log_changes(changes(before.config, loaded.config))
            logs.warn(loaded.warnings, loaded.config.place)

    async def _replace(self, read: Callable[[], Loaded]) -> None:
        """Raises ConfigError."""
        loaded = await self._files.run(read)
        require_no_restart(self._process.loaded, loaded)
        material = await self._files.run(partial(gather, needed(loaded.config), self._process.material))
        await self._process.replace(loaded, material)

    # -- other contents of files

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_EVERY)
        async with self._lock:
            accepted = groups_of(self._process.loaded, self._process.material)
            if not accepted:
                return
            seen = await self._files.run(partial(self._looks.at, list(accepted)))
            due = self._watch.looked(seen, accepted)
            if due:
                await self._take_up(due)
            self._note_lost_values()

    def _note_lost_values(self) -> None:
        lost = lost_values(self._process.loaded, self._watch.refused)
        if lost or self._had_lost:
            self._process.services.tokens.values_lost(lost)
        self._had_lost = bool(lost)

    async def _take_up(self, due: Mapping[Group, Prints]) -> None:
        """All together, as they may belong together; else each by itself."""
        try:
            await self._try(due)
        except (ConfigError, Unusable) as error:
            if len(due) > 1:
                for group, prints in due.items():
                    await self._take_up({group: prints})
                return
            self._refuse(due, _said(error))
        except Exception as error:  # noqa: BLE001 (as above)
            tasks.report(LOOK, error, "unexpected error in taking up changed files: report it")
            for group, prints in due.items():
                self._watch.refuse(group, prints)
        else:
            names = ", ".join(str(path) for group in due for path in group)
            event(_log, logging.INFO, "reload", "took up the new contents of %s", names, files=names)

    async def _try(self, due: Mapping[Group, Prints]) -> None:
        """Raises ConfigError, Unusable; nothing has changed then."""
        before, process = self._process.loaded, self._process
        changed = {path for group in due for path in group}
        loaded = await self._files.run(partial(before.again, before.files.but(changed)))
        require_no_restart(before, loaded)
        wanted = needed(loaded.config)
        make = partial(gather, wanted, process.material, lambda each: files_of(each) in due)
        material = await self._files.run(make)
        if material.kept:
            raise Unusable("; ".join(sorted(material.kept.values())))
        found = groups_of(loaded, material)
        if any(found.get(group) != prints for group, prints in due.items()):
            return  # it has changed again: the next looks see
        await process.replace(loaded, material)

    def _refuse(self, due: Mapping[Group, Prints], reason: str) -> None:
        for group, prints in due.items():
            self._watch.refuse(group, prints)
            names = ", ".join(map(str, group))
            event(
                _log,
                logging.WARNING,
                "reload",
                "%s: changed, but not used: %s; what was read before counts until that changes again",
                names,
                reason,
                files=names,
            )


def groups_of(loaded: Loaded, material: Material) -> dict[Group, Prints]:
    """The files of a configuration, as they are used now."""
    groups: dict[Group, Prints] = {(path,): (each.print,) for path, each in loaded.files.contents.items()}
    for settings, made in material.made.items():
        if files := files_of(settings):
            groups[files] = made.prints
    return groups


def lost_values(loaded: Loaded, unusable: Collection[Path]) -> set[str]:
    """The credentials whose `value` is in one of these files."""
    return {
        str(each.path[1])
        for each in loaded.references
        if each.path[::2] == ("credentials", "value")
        and each.kind == "file"
        and loaded.file(each) in unusable
    }


def require_no_restart(old: Loaded, new: Loaded) -> None:
    """Raises ConfigError."""
    faults = [new.fault(each.path, each.sentence) for each in needs_restart(old.config, new.config)]
    if faults:
        raise ConfigError(new.config.place, faults)


def _said(error: ProxyError) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(fault.message for fault in error.faults)
    return str(error)


def _log_changes(found: Changes) -> None:
    fields: dict[str, Any] = {**found.fields()}
    event(_log, logging.INFO, "reload", "reloaded the configuration: %s", found.text, **fields)


def _log_faults(error: ConfigError) -> None:
    """A line for each: one with all of them may be longer than a pipe takes at once."""
    count = len(error.faults)
    event(
        _log,
        logging.ERROR,
        "reload",
        "the configuration was not reloaded, and nothing has changed: faults: %d",
        count,
        faults=count,
    )
    for fault in error.faults[:MOST_FAULTS]:
        place = replace(fault, source="").render(error.filename)
        event(_log, logging.ERROR, "reload", "%s", place)
