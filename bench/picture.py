"""A bar chart for README, as SVG.

Rectangles and labels on a fixed grid, without a drawing library. The colours are readable on white and on
black, as an embedded picture can't know the theme of its page.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rows import Row

WIDTH, LABELS, VALUES = 720, 110, 80  # pixels: total; left of the bars; right of the longest bar
TOP, STEP, BAR = 40, 28, 18
OURS = {"token-proxy", "uncompiled"}

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #747c86 }
.name { text-anchor: end }
.ours { font-weight: 600; fill: #2f81f7 }
rect { fill: #8c959f }
"""


def svg(rows: Sequence[Row], figure: str, title: str) -> str:
    """A bar for each row with figures, longest first."""
    medians = {row.peer: row.median(figure) or 0.0 for row in rows if row.good}
    ordered = sorted(medians.items(), key=lambda item: -item[1])
    scale = (WIDTH - LABELS - VALUES) / max([*medians.values(), 1.0])
    height = TOP + STEP * len(ordered)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text x="0" y="16">{escape(title)}</text>',
        *(_bar(TOP + STEP * n, peer, value, scale) for n, (peer, value) in enumerate(ordered)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(top: float, peer: str, value: float, scale: float) -> str:
    mark = ' class="ours"' if peer in OURS else ""
    name = "name ours" if peer in OURS else "name"
    length, line = value * scale, top + BAR - 5
    words = f"{round(value, -1):,.0f}".replace(",", "\N{NO-BREAK SPACE}")
    return (
        f'<text class="{name}" x="{LABELS - 10}" y="{line}">{escape(peer)}</text>'
        f'<rect{mark} x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text{mark} x="{LABELS + length + 8:.1f}" y="{line}">{words}</text>'
    )
