"""The record of a model's training data, and the scenes that the model can therefore be evaluated on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from geoseg.dataset import DEFAULT_SEED, DEFAULT_VALID_SHARE, PARTS, Area, Dataset, Split, check_rule, split
from geoseg.errors import UsageError, listed, numbered
from geoseg.given import nearest
from geoseg.model import ModelCard
from geoseg.raster import Window

_N = TypeVar("_N", int, float)
_DIGITS = 16
"""Digits of a digest: enough to distinguish scenes, and a bundle with a thousand of them stays small."""
_MOST_TEXT = 150_000
"""Limit of the characters that a bundle holds about its data; the size of its header is bounded."""
_RULES = ("published", "folders", "all", "mixture", "random", "blocks")
"""Rules that a split can be remade by. A file named in a bundle is not opened: the bundle may be anybody's."""
DEFAULT_PART = "test"
_DRAWN = ("random", "blocks")
"""Rules that hold out what training on this data set would hold out; other models have seen none of its scenes."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The split recorded by training; empty if the model has no record."""

    parts: Mapping[str, tuple[Area, ...]]
    """Areas of train, valid and test."""
    digests: Mapping[str, str]
    """Digests of the imagery, by id of its pair; they distinguish scenes with the same name in two data sets."""
    rule: str = ""
    seed: int = DEFAULT_SEED
    valid_share: float = DEFAULT_VALID_SHARE
    split_digest: str = ""

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """Read a model's provenance: `data` with `split` and `images` (digests by id).

        `split` has a `name` (its rule), `seed`, `valid_share`, `digest`, and a list for each part. An area of a part is
        an id or `[id, row, col, height, width]`, as written by Split. Anything in another form is ignored: a bundle is
        untrusted, and may come from elsewhere.
        """
        data = card.provenance.get("data")
        recorded = data.get("split") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(recorded, dict):
            return cls({}, {})
        images, share = data.get("images"), _number(recorded.get("valid_share"), float, DEFAULT_VALID_SHARE)
        return cls(
            {part: _areas(recorded.get(part)) for part in PARTS},
            {str(key): str(value) for key, value in images.items()} if isinstance(images, dict) else {},
            str(recorded.get("name") or ""),
            _number(recorded.get("seed"), int, DEFAULT_SEED),
            share if 0 < share <= 1 else DEFAULT_VALID_SHARE,
            str(recorded.get("digest") or ""),
        )

    @property
    def is_lost(self) -> bool:
        """Whether the model was trained with a split whose scenes are not recorded."""
        return bool(self.split_digest) and not any(self.parts.values())

    def on(self, dataset: Dataset, rule: str | None = None) -> TrainingData:
        """Return the same with remade parts, if they were not recorded and this data set has the scenes.

        The rule is the recorded one, or `rule`, which may be a file. The recorded digest must confirm the split.
        """
        recorded_rule = self.rule if self.rule.partition(":")[0] in _RULES else None
        rule_text = recorded_rule if rule is None else rule
        if not self.is_lost or rule_text is None:
            return self
        try:
            remade = split(dataset, rule_text, seed=self.seed, valid_share=self.valid_share)
        except UsageError:
            return self
        return (
            replace(self, parts={part: remade.part(part) for part in PARTS})
            if remade.digest == self.split_digest
            else self
        )

    def fits(self, dataset: Dataset, part: str) -> bool:
        """Return whether the data set has every scene of a recorded part, with the same imagery."""
        areas = self.parts.get(part, ())
        ids = {pair.id for pair in dataset.pairs}
        recorded = {area.pair_id for area in areas}
        return bool(areas) and recorded <= ids and next(self._changed(dataset, recorded), None) is None

    def seen(self, dataset: Dataset, areas: Sequence[Area], part: str) -> list[str]:
        """Return the ids of the areas that share a pixel with a recorded part."""
        recorded = defaultdict(list)
        for area in self.parts.get(part, ()):
            recorded[area.pair_id].append(area)
        shared = {area.pair_id for area in areas if any(area.overlaps(other) for other in recorded[area.pair_id])}
        return sorted(shared.difference(self._changed(dataset, shared)))

    def _changed(self, dataset: Dataset, ids: set[str]) -> Iterator[str]:
        """Yield the scenes that hold other imagery than the model saw under their names, as far as it is recorded."""
        known = ids & self.digests.keys()
        for pair in dataset.pairs:
            if pair.id in known and not pair.image_digest().startswith(self.digests[pair.id]):
                yield pair.id


