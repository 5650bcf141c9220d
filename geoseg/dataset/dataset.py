"""A folder of imagery with labels, as a value."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from geoseg.dataset.area import PARTS
from geoseg.dataset.mixture import find_mixture, find_scenes, map_pairs
from geoseg.dataset.mixture_file import is_mixture_file
from geoseg.dataset.pair import FoundPairs, Member, Pair
from geoseg.dataset.search import SearchOptions, each
from geoseg.errors import SceneError, UsageError, numbered
from geoseg.given import plain_arguments
from geoseg.html import swatches, table
from geoseg.legend import GivenLegend, Legend
from geoseg.raster import DEFAULT_TOLERANCE, Scene, digest, shown, stamps
from geoseg.typed import as_path, checked

if TYPE_CHECKING:
    import geopandas

    from geoseg.features import LayerChoice


@cache
def published_split() -> Mapping[str, str]:
    """Return the part of each of DeepGlobe's 803 labeled images, by id: 454 train, 207 valid, 142 test.

    Published results use this split. The lists come from GLNet (Chen et al., arXiv 1905.06368,
    https://github.com/VITA-Group/GLNet).
    """
    texts = {part: files("geoseg.dataset").joinpath(f"glnet_{part}.txt").read_text(encoding="ascii") for part in PARTS}
    return MappingProxyType({name: part for part, text in texts.items() for name in text.split()})


@dataclass(frozen=True, slots=True)
@checked
class Dataset:
    """Labeled scenes with one legend, bands and data type, made by `open_dataset`. Can be sent to other processes."""

    name: str
    """Name of the folder or file."""
    root: str
    """Path that it was opened from."""
    legend: Legend
    """Legend of the labels as training sees them."""
    pairs: tuple[Pair, ...]
    """Ascending by id."""
    bands: tuple[str, ...]
    """Names of the first scene's bands, in order."""
    dtype: str
    """NumPy's name for the stored type of the bands."""
    gsd_m: float | None
    """Meters per pixel: the median of all pairs; None if any size is unknown."""
    kind: Literal["deepglobe", "pairs", "mixture"]
    notes: tuple[str, ...] = ()
    """Lines for the user, such as which images are left out, and why."""
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(code, classes) of ambiguous labels: a pixel is one of several classes, and the code is not in the legend."""
    members: tuple[Member, ...] = ()
    """The data sets of a mixture; the ids of its pairs begin with their names."""

    def __post_init__(self) -> None:
        ids = [pair.id for pair in self.pairs]
        if not ids:
            raise SceneError(f"{shown(self.root)} contains no image with labels")
        if ids != sorted(set(ids)):
            repeated = next((name for name, count in Counter(ids).items() if count > 1), "")
            raise SceneError(f"{shown(self.root)}: the id {repeated!r} occurs twice; give each scene its own name")

    def __repr__(self) -> str:
        size = "pixels of unknown size" if self.gsd_m is None else f"{self.gsd_m:.3g} m"
        return (
            f"Dataset({self.name!r}, {numbered(len(self.pairs), 'scene')}, "
            f"{', '.join(self.bands)} {self.dtype}, {size}, {numbered(len(self.legend), 'class')})"
        )

    def _repr_html_(self) -> str:
        shapes = [pair.scene.shape for pair in self.pairs]
        sizes = [f"{rows} rows, {cols} columns" for rows, cols in dict.fromkeys((min(shapes), max(shapes)))]
        part_counts = Counter(pair.part for pair in self.pairs)
        parts = ", ".join(f"{part}: {part_counts[part]}" for part in PARTS if part_counts[part])
        rows = [
            ("data set", self.name),
            ("scenes", f"{len(self.pairs)}{f' ({parts})' if parts else ''}"),
            ("size", " to ".join(sizes)),
            ("pixel", "unknown size" if self.gsd_m is None else f"{self.gsd_m:.3g} m"),
            ("bands", f"{', '.join(self.bands)} ({self.dtype})"),
            *(("note", note) for note in self.notes),
        ]
        return f"<div>{table(rows)}<p>{swatches((entry.name, entry.color) for entry in self.legend)}</p></div>"

    @property
    def digest(self) -> str:
        """Hex digest of pixels and labels by file content: a copy elsewhere has the same digest."""
        return _digest(self, repr(stamps([name for pair in self.pairs for name in pair.files])))

    @property
    def published_split(self) -> Mapping[str, str] | None:
        """The part of each image, by id, in the split that published results use; None if there is no such split."""
        return published_split() if self.kind == "deepglobe" else None

    @checked
    def mapped(self, mapping: Mapping[str, Any], target: Legend) -> Dataset:
        """Return the data set with its labels mapped to another legend.

        Parameters
        ----------
        mapping : mapping
            For each class, by name or by code as text: a class of the target, a list of classes that its pixels may
            be, `{"not": [...]}`, or None for no label. A class with the same name in both may be left out.
        target : Legend
            The legend to map to.

        Raises
        ------
        UsageError
            If a class is unknown or not mapped, or the data set is a mixture, which maps its classes itself.

        """
        if self.members:
            raise UsageError(
                f"{self.name} is a mixture, which maps the classes of each data set itself; leave `mapping` out",
                "mapping",
            )
        try:
            by_name = {str(name): value for name, value in mapping.items()}
            pairs, sets = map_pairs(self.pairs, self.legend, by_name, target, self.name)
        except UsageError as error:
            raise UsageError(str(error), "mapping") from None
        return replace(self, legend=target, pairs=pairs, sets=sets)

    @checked
    def pair(self, pair_id: str) -> Pair:
        """Return a pair by its id.

        Parameters
        ----------
        pair_id : str
            The stem of the scene's file, after the name of its data set or folder if it has one: `tiles/7`.

        Raises
        ------
        UsageError
            If there is no such pair.

        """
        match = next((pair for pair in self.pairs if pair.id == pair_id), None)
        if match is None:
            raise UsageError(f"{self.name} has no scene {pair_id!r}", "pair_id")
        return match


@plain_arguments()
def open_dataset(  # noqa: PLR0913 - each keyword is an option of the command line
    path: str | os.PathLike[str],
    *,
    legend: GivenLegend | None = None,
    bands: Sequence[int | str] | None = None,
    gsd_m: float | None = None,
    labels: str | os.PathLike[str] | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: LayerChoice = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Dataset:
    """Find scenes and their labels. Only the headers of the files are read.

    Parameters
    ----------
    path : path
        A data set in one of these layouts:

        - DeepGlobe 2018: `NNN_sat.jpg` and `NNN_mask.png`, optionally in train/, valid/ and test/;
        - images/ and labels/ with equal names, or `NAME_image.tif` and `NAME_label.tif`, optionally in such folders;
        - a CSV with the columns scene, labels and, optionally, split;
        - a scene, or a folder of scenes, with `labels`;
        - a folder of images for each class, or a CSV with the columns scene and class;
        - a mixture of data sets: a JSON file, or a CSV with the columns path and share.
    legend : path, dict of names by code, Legend or Nomenclature, optional
        The classes, or a file that lists them. By default the legend in the labels; DeepGlobe's for its layout.
    bands : sequence of int or str, optional
        Bands to use, by number from 1 or by name. By default all; for DeepGlobe red, green and blue.
    gsd_m : float, optional
        Pixel size in meters, 0.001 to 100000; overrides the size that the scenes state.
    labels : path or GeoDataFrame, optional
        A raster of codes, a picture in the legend's colors, polygons in GeoParquet or any format that GDAL reads, or a
        folder of such files.
    column : str, optional
        The column of the polygons that holds the class; required if they have several.
    layer : str, int or sequence of str, optional
        The layer or layers of polygons to read, or "all"; required if several layers hold polygons.
    tolerance : float, default 0.001
        Share of a raster's pixels, 0 to 1, whose color or code may belong to no class; they are ignored.

    Returns
    -------
    Dataset
        Scenes that share a legend, bands and a data type.

    Raises
    ------
    SceneError
        If a file is missing, cannot be read, or does not fit the others.
    UsageError
        If an argument is invalid.

    Examples
    --------
    >>> dataset = geoseg.open_dataset("land-train/")
    >>> dataset = geoseg.open_dataset("scene.tif", labels="parcels.gpkg", column="crop")

    """
    if not 0 <= tolerance <= 1:
        raise UsageError(f"`tolerance` must be a share from 0 to 1, got {tolerance}", "tolerance")
    if gsd_m is not None and not 0.001 <= gsd_m <= 100_000:  # the range that a model may have
        raise UsageError(f"`gsd_m` must be 0.001 to 100000 meters, got {gsd_m}", "gsd_m")
    root = os.fspath(as_path("path", path))
    if labels is None and is_mixture_file(root):
        if gsd_m is not None or column is not None:
            raise UsageError(
                f"{shown(root)} is a mixture: write data_gsd_m and column beside the data set that needs them",
                "column" if gsd_m is None else "gsd_m",
            )
        return _dataset_of_pairs(root, find_mixture(root, legend, bands))
    label_source = os.fspath(labels) if isinstance(labels, os.PathLike) else labels
    options = SearchOptions.of(
        legend, bands, gsd_m=gsd_m, labels=label_source, column=column, tolerance=tolerance, layer=layer
    )
    return _dataset_of_pairs(root, find_scenes(root, options))


def dataset_of(data: str | os.PathLike[str] | Dataset, **options: Any) -> Dataset:  # noqa: ANN401 - see `open_dataset`
    """Return an open data set unchanged, or open the one at a path with `open_dataset`.

    Raises UsageError if options are given for an open data set, and the errors of `open_dataset`.
    """
    if not isinstance(data, Dataset):
        return open_dataset(data, **options)
    used = {name for name, value in options.items() if value is not None} - {"tolerance"}
    if options.get("tolerance", DEFAULT_TOLERANCE) != DEFAULT_TOLERANCE:
        used.add("tolerance")
    if used:
        name = min(used)
        raise UsageError(
            f"`{name}` has no effect on {data.name}, which is already open; give it to geoseg.open_dataset", name
        )
    return data


def _dataset_of_pairs(root: str, found_pairs: FoundPairs) -> Dataset:
    """Make a data set of pairs, of which there is at least one. SceneError if their bands or data types differ."""
    pairs = tuple(sorted(found_pairs.pairs, key=lambda pair: pair.id))
    first = pairs[0].scene
    for pair in pairs:
        _check_compatible(pair.scene, first)
    note = _band_count_note([pair.scene for pair in pairs], first.band_names)
    pairs = tuple(replace(pair, scene=pair.scene.with_bands_of(first)) for pair in pairs)
    sizes = [pair.gsd_m for pair in pairs]
    known_sizes = sorted(size for size in sizes if size is not None)
    gsd_m = known_sizes[len(known_sizes) // 2] if len(known_sizes) == len(sizes) else None
    return Dataset(
        Path(root).absolute().name or shown(root),
        root,
        found_pairs.legend,
        pairs,
        first.band_names,
        first.dtype,
        gsd_m,
        found_pairs.kind,
        (*found_pairs.notes, note) if note else found_pairs.notes,
        found_pairs.sets,
        found_pairs.members,
    )


def _band_count_note(scenes: Sequence[Scene], used: Sequence[str]) -> str | None:
    """Return a note if some files have more bands than others, such as alpha, and the caller did not choose."""
    counts = Counter(scene.count for scene in scenes if not scene.chosen)
    if len(counts) < 2:
        return None
    files = " or ".join(f"{numbered(count, 'band')} ({counts[count]})" for count in sorted(counts))
    return f"scenes have {files}; {', '.join(used)} are used of each; choose others with `bands`"


def _check_compatible(scene: Scene, first: Scene) -> None:
    """Raise SceneError if two scenes differ in the number of bands or in data type."""
    if len(scene.band_indexes) != len(first.band_indexes):
        raise SceneError(
            f"{shown(scene.path)} has {numbered(len(scene.band_indexes), 'band')}, {shown(first.path)} has "
            f"{len(first.band_indexes)}; choose the same bands of all scenes with `bands`",
            "bands",
        )
    if scene.dtype != first.dtype:
        raise SceneError(
            f"{shown(scene.path)} holds {scene.dtype}, {shown(first.path)} {first.dtype}; "
            "convert them to one type with rio convert --dtype"
        )


@lru_cache(maxsize=4)
def _digest(dataset: Dataset, _stamps: str) -> str:
    """Return the digest, cached as long as the files do not change."""
    content = [dataset.legend.to_json(), dataset.gsd_m, each(Pair.content, dataset.pairs)]
    return digest([*content, repr(dataset.sets), repr(dataset.members)] if dataset.members else content)
