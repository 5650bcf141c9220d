"""A model as a notebook shows it; its texts come from a file that is not trusted, and stay text."""

from __future__ import annotations

from geoseg.html import swatches, table
from geoseg.model.card import ModelCard


def bundle_card(card: ModelCard) -> str:
    """Return HTML that needs nothing else: what the model is, takes and tells apart."""
    rows = [
        ("model", card.name),
        ("architecture", card.architecture),
        ("bands", f"{', '.join(card.bands)} ({card.dtype})"),
        ("pixel", "unknown size" if card.gsd_m is None else f"{card.gsd_m:.3g} m"),
        ("window", f"{card.window_px} px, overlap {card.overlap_px} px"),
    ]
    classes = swatches((known.name, known.color) for known in card.legend if known.code in card.output_codes)
    return f"<div>{table(rows)}<p>{classes}</p></div>"
