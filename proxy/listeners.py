"""The open listeners of a process. Those of [server] stay; those of routes come and go with reloads."""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from aiohttp import web

from proxy import listen
from proxy.adopted import Adopted, Misfit, misfit
from proxy.config.address import Address
from proxy.config.model import Config, Route

_log = logging.getLogger("proxy.process")
Kind = Literal["health", "admin", "data", "route"]


class Place(NamedTuple):
    """The kind and address of a listener. `route`: a data listener of one route alone."""

    kind: Kind
    address: Address
    number: int = 0  # of those with the same address: port 0 stands for any


def places_of_all(config: Config) -> list[Place]:
    """Of the data listeners that the routes share."""
    return _numbered("data", config.server.listen)


def places_of_routes(config: Config) -> dict[Place, Route]:
    """Of the routes that have a listener to themselves."""
    routes = [route for route in config.routes if route.listen is not None]
    addresses = [route.listen for route in config.routes if route.listen is not None]
    return dict(zip(_numbered("route", addresses), routes, strict=True))


def _numbered(kind: Kind, addresses: Iterable[Address]) -> list[Place]:
    seen: Counter[Address] = Counter()
    places = []
    for address in addresses:
        places.append(Place(kind, address, seen[address]))
        seen[address] += 1
    return places


@dataclass(frozen=True, slots=True)
class _Open:
    runner: web.BaseRunner
    site: web.BaseSite
    address: Address  # with the port that was chosen for port 0


class Listeners:
    def __init__(self, ports: set[int], adopted: Adopted) -> None:
        """`ports`: kept equal to the ports of all open listeners. `adopted`: used where they fit."""
        self._open: dict[Place, _Open] = {}
        self._ports = ports
        self._adopted = adopted

    async def start(
        self, place: Place, runner: web.BaseRunner, context: ssl.SSLContext | None, *, handshake: float
    ) -> None:
        """Listen there. `handshake`: seconds for that of TLS. Raises CannotListen."""
        if runner.server is None:
            await runner.setup()
        try:
            sockets = await self._adopted.of(place.address)
            site = await listen.listen(runner, place.address, context, handshake=handshake, sockets=sockets)
        except Misfit as error:
            await listen.close(runner)
            raise listen.CannotListen(str(error)) from error
        except BaseException:
            await listen.close(runner)
            raise
        bound = listen.bound_address(site, place.address)
        self._open[place] = _Open(runner, site, bound)
        self._note_ports()
        _log.info("listening on %s", bound, extra={"event": "listen", "listen": str(bound)})

    def require_all(self) -> None:
        """Require that each adopted socket is a listener's. Raises CannotListen."""
        for handed in self._adopted.unused():
            raise listen.CannotListen(misfit(handed, [place.address for place in self._open]))

    def warn_of_unused(self) -> None:
        """Log the adopted sockets whose listener has been removed: the service manager keeps them open."""
        for handed in self._adopted.unused():
            _log.warning("%s", misfit(handed, [place.address for place in self._open]))

    @property
    def places(self) -> list[Place]:
        return list(self._open)

    def bound(self, place: Place) -> Address:
        return self._open[place].address

    def renew_tls(self, place: Place, context: ssl.SSLContext | None) -> None:
        listen.renew_tls(self._open[place].site, context)

    async def stop(self, *kinds: Kind) -> None:
        """Accept no more connections there."""
        await listen.stop(*(each.site for place, each in self._open.items() if place.kind in kinds))

    async def close(self, *kinds: Kind) -> None:
        """The last one first."""
        await self.close_each(place for place in reversed(self.places) if place.kind in kinds)

    async def close_each(self, places: Iterable[Place]) -> None:
        for place in places:
            closed = self._open.pop(place)
            self._note_ports()
            self._adopted.leave(place.address)
            await listen.close(closed.runner)

    def _note_ports(self) -> None:
        self._ports.clear()
        self._ports.update(each.address.port for each in self._open.values() if each.address.port)
