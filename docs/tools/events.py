"""The events of the log, from the table of proxy/observe/event_table.py."""

from __future__ import annotations

from docs.tools.markdown import code, table, text
from proxy.observe import event_table

_HEAD = ("event", "level", "fields", "when")


def page() -> str:
    return "\n".join(f"**{group}**\n\n{_table(events)}" for group, events in event_table.GROUPS.items())


def _table(events: tuple[event_table.Event, ...]) -> str:
    return table(
        _HEAD,
        (
            (code(each.name), ", ".join(each.levels), ", ".join(map(code, each.fields)), text(each.meaning))
            for each in events
        ),
    )
