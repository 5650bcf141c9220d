"""Which scenes, or parts of scenes, a model is examined on."""

from __future__ import annotations

from geoseg.dataset import PARTS, Area, Dataset, Split, check_rule, split
from geoseg.errors import UsageError
from geoseg.evaluation.origin import Origin
from geoseg.nearest import nearest

DEFAULT_PART = "test"


def choose_areas(
    origin: Origin, dataset: Dataset, part: str = DEFAULT_PART, rule: str | None = None
) -> tuple[tuple[Area, ...], str]:
    """Return the areas of a part, train, valid, test or all, and a few words on how they were chosen.

    By the rule given; else as the model's training recorded it, if the data set has the scenes of that part; else all
    scenes, if all are of that part of the published split; else as training would split the data set. Rules draw with
    the seed of the model's training, if it says it. UsageError for another part, and for one without a scene.
    """
    check_part(part)
    if part == "all":
        return _whole(dataset), "all scenes"
    if rule is None and origin.fits(dataset, part):
        return origin.parts[part], f"{part} as the training split it{f' ({origin.rule})' if origin.rule else ''}"
    published = dataset.published_split
    if rule is None and published is not None and all(published.part_of(pair.id) == part for pair in dataset.pairs):
        return _whole(dataset), f"{part} of the published split"
    try:
        made = split(dataset, rule, seed=origin.seed, valid_share=origin.valid_share)
    except UsageError as error:
        raise error.renamed(split="split_rule") from None
    areas = made.part(part)
    if not areas:
        raise UsageError(
            f"no scene of {dataset.name} is in the part {part} by the rule {made.name} ({_sizes(made)}); "
            "choose another `split`, or another `split_rule` such as random:0.8"
        )
    return areas, f"{part} by the rule {made.name}"


def check_part(part: str, rule: str | None = None) -> None:
    """Raise UsageError for a part, or a rule, that is none, whatever the data set."""
    if part not in (*PARTS, "all"):
        near = nearest(str(part), (*PARTS, "all"))
        way_out = f" (did you mean {near}?)" if near else "; how the data set is split is said by `split_rule`"
        raise UsageError(f"`split` is train, valid, test or all, got {part!r:.40}{way_out}")
    if rule is not None:
        try:
            check_rule(rule)
        except UsageError as error:
            raise error.renamed(split="split_rule") from None


def _whole(dataset: Dataset) -> tuple[Area, ...]:
    return tuple(Area(pair.id) for pair in dataset.pairs)


def _sizes(made: Split) -> str:
    return ", ".join(f"{len(made.part(part))} in {part}" for part in PARTS)
