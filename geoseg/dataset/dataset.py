"""A folder of imagery with labels, as a value."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geoseg.dataset.deepglobe import find_deepglobe, is_deepglobe
from geoseg.dataset.found import Wishes, each
from geoseg.dataset.image_folders import find_whole_labels, has_whole_labels
from geoseg.dataset.layers import Wanted
from geoseg.dataset.legends import GivenLegend, given_legend
from geoseg.dataset.member import Member
from geoseg.dataset.mixture_file import is_mixture_file
from geoseg.dataset.pair import Pair
from geoseg.dataset.pairs import find_pairs
from geoseg.dataset.published import Published, published_split
from geoseg.errors import SceneError, UsageError
from geoseg.given import plain_arguments
from geoseg.legend import Legend
from geoseg.raster import DEFAULT_TOLERANCE, Scene, digest, shown, stamps

if TYPE_CHECKING:
    import geopandas


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
        from geoseg.dataset.cards import dataset_card  # noqa: PLC0415 - only a notebook needs it

        return dataset_card(self)

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
        raise UsageError(f"tolerance is a share from 0 to 1, got {tolerance}")
    if gsd_m is not None and not 0 < gsd_m < float("inf"):
        raise UsageError(f"GSD is in metres and more than 0, got {gsd_m}")
    root = os.fspath(path)
    if "://" not in root and not root.startswith("/vsi") and not Path(root).exists():
        raise SceneError(f"{shown(root)}: no such file or folder; check the path of the data set")
    if labels is None and is_mixture_file(root):
        return _mixture(root, legend, bands, gsd_m, column)
    wishes = Wishes(
        None if legend is None else given_legend(legend),
        None if bands is None else tuple(bands),
        gsd_m,
        os.fspath(labels) if isinstance(labels, os.PathLike) else labels,
        column,
        tolerance,
        layer,
    )
    if labels is None and is_deepglobe(root):
        found = find_deepglobe(root, wishes)
        return replace(joined(root, found.legend, found.pairs, found.notes), kind="deepglobe")
    whole = labels is None and has_whole_labels(root)
    found = find_whole_labels(root, wishes) if whole else find_pairs(root, wishes)
    return joined(root, found.legend, found.pairs, found.notes)


def _mixture(
    root: str,
    legend: GivenLegend | None,
    bands: Sequence[int | str] | None,
    gsd_m: float | None,
    column: str | None,
) -> Dataset:
    from geoseg.dataset.mixture import open_mixture  # noqa: PLC0415 - it opens its data sets by this very module

    if gsd_m is not None or column is not None:
        raise UsageError(f"{shown(root)} is a mixture: write data_gsd_m and column beside the data set that needs them")
    return open_mixture(root, legend=legend, bands=bands)


def joined(root: str, legend: Legend, found: Sequence[Pair], notes: Sequence[str]) -> Dataset:
    """Return a data set of pairs. SceneError where there are none, or their imagery is of different kinds."""
    pairs = tuple(sorted(found, key=lambda pair: pair.id))
    if not pairs:
        raise SceneError(f"{shown(root)} holds no pair of imagery and labels")
    first = pairs[0].scene
    for pair in pairs:
        check_alike(pair.scene, first)
    sizes = [pair.gsd_m for pair in pairs]
    known = sorted(size for size in sizes if size is not None)
    gsd_m = known[len(known) // 2] if len(known) == len(sizes) else None
    name = Path(root).absolute().name or shown(root)
    return Dataset(name, root, legend, pairs, _bands(first), first.dtype, gsd_m, "pairs", tuple(notes))


def check_alike(scene: Scene, first: Scene) -> None:
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
