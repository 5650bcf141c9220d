"""What a model says of the data it was made with: which scenes it learnt from, which it was chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from geoseg.dataset.area import PARTS, Area
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.split import Split
from geoseg.model.card import ModelCard
from geoseg.raster.windows import Window

_SHOWN = 6
_DIGITS = 16
"""Of a digest: enough to tell scenes apart, and a bundle with a thousand of them stays small."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The split that training recorded; empty where the model does not say."""

    parts: Mapping[str, tuple[Area, ...]]
    """Of train, valid and test."""
    digests: Mapping[str, str]
    """What the pairs hold, by id; tells scenes of one name in two data sets apart."""
    rule: str = ""

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """Read a model's provenance: `data` with `split` (`name`, and a list for each part) and `digests` (by id).

        An area of a part is an id, or `[id, row, col, height, width]`, as a Split writes them. What is not of that form
        says nothing: a bundle is untrusted, and may come from elsewhere.
        """
        data = card.provenance.get("data")
        split = data.get("split") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(split, dict):
            return cls({}, {})
        digests = data.get("digests")
        known = {str(key): str(value) for key, value in digests.items()} if isinstance(digests, dict) else {}
        return cls({part: _areas(split.get(part)) for part in PARTS}, known, str(split.get("name") or ""))

    def fits(self, dataset: Dataset, part: str) -> bool:
        """Say whether the data set has every scene of a part that is recorded, and they are the same."""
        areas = self.parts.get(part, ())
        ids = {pair.id for pair in dataset.pairs}
        return bool(areas) and all(area.pair_id in ids for area in areas) and self._same(dataset, areas)

    def seen(self, dataset: Dataset, areas: Sequence[Area], part: str) -> list[str]:
        """Return the ids of those areas that share a pixel with a part that is recorded."""
        recorded = self.parts.get(part, ())
        return sorted(
            {
                area.pair_id
                for area in areas
                if any(_overlap(area, other) for other in recorded) and self._same(dataset, [area])
            }
        )

    def _same(self, dataset: Dataset, areas: Sequence[Area]) -> bool:
        """Say whether scenes hold what the model saw under their names, as far as it says."""
        ids = {area.pair_id for area in areas} & set(self.digests)
        return all(dataset.pair(pair_id).content().startswith(self.digests[pair_id]) for pair_id in ids)


def overlap_note(origin: Origin, dataset: Dataset, areas: Sequence[Area], model: str) -> str | None:
    """Return a line where the model has seen what it is to be examined on; None where it has not, or does not say."""
    scenes = {area.pair_id for area in areas}
    learnt = origin.seen(dataset, areas, "train")
    if learnt:
        return (
            f"{model} was trained on {len(learnt)} of these {len(scenes)} scenes ({_listed(learnt)}): the figures say "
            "how well it remembers them, not how well it maps others; choose --split test, or other scenes"
        )
    chosen = origin.seen(dataset, areas, "valid")
    if chosen:
        return (
            f"the weights of {model} were chosen on {len(chosen)} of these {len(scenes)} scenes ({_listed(chosen)}), "
            "its validation: the figures flatter it; choose --split test, or other scenes"
        )
    return None


def to_provenance(dataset: Dataset, made: Split) -> dict[str, Any]:
    """Return what a bundle records as `data` of its provenance, as `Origin.of` reads it."""
    ids = sorted({area.pair_id for part in PARTS for area in made.part(part)})
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "split": {**made.to_json(), "digest": made.digest},
        "digests": {pair_id: dataset.pair(pair_id).content()[:_DIGITS] for pair_id in ids},
    }


def _areas(rows: object) -> tuple[Area, ...]:
    found = [_area(row) for row in rows] if isinstance(rows, list) else []
    return tuple(area for area in found if area is not None)


def _area(row: object) -> Area | None:
    match row:
        case str(pair_id):
            return Area(pair_id)
        case [str(pair_id), int(first), int(col), int(height), int(width)] if height > 0 and width > 0:
            return Area(pair_id, Window(first, col, height, width))
    return None


def _overlap(one: Area, other: Area) -> bool:
    if one.pair_id != other.pair_id:
        return False
    return one.window is None or other.window is None or one.window.intersection(other.window) is not None


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
