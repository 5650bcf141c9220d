"""The verb: a map, and what is true."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from geoseg.atomic import make_folders
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.evaluation.areas import Areas
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.count import Pair, count
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.ground import Ground
from geoseg.evaluation.matching import Classes, Matching
from geoseg.evaluation.model_knobs import ModelKnobs, is_model
from geoseg.evaluation.placing import Shifted, Warped, place
from geoseg.evaluation.report import check_folder, write_report
from geoseg.evaluation.sample import Sample
from geoseg.evaluation.tabulate import confusion
from geoseg.evaluation.tabulate import left_out as uncounted
from geoseg.evaluation.tally import Tally
from geoseg.given import is_frame, looks_raster, plain_arguments
from geoseg.legend import Legend, Nomenclature, choose_classes, given_names
from geoseg.progress import Progress
from geoseg.raster import (
    ClassRaster,
    Scene,
    open_confidence,
    public_name,
    read_nomenclature,
    shown,
    stretch_note,
    used_colors,
)

if TYPE_CHECKING:
    import geopandas

    from geoseg.dataset import Dataset, Wanted
    from geoseg.evaluation.burned import Burned
    from geoseg.model import ModelBundle

StrPath = str | os.PathLike[str]
Names = StrPath | Legend | Nomenclature
Says = Callable[[str], None]

_CLUSTERED = (
    "the reference's pixels are neighbours, no random sample: the intervals are narrower than the truth; "
    "a stratified random sample of points (`sample`) has honest ones"
)
_ALIKE = (
    "points count alike in the matrix and its figures, whatever share of the map each class covers; "
    "accuracies by area, with their errors,"
)


def _is_data_set(path: StrPath) -> bool:
    """Tell whether a path that came alone is a data set, and not a map: a folder without a model in it."""
    return Path(path).is_dir() and not (Path(path) / "config.json").exists()


@plain_arguments(ModelKnobs)
def evaluate(  # noqa: PLR0913 - the knobs of the verb
    landcover: StrPath | ModelBundle,
    reference: StrPath | Dataset | geopandas.GeoDataFrame | None = None,
    report: StrPath | None = None,
    *,
    areas: bool = False,
    sample: StrPath | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: Wanted = None,
    classes: str | Sequence[str | int] | None = None,
    ignore: str | Sequence[str | int] | None = None,
    legend: Names | None = None,
    reference_legend: Names | None = None,
    confidence: StrPath | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Says | None = None,
    **knobs: Unpack[ModelKnobs],
) -> Evaluation:
    """Compare a map with a reference raster or polygons, or with a sample of points, and return all figures.

    Where the first is a model (a bundle or its path) and the second a data set (or its path), the scenes of a `split`
    are mapped as `predict` maps them and compared with their labels; then `report`, `ignore`, `legend`, `column` and
    `layer` (those of the labels) and the ModelKnobs count. All else is of maps. A folder alone is a data set for the
    default model: the one that the environment variable GEOSEG_MODEL names, else the demo model.

    `reference`: a raster of classes on any grid; on another than the map's it is warped by nearest neighbour as it is
    read. Classes are matched by name where both have names, else by code; `legend` names those of the map (and of a
    reference that has no names), `reference_legend` those of the reference. Nodata and the classes to `ignore`, by
    name or code, of either never count. `classes`: only these have figures, all others are one. `confidence`: a raster
    on the map's grid, for the calibration error.

    A reference may be polygons too: a GeoDataFrame, or anything that GDAL or pyarrow reads, whose `column` holds the
    class by name or code. A pixel has the class of the polygon that holds its middle, of several that of the last, and
    a note says how many pixels have several; pixels of no polygon do not count. `layer` names the layer, or layers,
    where several hold polygons, or points of the `sample`.

    `areas`: each class's area with its 95 % confidence interval, corrected for the map's errors (Olofsson et al.
    2014), from the reference or, if given, from `sample`: points (a file, or a GeoDataFrame) with a `column` of
    classes, drawn at random from each class of the map. Without a reference the sample is all that counts.

    `report`: a folder to be made, with metrics.json, classes.csv, confusion.csv, report.md and confusion.png; one
    that holds anything is refused without `overwrite`. Both rasters are read once, tile by tile, on `threads`.
    `progress` is called after each tile, `announce` with lines for the user.

    Raises UsageError for options that cannot be right and legends that do not match, SceneError for files that cannot
    be read or compared, OutputError when the report cannot be written.
    """
    say = announce or (lambda _line: None)
    if mkdir:
        make_folders(report)
    if unknown := set(knobs) - set(ModelKnobs.__annotations__):
        raise TypeError(f"evaluate() got an unexpected keyword argument {min(unknown)!r}")
    if reference is None and sample is None and isinstance(landcover, str | os.PathLike) and _is_data_set(landcover):
        from geoseg.model import ModelBundle  # noqa: PLC0415 - a map's evaluation needs no model

        landcover, reference = ModelBundle.open(), landcover
    if not isinstance(landcover, str | os.PathLike) or is_model(landcover):
        of_maps = {"areas": areas or None, "sample": sample, "classes": classes, "confidence": confidence}
        _refuse(of_maps | {"reference_legend": reference_legend, "threads": threads}, "maps", "the first is a model")
        shared = {"report": report, "ignore": ignore, "legend": legend, "column": column, "layer": layer}
        shared["overwrite"] = overwrite
        return _examine(landcover, reference, {**shared, "progress": progress, "announce": announce, **knobs})
    _refuse(knobs, "models", f"{landcover} is no .safetensors bundle")
    if not (reference is None or isinstance(reference, str | os.PathLike) or is_frame(reference)):
        raise UsageError(
            f"a map is evaluated against a raster or polygons, got a {type(reference).__name__}; give the file of the "
            "truth (of a data set its label raster)"
        )
    truth = _Truth(reference, column, layer, polygons=_are_polygons(reference))
    _check(truth, sample, confidence, areas=areas)
    target = None if report is None else check_folder(report, overwrite=overwrite)
    points = None if sample is None else Sample.read(sample, column, layer)
    run = _Run.of(landcover, truth, points, legend, reference_legend, ignore, confidence, say, areas=areas)
    tally, calibration = run.count(threads, progress)
    found = run.evaluation(tally, calibration, classes, say)
    if target is not None:
        write_report(found, target, overwrite=overwrite, announce=say)
    return found


@dataclass(frozen=True, slots=True)
class _Truth:
    """The reference as it was given."""

    given: Any
    """A path, a GeoDataFrame, or None."""
    column: str | None
    layer: Wanted
    polygons: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """What is compared, opened and checked."""

    pair: Pair
    reference: str
    points: Sample | None
    ground: Ground | None
    """None where no areas are wanted."""
    notes: tuple[str, ...]

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - the knobs of the verb
        cls,
        landcover: StrPath,
        truth: _Truth,
        points: Sample | None,
        legend: Names | None,
        reference_legend: Names | None,
        ignore: str | Sequence[str | int] | None,
        confidence: StrPath | None,
        say: Says,
        *,
        areas: bool,
    ) -> Self:
        mapped, ours, placed, theirs = _opened(landcover, truth, legend, reference_legend)
        matching = Matching.of(ours, theirs, ignore)
        sure = None if confidence is None else open_confidence(os.fspath(confidence), mapped.scene.geobox)
        ground = Ground.of(mapped.scene.geobox) if areas else None
        stretched = stretch_note(mapped.scene.geobox) if areas else None
        if stretched:
            warnings.warn(stretched, GeosegWarning, stacklevel=4)
        said = (*_read_notes(mapped, placed), *(points.notes if points else ()))
        notes = tuple(note for note in (*said, placed and placed.note, matching.note, stretched) if note)
        for note in notes:
            if note != stretched:
                say(note)
        pair = Pair(mapped, placed, matching, sure, ground.rows if ground else None)
        name = placed.name if placed else shown(points.path) if points else ""
        return cls(pair, name, points, ground, notes)

    def count(
        self, threads: int | None, progress: Callable[[Progress], None] | None
    ) -> tuple[Tally, Calibration | None]:
        """Count the rasters, where anything is wanted of them."""
        if self.pair.reference is None and self.ground is None:
            return Tally(), None
        return count(self.pair, threads=threads, progress=progress)

    def evaluation(
        self,
        tally: Tally,
        calibration: Calibration | None,
        classes: str | Sequence[str | int] | None,
        say: Says,
    ) -> Evaluation:
        """Return the figures of what was counted."""
        matching = self.pair.matching
        points = None if self.points is None else self.points.tally(self.pair.mapped, matching.reference_names)
        whole = Tally(Counter(tally.pixels), tally.areas)
        if points is not None:  # a class that only points have is one too
            whole.add(Tally(Counter(dict.fromkeys(points.pixels, 0))))
        places = matching.classes(whole)
        counted = points if self.pair.reference is None and points is not None else tally
        matrix, left_out = confusion(counted, matching, places), uncounted(counted, matching)
        if not matrix.total_px:
            raise SceneError(
                f"nothing to compare: {left_out.no_map} without a class in the map, {left_out.no_reference} without "
                f"one in the reference, {left_out.ignored} ignored; check that the two overlap"
            )
        chosen = None if classes is None else _chosen(matrix, classes)
        areas = None if self.ground is None else self._areas(self.ground, tally, points, places)
        notes = self.notes
        if tally.contested:
            notes = (*notes, _contested(tally, self.reference))
        if counted is points:
            where = "come with `areas=True`" if areas is None else "stand with the areas"
            notes = (*notes, f"{_ALIKE} {where}")
        elif self.points is not None:
            notes = (
                *notes,
                f"the areas are from the sample {public_name(self.points.path)}, all else from the reference",
            )
        if areas is not None and points is None and any(each.standard_error > 0 for each in areas.classes):
            notes = (*notes, _CLUSTERED)
        found = Evaluation.of(
            shown(self.pair.mapped.scene.path),
            self.reference,
            matrix if chosen is None else matrix.only(chosen),
            left_out=left_out,
            unit="points" if counted is points else "pixels",
            areas=areas if areas is None or chosen is None else areas.only(chosen),
            calibration=calibration,
            notes=notes,
        )
        for note in found.notes[len(self.notes) :]:
            say(note)
        return found

    def _areas(self, ground: Ground, tally: Tally, points: Tally | None, places: Classes) -> Areas:
        matching = self.pair.matching
        mapped = places.map_sums(ground.by_map_code(tally))
        if points is not None:
            return Areas.of(confusion(points, matching, places), mapped, unit=ground.unit)
        weights = np.zeros((len(places.codes),) * 2)
        for (theirs, ours), area in ground.by_pair(tally).items():
            if matching.counts(theirs, ours):
                weights[places.of_reference[theirs], places.of_map[ours]] += area
        population = places.map_sums({code: float(px) for code, px in tally.by_map_code().items()}).astype(np.int64)
        sample = confusion(tally, matching, places)
        return Areas.of(sample, mapped, unit=ground.unit, weights=weights, population=population)


def _examine(model: object, data: object, knobs: dict[str, Any]) -> Evaluation:
    """Evaluate a model; without data there is nothing to do it on."""
    if data is None:
        raise UsageError("a model is evaluated on a data set; give its folder after the model")
    # two rasters need neither Dask nor an engine, and a command lives a second
    from geoseg.evaluation.model_verb import evaluate_model  # noqa: PLC0415

    return evaluate_model(model, data, **knobs)  # type: ignore[arg-type] # checked where they are used


def _refuse(given: Mapping[str, object], whose: str, why: str) -> None:
    """Raise UsageError for options of the other kind of evaluation."""
    names = [f"`{name}`" for name, value in given.items() if value is not None]
    if names:
        verb = "is" if len(names) == 1 else "are"
        raise UsageError(f"{', '.join(names)} {verb} for {whose}, and {why}; leave it out")


def _check(truth: _Truth, sample: object, confidence: StrPath | None, *, areas: bool) -> None:
    reference = truth.given
    if reference is None and sample is None:
        raise UsageError(
            "a map is evaluated against a reference (a raster or polygons) or a sample of points, got neither"
        )
    if sample is not None and reference is not None and not areas:
        raise UsageError(
            "`sample` beside a reference raster is for areas; add `areas=True`, or leave one of the two out"
        )
    for name, value in (("column", truth.column), ("layer", truth.layer)):
        if value is not None and sample is None and not truth.polygons:
            raise UsageError(f"{name} is one of a sample, or of polygons; leave it out for a reference raster")
    if confidence is not None and reference is None:
        raise UsageError("`confidence` needs a reference raster to be judged by, a sample is too small; add one")


def _opened(
    landcover: StrPath, reference: _Truth, legend: Names | None, reference_legend: Names | None
) -> tuple[ClassRaster, Nomenclature, Shifted | Warped | Burned | None, Nomenclature]:
    """Return a map and its reference, each with its names. Colors of either are read by the legend of the other.

    Where neither has names, two palettes are matched by their colors.
    """
    given, given_theirs = given_names(legend), given_names(reference_legend)
    is_raster = reference.given is not None and not reference.polygons
    own = read_nomenclature(Scene.open(reference.given)) if is_raster else Nomenclature()
    mapped = ClassRaster.open(landcover, given or given_theirs or own)
    ours = mapped.names if given is None else given
    grid = mapped.scene.geobox
    if is_raster:
        truth = ClassRaster.open(reference.given, given_theirs or ours or used_colors(mapped.scene))
        return mapped, ours, place(truth, grid), truth.names if given_theirs is None else given_theirs
    if reference.given is None:
        return mapped, ours, None, own if given_theirs is None else given_theirs
    from geoseg.evaluation.burned import Burned  # noqa: PLC0415 - see `_are_polygons`

    burned = Burned.open(
        reference.given, reference.column, reference.layer, grid, mapped.scene.path, ours, given_theirs
    )
    return mapped, ours, burned, burned.names


def _read_notes(mapped: ClassRaster, placed: Shifted | Warped | Burned | None) -> Iterator[str | None]:
    """Yield how the codes of map and reference were read, where that is not plain."""
    yield mapped.note
    if isinstance(placed, Shifted | Warped):
        yield placed.raster.note


def _are_polygons(reference: object) -> bool:
    """Say whether a reference is polygons; of rasters without loading what reads those."""
    if reference is None or looks_raster(reference):
        return False
    from geoseg.dataset import is_features  # noqa: PLC0415 - half a second that two rasters do not need

    return is_features(reference)


def _contested(tally: Tally, name: str) -> str:
    share = tally.contested / sum(tally.pixels.values())
    return (
        f"{name}: {tally.contested} pixels ({share:.2%} of the map) lie in polygons of different classes; there the "
        "last polygon counts"
    )


def _chosen(matrix: ConfusionMatrix, classes: str | Sequence[str | int]) -> frozenset[int]:
    names = dict(matrix)
    return choose_classes(Nomenclature.from_names(names, {}).completed(names), classes)