def overlap_note(learned: TrainingData, dataset: Dataset, areas: Sequence[Area], model: str) -> str | None:
    """Return a note if the model has seen the scenes of its evaluation; None if not, or if there is no record."""
    if learned.is_lost:
        return (
            f"{model} does not list the scenes it was trained on, and its split ({learned.rule}, seed {learned.seed}) "
            f"cannot be reproduced from {dataset.name}: some of these scenes may have trained it, and the figures then "
            "show how well it remembers them; give the `split_rule` and all scenes of the training, or other scenes"
        )
    scenes = {area.pair_id for area in areas}
    seen_ids = learned.seen(dataset, areas, "train")
    if seen_ids:
        return (
            f"{model} was trained on {len(seen_ids)} of these {numbered(len(scenes), 'scene')} ({listed(seen_ids)}): "
            "the figures show how well it remembers them, not how well it maps others; choose `split='test'`, or "
            "other scenes"
        )
    chosen = learned.seen(dataset, areas, "valid")
    if chosen:
        return (
            f"the weights of {model} were chosen on {len(chosen)} of these {numbered(len(scenes), 'scene')} "
            f"({listed(chosen)}), its validation set: the figures are too good; choose `split='test'`, or other scenes"
        )
    return None


def to_provenance(dataset: Dataset, new_split: Split) -> dict[str, Any]:
    """Return the `data` of a bundle's provenance, as `TrainingData.of` reads it.

    If there are too many scenes, first their digests are left out, then their ids: rule and seed can remake the split.
    """
    rule_record = {
        "name": new_split.name,
        "seed": new_split.seed,
        "valid_share": new_split.valid_share,
        "digest": new_split.digest,
    }
    summary = {"name": dataset.name, "digest": dataset.digest, "split": rule_record}
    with_parts = {**summary, "split": {**new_split.to_json(), **rule_record}}
    if not _fits(with_parts):
        return summary
    ids = {area.pair_id for part in PARTS for area in new_split.part(part)}
    images = {pair.id: pair.image_digest()[:_DIGITS] for pair in dataset.pairs if pair.id in ids}
    with_images = {**with_parts, "images": images}
    return with_images if _fits(with_images) else with_parts


def _fits(record: dict[str, Any]) -> bool:
    return len(json.dumps(record)) <= _MOST_TEXT


def _number(value: object, kind: type[_N], default: _N) -> _N:
    return value if isinstance(value, kind) and not isinstance(value, bool) else default


def _areas(rows: object) -> tuple[Area, ...]:
    areas = []
    for row in rows if isinstance(rows, list) else []:
        match row:
            case str(pair_id):
                areas.append(Area(pair_id))
            case [str(pair_id), int(first), int(col), int(height), int(width)] if height > 0 and width > 0:
                areas.append(Area(pair_id, Window(first, col, height, width)))
    return tuple(areas)


def choose_areas(
    learned: TrainingData, dataset: Dataset, part: str, rule: str | None = None
) -> tuple[tuple[Area, ...], str]:
    """Return the areas of a part (train, valid, test or all), and a few words on how they were chosen.

    They are chosen by `rule`; else by the record of the model's training, if the data set has the scenes of that part;
    else all scenes, if all are in that part of the published split; else by the rule that training would use. Rules
    draw with the recorded seed, if there is one. UsageError for another part, and for a part without scenes.
    """
    check_part(part)
    if part == "all":
        return _whole(dataset), "all scenes"
    if rule is None and learned.fits(dataset, part):
        return learned.parts[part], f"{part} as the training split it{f' ({learned.rule})' if learned.rule else ''}"
    published = dataset.published_split
    if rule is None and published is not None and all(published.get(pair.id) == part for pair in dataset.pairs):
        return _whole(dataset), f"{part} of the published split"
    try:
        new_split = split(dataset, rule, seed=learned.seed, valid_share=learned.valid_share)
    except UsageError as error:
        raise error.renamed(split="split_rule") from None
    areas = new_split.part(part)
    if not areas:
        sizes = ", ".join(f"{len(new_split.part(name))} in {name}" for name in PARTS)
        raise UsageError(
            f"no scene of {dataset.name} is in the part {part} of the split {new_split.name} ({sizes}); "
            "use all scenes with `split='all'`, or name another `split` or `split_rule`",
            "split",
        )
    how = f"{part} by the rule {new_split.name}"
    if rule is None and new_split.name.partition(":")[0] in _DRAWN and part == DEFAULT_PART:
        how += "; a model that was trained on none of these scenes can use them all: `split='all'`"
    return areas, how


def check_part(part: str, rule: str | None = None) -> None:
    """Raise UsageError if a part or a rule does not exist. Needs no data set."""
    if part not in (*PARTS, "all"):
        closest = nearest(str(part), (*PARTS, "all"))
        hint = f" (did you mean {closest}?)" if closest else "; `split_rule` says how the data set is split"
        raise UsageError(f"`split` is train, valid, test or all, got {part!r:.40}{hint}", "split")
    if rule is not None:
        try:
            check_rule(rule)
        except UsageError as error:
            raise error.renamed(split="split_rule") from None


def _whole(dataset: Dataset) -> tuple[Area, ...]:
    return tuple(Area(pair.id) for pair in dataset.pairs)
