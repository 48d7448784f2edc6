"""A URL as a QR code, for a page and for a terminal. Only this module imports segno, when a code is shown."""

from __future__ import annotations

from typing import Final

_BORDER: Final = 2  # modules; the standard wants 4, but cameras do with 2, and terminals are small
_LIGHT_ON_DARK: Final = "\x1b[97;40m"  # bright white on black, whatever the terminal's own colours are
_PLAIN: Final = "\x1b[0m"
_HALVES: Final = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}  # (upper, lower); 1 is dark


def svg(url: str) -> str:
    """An SVG element without styles, scripts or links: it fits a page with any Content-Security-Policy."""
    import segno  # noqa: PLC0415 (see above)

    code = segno.make_qr(url, error="m")
    return str(code.svg_inline(scale=4, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None))


def text(url: str) -> str:
    """Lines for a terminal that knows colours: two modules a character."""
    import segno  # noqa: PLC0415 (see above)

    rows = [list(row) for row in segno.make_qr(url, error="l").matrix_iter(border=_BORDER)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = (
        "".join(_HALVES[int(upper), int(lower)] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )
    return "\n".join(f"{_LIGHT_ON_DARK}{line}{_PLAIN}" for line in lines)
