"""Data sets in any layout, and mixtures: data sets with different legends, mapped to the one that is learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.atomic import output_error, write_durably
from geoseg.dataset.deepglobe import find_deepglobe, is_deepglobe
from geoseg.dataset.mixture_file import BuiltUpEntry, MemberEntry, Synthetic, is_mixture_file, of_entry, read_mixture
from geoseg.dataset.pair import BuiltUp, FoundPairs, MappedLabels, Member, Pair
from geoseg.dataset.paired_files import find_pairs, paired_images
from geoseg.dataset.search import SearchOptions, check_there
from geoseg.dataset.whole_labels import WholeLabel, find_whole_labels, has_whole_labels
from geoseg.errors import GeosegError, UsageError
from geoseg.legend import DEEPGLOBE, NODATA, GivenLegend, Legend, Meaning, class_code, given_legend, meanings, own_code
from geoseg.model import cache_folder
from geoseg.raster import digest
from geoseg.synthetic import Landscape, write_landscape

_LANDSCAPES = 1
"""Version of the painters; landscapes of another version are painted again."""
_URBAN = "urban_land"
_BLOCKS: Mapping[str | None, float] = {"rangeland": 1 / 3, "barren_land": 1 / 3, None: 1 / 3, "forest_land": 0.5}
"""What DeepGlobe's labels include in built-up land: gardens, yards and unlabeled gaps where houses and streets fill a
third of the ground, and trees where they fill half of it."""


def find_scenes(root: str, options: SearchOptions) -> FoundPairs:
    """Return the pairs of a folder, a table or a scene, in any layout but a mixture. Raises as `open_dataset` does."""
    check_there(root)
    if options.labels is None and is_deepglobe(root):
        return find_deepglobe(root, options)
    if options.labels is None and has_whole_labels(root, paired_images):
        return find_whole_labels(root, options)
    return find_pairs(root, options)


def find_mixture(path: str, legend: GivenLegend | None, bands: Sequence[int | str] | None) -> FoundPairs:
    """Return the pairs of all data sets in a mixture file, each opened with its own options and mapped to one legend.

    `legend`: the target, if the file names none. A pixel that may be one of several classes gets a code that is not in
    the legend; `sets` lists the classes it stands for. Raises UsageError, which names the entry, if one is invalid, and
    the errors of `open_dataset`.
    """
    own_legend, entries = read_mixture(path)
    target = _target(own_legend, legend, path)
    members = [_open(entry, target, bands) for entry in entries]
    sets = _sets([member.meanings for member in members], target, path)
    return FoundPairs(
        tuple(pair for member in members for pair in member.mapped(sets)),
        target,
        tuple(f"{member.entry.name}: {note}" for member in members for note in member.data.notes),
        "mixture",
        _open_sets(sets),
        tuple(member.member for member in members),
    )


def map_pairs(
    pairs: Iterable[Pair], own: Legend, said: Mapping[str, Any], target: Legend, name: str
) -> tuple[tuple[Pair, ...], tuple[tuple[int, Meaning], ...]]:
    """Return pairs with labels mapped to another legend, and the codes that stand for several classes.

    `said`: the target classes that each class of the `own` legend may be. UsageError if the mapping is invalid.
    """
    by_code = meanings(said, own, target, "`mapping`")
    sets = _sets([by_code], target, name)
    table = _table(by_code, sets)
    return tuple(replace(pair, labels=MappedLabels(pair.labels, table)) for pair in pairs), _open_sets(sets)


@dataclass(frozen=True, slots=True)
class _OpenedMember:
    """A data set with its own legend, and the classes of the target that its own classes mean."""

    entry: MemberEntry
    data: FoundPairs
    meanings: Mapping[int, Meaning]
    """Classes of the target by own code."""
    target: Legend

    def mapped(self, sets: Mapping[Meaning, int]) -> list[Pair]:
        """Return the pairs with labels mapped to the target."""
        table = _table(self.meanings, sets)
        return [
            replace(
                pair,
                id=f"{self.entry.name}/{pair.id}",
                labels=MappedLabels(pair.own_labels, table, self._built_up(pair)),
            )
            for pair in self.data.pairs
        ]

    @property
    def member(self) -> Member:
        """The properties that training and splits need."""
        entry = self.entry
        return Member(
            entry.name,
            entry.share,
            entry.shown_m,
            entry.mosaic,
            self._weights(),
            entry.split,
            entry.valid_share,
            self.data.kind,
        )

    def _weights(self) -> tuple[tuple[str, float], ...]:
        """Return (id, weight) of the images whose class has a weight."""
        if not self.entry.weights:
            return ()
        where = f"{self.entry.where}, weights"
        by_code = {own_code(name, self.data.legend, where): weight for name, weight in self.entry.weights.items()}
        pairs = [(pair, pair.own_labels) for pair in self.data.pairs]
        if not all(isinstance(labels, WholeLabel) for _, labels in pairs):
            raise UsageError(f"{where}: weights are for images with one label each")
        weights = tuple(
            (f"{self.entry.name}/{pair.id}", by_code[labels.code])
            for pair, labels in pairs
            if isinstance(labels, WholeLabel) and labels.code in by_code
        )
        if len(weights) == len(pairs) and not any(weight for _, weight in weights):
            raise UsageError(f"{where}: every class has weight 0; leave the data set out")
        return weights

    def _built_up(self, pair: Pair) -> BuiltUp | None:
        built_up = self.entry.built_up
        if built_up is None:
            return None
        where = f"{self.entry.where}, built_up"
        if pair.gsd_m is None:
            raise UsageError(f"{where}: the pixel size of {pair.id} is unknown; give it with data_gsd_m")
        absorbs = _absorbed_shares(built_up, self.target, where)
        shares = {code: _share(meaning, absorbs) for code, meaning in self.meanings.items()}
        return BuiltUp(
            tuple(sorted(own_code(name, self.data.legend, where) for name in built_up.classes)),
            class_code(built_up.target or _URBAN, self.target, where),
            2 * max(1, round(built_up.around_m / pair.gsd_m / 2)) + 1,
            tuple(sorted((code, share) for code, share in shares.items() if share is not None)),
        )


def _open(entry: MemberEntry, target: Legend, bands: Sequence[int | str] | None) -> _OpenedMember:
    try:
        if entry.synthetic is not None:
            data = find_scenes(str(_landscapes(entry.synthetic)), SearchOptions(legend=DEEPGLOBE))
        else:
            data = _find_pairs(entry, bands)
    except GeosegError as error:
        raise of_entry(error, entry.where) from None
    return _OpenedMember(entry, data, meanings(entry.classes, data.legend, target, f"{entry.where}, classes"), target)


def _find_pairs(entry: MemberEntry, bands: Sequence[int | str] | None) -> FoundPairs:
    options, path = entry.options, entry.path or ""
    if "labels" not in options and is_mixture_file(path):
        raise UsageError(f"{path} is itself a mixture; list its data sets here instead")
    others = {name: options[name] for name in ("labels", "column", "tolerance", "layer") if name in options}
    chosen = options.get("legend"), options.get("bands", bands)
    return find_scenes(path, SearchOptions.of(*chosen, gsd_m=options.get("data_gsd_m"), **others))


def _landscapes(synthetic: Synthetic) -> Path:
    """Return a table of synthetic landscapes in the cache; missing ones are made now. OutputError."""
    folder = cache_folder() / "landscapes" / digest([_LANDSCAPES, synthetic.size_px, synthetic.gsd_m])[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = ["scene,labels,id"]
        for seed in range(synthetic.seed, synthetic.seed + synthetic.scenes):
            names = f"{seed}_image.tif", f"{seed}_label.tif"
            if not (folder / names[1]).exists():  # it is written last
                size = synthetic.size_px, synthetic.size_px, synthetic.gsd_m
                write_landscape(Landscape(seed, *size), *(folder / name for name in names))
            table.append(f"{names[0]},{names[1]},{seed}")
        file = folder / f"{synthetic.seed}_{synthetic.scenes}.csv"
        write_durably(file, ("\n".join(table) + "\n").encode())
    except OSError as error:
        raise output_error(folder, error) from error
    return file


def _target(in_file: Any, requested: GivenLegend | None, path: str) -> Legend:  # noqa: ANN401 - of a file
    if in_file is not None and requested is not None:
        raise UsageError(f"{path} has its own legend; leave `legend` out", "legend")
    chosen = requested if in_file is None else in_file
    if chosen is None:
        raise UsageError(
            f'{path} names no legend; say which classes to learn, with "legend": "deepglobe" or a file', "legend"
        )
    if chosen == "deepglobe":
        return DEEPGLOBE
    try:
        return given_legend(chosen)
    except GeosegError as error:
        raise error if in_file is None else of_entry(error, path) from None


def _sets(by_data_set: Iterable[Mapping[int, Meaning]], target: Legend, path: str) -> dict[Meaning, int]:
    """Return the code of each meaning: that of its class, or for several classes one that the legend does not use."""
    every = {meaning for meanings_by_code in by_data_set for meaning in meanings_by_code.values() if meaning}
    several = sorted(meaning for meaning in every if len(meaning) > 1)
    free = [code for code in range(NODATA) if code not in target.codes]
    if len(several) > len(free):
        raise UsageError(
            f"{path}: {len(several)} different sets of classes and {len(target)} classes; at most 255 fit in total"
        )
    return {(code,): code for code in target.codes} | dict(zip(several, free, strict=False))


def _open_sets(sets: Mapping[Meaning, int]) -> tuple[tuple[int, Meaning], ...]:
    """Return the codes that stand for several classes, ascending."""
    return tuple(sorted((code, meaning) for meaning, code in sets.items() if len(meaning) > 1))


def _table(by_code: Mapping[int, Meaning], sets: Mapping[Meaning, int]) -> bytes:
    """Return the target's code for each of 256 own codes."""
    table = bytearray([NODATA]) * 256
    for code, meaning in by_code.items():
        table[code] = sets[meaning] if meaning else NODATA
    return bytes(table)


def _absorbed_shares(built_up: BuiltUpEntry, target: Legend, where: str) -> dict[int | None, float]:
    names = built_up.absorbs
    if names is None:
        names = {name: share for name, share in _BLOCKS.items() if name is None or name in target.names}
        if not set(target.names) & {*_BLOCKS}:
            raise UsageError(
                f'{where}: say which classes it absorbs, and from which share on: "absorbs": {{"rangeland": 0.33}}'
            )
    return {None if name is None else class_code(name, target, where): share for name, share in names.items()}


def _share(meaning: Meaning, absorbs: Mapping[int | None, float]) -> float | None:
    """Return the share above which a class is absorbed: the highest one if it may be several classes."""
    if not meaning:
        return absorbs.get(None)
    return max((absorbs[code] for code in meaning if code in absorbs), default=None)
