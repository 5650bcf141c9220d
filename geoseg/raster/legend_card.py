"""Classes as a notebook shows them: a swatch of its colour before each name, which stays text."""

from __future__ import annotations

import html
from collections.abc import Iterable

from geoseg.legend import LandCover, NamedClass

_SWATCH = "display:inline-block;width:12px;height:12px;border:1px solid #888;margin-right:5px;vertical-align:-2px"


def legend_card(classes: Iterable[LandCover | NamedClass]) -> str:
    """Return HTML that needs nothing else, in one line that may be broken between classes."""
    return "".join(
        '<span style="margin-right:14px;white-space:nowrap">'
        f'<i style="{_SWATCH};background:#{bytes(known.color).hex()}"></i>'
        f"{html.escape(known.name)}</span> "
        for known in classes
    )
