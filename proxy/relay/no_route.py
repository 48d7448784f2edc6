"""The response to a request that no route matches. It says what this port is for."""

from __future__ import annotations

from typing import Final

from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime

LISTED: Final = 20  # routes; more would hide the rest of the sentence


def refusal(context: RelayContext) -> Refusal:
    """The routes are listed only where everyone may use them."""
    if context.callers is not None:
        detail = (
            "no route matches the host and path of this request: check the base URL; `token-proxy explain` "
            "shows which route a request takes"
        )
        return Refusal(problems.NO_ROUTE, detail)
    own = set(context.own.values())
    places = [_place(runtime) for runtime in context.runtimes if runtime not in own]
    more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
    listed = ", ".join(places[:LISTED]) + more or "none yet, add [[routes]] to the configuration"
    detail = (
        "no route matches the host and path of this request. token-proxy passes requests of programs on, "
        f"with an OAuth token added. Its routes here: {listed}. Its status page: {context.public_url}/"
    )
    return Refusal(problems.NO_ROUTE, detail)


def _place(runtime: RouteRuntime) -> str:
    return f"{runtime.host}{runtime.prefix.decode('ascii') or '/'}"
