"""Rules about `attach` and routes together. Pure: parsed TOML in, complaints out, as in checks.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.config.fault_messages import Complaint
from proxy.config.route_fields import AUTHORIZATION, plain
from proxy.config.tables import Tables, route_list, table


def check_attachments(data: Tables) -> Iterator[Complaint]:
    """What a route says about a field in which its credential attaches the token."""
    credentials = table(data, "credentials")
    for index, route in enumerate(route_list(data)):
        name = route.get("credential") if isinstance(route, dict) else None
        if not isinstance(name, str) or name not in credentials:
            continue
        attached = _fields(table(credentials, name).get("attach", {}))
        for header in table(route, "headers"):
            if plain(header) in attached:
                yield Complaint(("routes", index, "headers", header), _taken(attached[plain(header)]), "key")
        named = table(route, "account").get("header")
        if isinstance(named, str) and plain(named) in attached:
            yield Complaint(("routes", index, "account", "header"), _taken(attached[plain(named)]))
        if route.get("caller_authorization") == "pass" and AUTHORIZATION in attached:
            yield Complaint(
                ("routes", index, "caller_authorization"),
                f'the token of credential {name!r} goes into Authorization: expected "replace", or that '
                "its `attach` has another field",
            )


def check_queries(data: Tables) -> Iterator[Complaint]:
    """Tokens in URLs: for warnings."""
    for name, credential in table(data, "credentials").items():
        if isinstance(credential, dict) and any("query" in each for each in _each(credential.get("attach"))):
            yield Complaint(
                ("credentials", name, "attach"),
                "the token is in URLs, which upstreams and the proxies before them log - expected only where "
                "the API takes it in no header field",
            )


def _taken(header: str) -> str:
    return f"the token goes into {header}: expected another field"


def _each(attach: object) -> list[dict[str, Any]]:
    return [each for each in (attach if isinstance(attach, list) else [attach]) if isinstance(each, dict)]


def _fields(attach: object) -> dict[str, str]:
    """The fields that take the token, by their `plain` names. Of a value that may have faults."""
    names: dict[str, str] = {}
    for each in _each(attach):
        name = each.get("header", "Authorization")
        if "query" not in each and isinstance(name, str):
            names[plain(name)] = name
    return names
