"""Parts of the configuration that have no effect: for `check`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.config.fault_messages import Complaint
from proxy.config.tables import Tables, route_list, table


def advise_unused(data: Tables) -> Iterator[Complaint]:
    """No routes at all, or credentials that no route uses."""
    routes = route_list(data)
    if not routes:
        yield Complaint(
            (), "there are no routes, so that every request gets a 404 - add one: [[routes]]", "table"
        )
        return
    used = {route.get("credential") for route in routes if isinstance(route, dict)}
    for name in table(data, "credentials"):
        if name not in used:
            yield Complaint(
                ("credentials", name),
                f'no route uses this credential - add a route with credential = "{name}", unless only '
                "`token-proxy token` needs it",
                "table",
            )
