"""What probes are told, on the admin and the health listener: /healthz, /readyz and /startupz.

They are about the process, whatever configuration it serves. `health` is None in its first moments.
"""

from __future__ import annotations

from aiohttp import web

from proxy.observe.health import Health, Stage


def healthz() -> web.Response:
    """The process lives."""
    return web.Response(text="ok")


def startupz(health: Health | None) -> web.Response:
    """Configuration, store and listeners are up: never about tokens."""
    stage = stage_of(health)
    if stage is Stage.STARTING:
        return web.Response(status=503, text=stage.value)
    return web.Response(text="ok")


def readyz(health: Health | None, *, with_accounts: bool = True) -> web.Response:
    """The process serves, and every required credential can. `with_accounts`: name their accounts.

    Of a process that starts or drains the one reason has a `state`, and no credential.
    """
    reasons = _reasons(health)
    if not with_accounts:
        reasons = _without_accounts(reasons)
    document = {"ready": not reasons, "reasons": reasons}
    return web.json_response(document, status=503 if reasons else 200)


def stage_of(health: Health | None) -> Stage:
    return Stage.STARTING if health is None else health.stage


def _reasons(health: Health | None) -> list[dict[str, str]]:
    if health is None or health.stage is not Stage.SERVING:
        return [{"state": stage_of(health).value}]
    return [
        {"credential": each["credential"], "account": each["account"], "state": each["state"]}
        for each in health.not_ready()
    ]


def _without_accounts(reasons: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each credential and state once."""
    shown: list[dict[str, str]] = []
    for reason in reasons:
        kept = {name: value for name, value in reason.items() if name != "account"}
        if kept not in shown:
            shown.append(kept)
    return shown
