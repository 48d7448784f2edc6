"""The responses to probes, on the admin and the health listener: /healthz, /readyz and /startupz.

They are about the process, from its first moment to its last, under all its configurations.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.observe.health import Health

STARTING: Final = "starting"
DRAINING: Final = "draining"


class Probes:
    """health: of the configuration that is served now; None until the store and the listeners are up."""

    def __init__(self) -> None:
        self.health: Health | None = None

    def healthz(self) -> web.Response:
        """The process lives."""
        return web.Response(text="ok")

    def startupz(self) -> web.Response:
        """Configuration, store and listeners are up: never about tokens."""
        if self.health is None:
            return web.Response(status=503, text=STARTING)
        return web.Response(text="ok")

    def readyz(self, *, with_accounts: bool = True) -> web.Response:
        """The process serves, and every required credential can. `with_accounts`: name their accounts."""
        reasons = self._reasons()
        if not with_accounts:
            reasons = _without_accounts(reasons)
        document = {"ready": not reasons, "reasons": reasons}
        return web.json_response(document, status=503 if reasons else 200)

    def _reasons(self) -> list[dict[str, str]]:
        if self.health is None:
            return [{"state": STARTING}]
        if self.health.draining:
            return [{"state": DRAINING}]
        return [
            {"credential": each["credential"], "account": each["account"], "state": each["state"]}
            for each in self.health.not_ready()
        ]


def _without_accounts(reasons: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each credential and state once."""
    shown: list[dict[str, str]] = []
    for reason in reasons:
        kept = {name: value for name, value in reason.items() if name != "account"}
        if kept not in shown:
            shown.append(kept)
    return shown
