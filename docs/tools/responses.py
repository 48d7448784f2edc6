"""The proxy's own responses, from the table of their endings."""

from __future__ import annotations

from docs.tools.markdown import code, table, text
from proxy import endings


def page() -> str:
    rows = [
        (f"[{code(each.name)}](#{each.name})", each.status, text(each.title))
        for each in endings.ENDINGS.values()
    ]
    overview = table(("ending", "status", "title"), rows)
    return "\n".join([overview, *map(_section, endings.ENDINGS.values())])


def _section(ending: endings.Ending) -> str:
    cures = "\n".join(f"- {text(cure)}" for cure in ending.cures)
    return (
        f"## {ending.name}\n\n**{text(ending.title)}** ({ending.status})\n\n{text(ending.cause)}\n\n{cures}\n"
    )
