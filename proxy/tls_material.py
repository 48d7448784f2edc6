"""The TLS contexts of a configuration, and the contents of the files that they were made of.

Making a context takes milliseconds, and up to 30 with a trust store: one is made for all that need the same,
and it is used again as long as its files do not change. Files that can't be used any more leave the context
that was made of their last good contents.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy import listen
from proxy.config.files import fingerprint
from proxy.config.model import AuthorizationServerTLS, Config, ListenerTLS, UpstreamTLS
from proxy.config.positions import Path as KeyPath
from proxy.oauth import fetch
from proxy.relay import dial

TRIES: Final = 3  # to make a context of files that change meanwhile
REMEDY: Final = "expected certificates and, unencrypted, the key that belongs to them, all in PEM"
Settings = ListenerTLS | UpstreamTLS | AuthorizationServerTLS | None  # None: towards upstreams, by default
Prints = tuple[bytes, ...]  # a hash of each file's content; empty for a file that can't be read


def files_of(settings: Settings) -> tuple[Path, ...]:
    found: tuple[Path | None, ...]
    match settings:
        case ListenerTLS():
            found = (settings.cert, settings.key, settings.client_ca)
        case UpstreamTLS():
            found = (settings.cert, settings.key, settings.ca)
        case AuthorizationServerTLS():
            found = (settings.cert, settings.key, settings.ca)
        case None:
            found = (None, None, None)
    return tuple(path for path in found if path is not None)


def needed(config: Config) -> dict[Settings, KeyPath]:
    """All settings of TLS contexts, each with its first place in the configuration."""
    return dict(reversed(list(_needed(config))))


def _needed(config: Config) -> Iterator[tuple[Settings, KeyPath]]:
    listeners = [*config.server.listen, *(route.listen for route in config.routes)]
    for address in listeners:
        if address is not None and config.server.tls is not None:
            yield config.listener_tls(address), ("server", "tls")
    if config.server.admin_tls is not None:
        yield config.admin_listener_tls, ("server", "admin_tls")
    for number, route in enumerate(config.routes):
        if route.upstream.scheme == "https":
            yield route.tls, ("routes", number, "tls")
    for name, credential in config.credentials.items():
        if credential.tls is not None:
            yield credential.tls, ("credentials", name, "tls")


@dataclass(frozen=True, slots=True)
class Made:
    context: ssl.SSLContext
    prints: Prints


@dataclass(frozen=True, slots=True)
class Material:
    """The contexts of one configuration."""

    made: Mapping[Settings, Made] = field(default_factory=dict)
    unusable: Mapping[Settings, str] = field(
        default_factory=dict
    )  # a sentence for each that could not be made
    kept: Mapping[Settings, str] = field(default_factory=dict)  # likewise, where an earlier context is used

    def context(self, settings: Settings) -> ssl.SSLContext:
        return self.made[settings].context

    def of_servers(
        self, before: Material
    ) -> tuple[dict[AuthorizationServerTLS, ssl.SSLContext], set[AuthorizationServerTLS]]:
        """The contexts towards authorization servers, and those of them whose files have changed."""
        ours = {each: made for each, made in self.made.items() if isinstance(each, AuthorizationServerTLS)}
        changed = {each for each, made in ours.items() if before.made.get(each) is not made}
        return {each: made.context for each, made in ours.items()}, changed

    def listener(self, settings: ListenerTLS | None) -> ssl.SSLContext | None:
        return None if settings is None else self.made[settings].context


def gather(
    wanted: Iterable[Settings], before: Material, may_change: Callable[[Settings], bool] = lambda _: True
) -> Material:
    """Slow: reads files. Those of settings that may not change are not looked at if there is a context."""
    made: dict[Settings, Made] = {}
    unusable: dict[Settings, str] = {}
    kept: dict[Settings, str] = {}
    for settings in wanted:
        known = before.made.get(settings)
        if known is not None and not may_change(settings):
            made[settings] = known
            continue
        try:
            made[settings] = _current(settings, known)
        except OSError as error:
            sentence = _said(settings, error)
            if known is None:
                unusable[settings] = sentence
            else:
                made[settings], kept[settings] = known, sentence
    return Material(made, unusable, kept)


def _current(settings: Settings, known: Made | None) -> Made:
    """Of the files as they are now. Raises OSError."""
    prints = fingerprints(files_of(settings))
    if known is not None and prints == known.prints:
        return known
    for _ in range(TRIES):
        context = _context(settings)
        before, prints = prints, fingerprints(files_of(settings))
        if prints == before:
            break
    return Made(context, before)


def _context(settings: Settings) -> ssl.SSLContext:
    match settings:
        case ListenerTLS():
            return listen.tls_context(settings)
        case AuthorizationServerTLS():
            return fetch.tls_context(settings)
        case _:
            return dial.tls_context(settings)


def _said(settings: Settings, error: OSError) -> str:
    names = ", ".join(map(str, files_of(settings)))
    if isinstance(error, ssl.SSLError) or not error.strerror:
        return f"{names or 'the trust store'} can't be used: {REMEDY}"
    return f"{names or 'the trust store'} can't be read ({error.strerror.lower()}): {REMEDY}"


def fingerprints(files: Iterable[Path]) -> Prints:
    return tuple(_fingerprint(path) for path in files)


def _fingerprint(path: Path) -> bytes:
    """Empty if the file can't be read."""
    try:
        return fingerprint(path.read_bytes())
    except OSError:
        return b""
