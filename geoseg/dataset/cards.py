"""A data set and a split as a notebook shows them."""

from __future__ import annotations

from collections import Counter

from geoseg.dataset.area import PARTS
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.split import Split
from geoseg.html import swatches, table


def dataset_card(dataset: Dataset) -> str:
    """Return HTML that needs nothing else: what a data set holds, and its classes in their colours."""
    shapes = [pair.scene.shape for pair in dataset.pairs]
    sizes = [f"{rows} rows, {cols} columns" for rows, cols in dict.fromkeys((min(shapes), max(shapes)))]
    said = Counter(pair.part for pair in dataset.pairs)
    parts = ", ".join(f"{part}: {said[part]}" for part in PARTS if said[part])
    rows = [
        ("data set", dataset.name),
        ("scenes", f"{len(dataset.pairs)}{f' ({parts})' if parts else ''}"),
        ("size", " to ".join(sizes)),
        ("pixel", "unknown size" if dataset.gsd_m is None else f"{dataset.gsd_m:.3g} m"),
        ("bands", f"{', '.join(dataset.bands)} ({dataset.dtype})"),
        *(("note", note) for note in dataset.notes),
    ]
    return f"<div>{table(rows)}<p>{swatches((known.name, known.color) for known in dataset.legend)}</p></div>"


def split_card(split: Split) -> str:
    """Return HTML that needs nothing else: what a split puts where."""
    seed = [] if split.seed is None else [("seed", str(split.seed))]
    return table([("split", split.name), *((part, split.size_of(part)) for part in PARTS), *seed])
