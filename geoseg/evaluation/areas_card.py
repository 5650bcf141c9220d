"""Areas as a notebook shows them."""

from __future__ import annotations

import html
from collections.abc import Sequence

from geoseg.evaluation.areas import Areas
from geoseg.evaluation.markdown import areas_in_words, number

_CELL = 'style="text-align:right;padding:1px 12px 1px 0"'


def areas_card(areas: Areas) -> str:
    """Return HTML that needs nothing else: the report's table, and the overall accuracy."""
    heading, rows = areas_in_words(areas)
    lines = "".join(_row("td", row) for row in rows)
    overall = f"overall accuracy by area {number(areas.overall)} ± {number(areas.overall_error)}"
    return f"<div><table>{_row('th', heading)}{lines}</table><p>{overall}</p></div>"


def _row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind} {_CELL}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"
