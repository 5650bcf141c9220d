"""A folder of imagery with labels, as a value."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geoseg.dataset.layouts import find_mixture, find_scenes, is_mixture_file
from geoseg.dataset.pair import PARTS, Found, Member, Pair
from geoseg.dataset.search import SearchOptions, Wanted, each
from geoseg.errors import SceneError, UsageError
from geoseg.given import plain_arguments
from geoseg.html import swatches, table
from geoseg.legend import GivenLegend, Legend, given_legend
from geoseg.raster import DEFAULT_TOLERANCE, Scene, digest, shown, stamps

if TYPE_CHECKING:
    import geopandas

__all__ = ["Dataset", "GivenLegend", "open_dataset", "published_split"]


@dataclass(frozen=True, slots=True)
class Published:
    """The split of DeepGlobe's 803 labelled images that figures are published for: 454 train, 207 validate, 142 test.

    The lists came with GLNet (Chen et al., arXiv 1905.06368, https://github.com/VITA-Group/GLNet); here are their ids.
    """

    train: frozenset[str]
    valid: frozenset[str]
    test: frozenset[str]

    def part_of(self, pair_id: str) -> str | None:
        """Return train, valid or test; None for an id that is not of the split."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return next((name for name, ids in parts.items() if pair_id in ids), None)


@cache
def published_split() -> Published:
    """Return the split as it stands in the package."""
    texts = (files("geoseg.dataset").joinpath(f"glnet_{part}.txt").read_text(encoding="ascii") for part in PARTS)
    return Published(*(frozenset(text.split()) for text in texts))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Scenes with labels that share their legend, bands and type."""

    name: str
    root: str
    legend: Legend
    pairs: tuple[Pair, ...]
    """Ascending by id."""
    bands: tuple[str, ...]
    dtype: str
    gsd_m: float | None
    """The same for all pairs, or the median of theirs; None where one has none."""
    kind: Literal["deepglobe", "pairs", "mixture"]
    notes: tuple[str, ...] = ()
    """What the user should know: images left out, and why."""
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(code, classes) of labels that leave open which of several classes a pixel is; the code is beyond the legend."""
    members: tuple[Member, ...] = ()
    """The data sets of a mixture, which the ids of its pairs begin with."""

    def __post_init__(self) -> None:
        ids = [pair.id for pair in self.pairs]
        if not ids:
            raise SceneError(f"{shown(self.root)} holds no pair of imagery and labels")
        if ids != sorted(set(ids)):
            twice = next((name for name in ids if ids.count(name) > 1), "")
            raise SceneError(f"{shown(self.root)}: the id {twice!r} is there twice; give each scene a name of its own")

    def __repr__(self) -> str:
        size = "pixels of unknown size" if self.gsd_m is None else f"{self.gsd_m:.3g} m"
        return (
            f"Dataset({self.name!r}, {len(self.pairs)} scene{'s' * (len(self.pairs) != 1)}, "
            f"{', '.join(self.bands)} {self.dtype}, {size}, {len(self.legend)} classes)"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        shapes = [pair.scene.shape for pair in self.pairs]
        sizes = [f"{rows} rows, {cols} columns" for rows, cols in dict.fromkeys((min(shapes), max(shapes)))]
        said = Counter(pair.part for pair in self.pairs)
        parts = ", ".join(f"{part}: {said[part]}" for part in PARTS if said[part])
        rows = [
            ("data set", self.name),
            ("scenes", f"{len(self.pairs)}{f' ({parts})' if parts else ''}"),
            ("size", " to ".join(sizes)),
            ("pixel", "unknown size" if self.gsd_m is None else f"{self.gsd_m:.3g} m"),
            ("bands", f"{', '.join(self.bands)} ({self.dtype})"),
            *(("note", note) for note in self.notes),
        ]
        return f"<div>{table(rows)}<p>{swatches((known.name, known.color) for known in self.legend)}</p></div>"

    @property
    def digest(self) -> str:
        """Hex of what pixels and labels are, by the content of the files: a copy elsewhere has the same."""
        return _digest(self, repr(stamps([name for pair in self.pairs for name in pair.files])))

    @property
    def published_split(self) -> Published | None:
        """The split that others publish figures for, if the data set has one."""
        return published_split() if self.kind == "deepglobe" else None

    def pair(self, pair_id: str) -> Pair:
        """Return a pair by its id; UsageError if there is none."""
        found = next((pair for pair in self.pairs if pair.id == pair_id), None)
        if found is None:
            raise UsageError(f"{self.name} has no scene {pair_id!r}")
        return found


@plain_arguments()
def open_dataset(  # noqa: PLR0913 - each keyword is a knob of the command line
    path: str | os.PathLike[str],
    *,
    legend: GivenLegend | None = None,
    bands: Sequence[int | str] | None = None,
    gsd_m: float | None = None,
    labels: str | os.PathLike[str] | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: Wanted = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Dataset:
    """Find scenes and their labels; only the heads of the files are read.

    `path`: a folder in the DeepGlobe 2018 layout; or one with images/ and labels/ of equal names, or with
    `NAME_image.tif` and `NAME_label.tif`; a CSV with the columns scene, labels and perhaps split; a folder of scenes or
    one scene, with `labels` of its own: a raster of codes, a picture of the legend's colours, or polygons whose
    `column` holds the class: a GeoDataFrame, or anything GDAL or pyarrow reads, of which `layer` names the layer, or
    layers, where several hold polygons; a folder for each class with images of one label as a whole, or a CSV with the
    columns scene and class; a mixture of such data sets, a JSON file or a CSV with the columns path and share (see
    docs/datasets.md). `legend`: classes, or a file of them; by default what the labels themselves say, and
    DeepGlobe's for its layout. `gsd_m`: metres a pixel, whatever the scenes say. `tolerance`: the share of a mask's
    pixels that may hold a colour or code without class and is then ignored.

    Raises SceneError for files that are missing, cannot be read or do not fit each other, UsageError for options that
    cannot be right.
    """
    if not 0 <= tolerance <= 1:
        raise UsageError(f"`tolerance` is a share from 0 to 1, got {tolerance}", "tolerance")
    if gsd_m is not None and not 0 < gsd_m < float("inf"):
        raise UsageError(f"`gsd_m` is in meters and more than 0, got {gsd_m}", "gsd_m")
    root = os.fspath(path)
    if labels is None and is_mixture_file(root):
        if gsd_m is not None or column is not None:
            raise UsageError(
                f"{shown(root)} is a mixture: write data_gsd_m and column beside the data set that needs them",
                "column" if gsd_m is None else "gsd_m",
            )
        return _joined(root, find_mixture(root, legend, bands))
    options = SearchOptions(
        None if legend is None else given_legend(legend),
        None if bands is None else tuple(bands),
        gsd_m,
        os.fspath(labels) if isinstance(labels, os.PathLike) else labels,
        column,
        tolerance,
        layer,
    )
    return _joined(root, find_scenes(root, options))


def _joined(root: str, found: Found) -> Dataset:
    """Return a data set of pairs. SceneError where there are none, or their imagery is of different kinds."""
    pairs = tuple(sorted(found.pairs, key=lambda pair: pair.id))
    if not pairs:
        raise SceneError(f"{shown(root)} holds no pair of imagery and labels")
    first = pairs[0].scene
    for pair in pairs:
        _check_alike(pair.scene, first)
    sizes = [pair.gsd_m for pair in pairs]
    known = sorted(size for size in sizes if size is not None)
    gsd_m = known[len(known) // 2] if len(known) == len(sizes) else None
    return Dataset(
        Path(root).absolute().name or shown(root),
        root,
        found.legend,
        pairs,
        _bands(first),
        first.dtype,
        gsd_m,
        found.kind,
        found.notes,
        found.sets,
        found.members,
    )


def _check_alike(scene: Scene, first: Scene) -> None:
    """Raise SceneError where two scenes cannot be learnt from together: by their bands, or the type of their pixels."""
    if len(scene.band_indexes) != len(first.band_indexes):
        raise SceneError(
            f"{shown(scene.path)} has {len(scene.band_indexes)} bands, {shown(first.path)} has "
            f"{len(first.band_indexes)}; choose the same of all with `bands`"
        )
    if scene.dtype != first.dtype:
        raise SceneError(
            f"{shown(scene.path)} holds {scene.dtype}, {shown(first.path)} {first.dtype}; "
            "convert them to one type with rio convert --dtype"
        )


def _bands(scene: Scene) -> tuple[str, ...]:
    """Return names that differ: what the file says of each band, else its number."""
    names: list[str] = []
    for index in scene.band_indexes:
        color, text = scene.colors[index - 1], scene.descriptions[index - 1]
        name = color if color not in {"gray", "undefined", "palette", ""} else text
        names.append(name if name and name not in names else f"band_{index}")
    return tuple(names)


@lru_cache(maxsize=4)
def _digest(dataset: Dataset, _stamps: str) -> str:
    """Return the digest, kept as long as the files are those it was made of."""
    said = [dataset.legend.to_json(), dataset.gsd_m, each(Pair.content, dataset.pairs)]
    return digest([*said, repr(dataset.sets), repr(dataset.members)] if dataset.members else said)
