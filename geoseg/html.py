"""Self-contained HTML for notebooks: tables, swatches and pictures. Text is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_CELL = 'style="text-align:left;padding:1px 12px 1px 0"'
_SWATCH = "display:inline-block;width:12px;height:12px;border:1px solid #888;margin-right:5px;vertical-align:-2px"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of two columns, names and texts."""
    lines = (
        f"<tr><th {_CELL} scope='row'>{html.escape(name)}</th><td {_CELL}>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table>{''.join(lines)}</table>"


def columns(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of numbers with a header row."""
    cell = _CELL.replace("left", "right")
    lines = (
        f"<tr>{''.join(f'<{kind} {cell}>{html.escape(text)}</{kind}>' for text in row)}</tr>"
        for kind, row in (("th", heading), *(("td", row) for row in rows))
    )
    return f"<table>{''.join(lines)}</table>"


def swatches(classes: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """Return names, each after a square in its color (red, green, blue); lines may break between them."""
    return "".join(
        '<span style="margin-right:14px;white-space:nowrap">'
        f'<i style="{_SWATCH};background:#{bytes(color).hex()}"></i>'
        f"{html.escape(name)}</span> "
        for name, color in classes
    )


def picture(png: bytes) -> str:
    """Return an image element that contains the bytes of a PNG."""
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def beside(left: str, *right: str) -> str:
    """Return one element on the left, and the others stacked on its right."""
    return f'<div style="display:flex;gap:16px;align-items:flex-start">{left}<div>{"".join(right)}</div></div>'
