"""`token-proxy check`: what the configuration means, as understood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from proxy.config.fault_messages import Complaint
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.errors import StoreError
from proxy.store.open import check_url
from proxy.tls_material import Material, gather, needed

Say = Callable[[str], object]


def check_store(config: Config) -> Iterator[Complaint]:
    """A store URL that `run` would refuse."""
    try:
        check_url(config.store.url.reveal())
    except StoreError as error:
        yield Complaint(("store", "url"), str(error))


def check_tls(config: Config) -> Iterator[Complaint]:
    """Certificates and keys that `run` would refuse."""
    places = needed(config)
    for settings, sentence in gather(places, Material()).unusable.items():
        yield Complaint(places[settings], sentence)


def report(loaded: Loaded, say: Say, *, verbose: bool) -> None:
    """Say that there are no faults, and where each route leads; `verbose`: all that was understood."""
    config = loaded.config
    counts = [
        _counted(config.credentials, "credential"),
        _counted(config.routes, "route"),
        *([_counted(config.callers, "caller")] if config.callers else []),
    ]
    say(f"{config.place}: no faults ({', '.join(counts)})")
    from proxy.commands.route_table import route_table, short_route_table

    if not verbose:
        if config.routes:
            say(short_route_table(config))
        return
    from proxy.commands.described import described

    for line in described(loaded):
        say(line)
    if config.routes:
        say("\n# Routes, in the order in which they are tried")
        say(route_table(config))


def _counted(things: Iterable[object], noun: str) -> str:
    count = len(list(things))
    return f"{count} {noun}{'' if count == 1 else 's'}"
