"""The verb `evaluate`: a map against reference data; of a model see `evaluate_model`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from geoseg import features
from geoseg.atomic import make_folders
from geoseg.counts import NONE, PairCounts
from geoseg.errors import SceneError, UsageError, listed, numbered
from geoseg.evaluation.areas import Areas
from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.comparison import Comparison, confusion, count
from geoseg.evaluation.comparison import left_out as uncounted
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.matching import Classes, Matching
from geoseg.evaluation.reference import BurnedPolygons, points_error
from geoseg.evaluation.report import check_folder, write_report
from geoseg.evaluation.samples import PointSample, is_table_of_points
from geoseg.given import TABLES, is_frame, looks_raster, plain_arguments
from geoseg.inference import ScoringOptions
from geoseg.legend import (
    GivenLegend,
    GivenMapping,
    Nomenclature,
    choose_classes,
    given_meanings,
    given_names,
    names_said,
)
from geoseg.model import is_demo, is_hub_address
from geoseg.progress import Progress, announcer
from geoseg.raster import (
    ClassRaster,
    Ground,
    Scene,
    ShiftedRaster,
    WarpedRaster,
    align,
    open_confidence,
    public_name,
    read_nomenclature,
    shown,
    used_colors,
)

if TYPE_CHECKING:
    import geopandas

    from geoseg.dataset import Dataset
    from geoseg.features import LayerChoice
    from geoseg.features.area_of_interest import Aoi
    from geoseg.model import ModelBundle

StrPath = str | os.PathLike[str]
Says = Callable[[str], None]

_MODEL_FILES = frozenset({".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".pt2"})
"""Opening says what to do with those that cannot be opened as they are. A `.bin` may be a raster."""
_DATA_FILES = (*TABLES, ".json")
_CODES_SHOWN = 12
_CLUSTERED = (
    "the pixels of the reference are neighbors, not a random sample: the intervals are too narrow; "
    "a stratified random sample of points (`sample`) gives honest ones"
)
_ALIKE = (
    "each point counts once in the matrix and its figures, whatever share of the map its class covers; "
    "accuracies by area, with their standard errors,"
)


class ModelOptions(ScoringOptions, total=False):
    """Options of `evaluate` where the first argument is a model and the second a data set."""

    split: str
    """train, valid, test (the default) or all."""
    split_rule: str
    """How the parts are made: published, random:0.8, blocks:0.2, folders, or a file of ids. Default: as trained."""
    bands: Sequence[int | str]
    """Of the scenes, from 1 or by name, in the model's order."""
    gsd_m: float
    """Of scenes that do not say."""
    labels: str | os.PathLike[str] | geopandas.GeoDataFrame
    """Of scenes whose labels lie elsewhere."""
    tolerance: float
    """Share of a label image's pixels whose color may be that of no class."""
    cache: str | os.PathLike[str]
    """Folder for decoded scenes."""


@plain_arguments(ModelOptions)
def evaluate(  # noqa: PLR0913 - the options of the verb
    landcover: StrPath | ModelBundle,
    reference: StrPath | Dataset | geopandas.GeoDataFrame | None = None,
    report: StrPath | None = None,
    *,
    areas: bool = False,
    sample: StrPath | geopandas.GeoDataFrame | None = None,
    column: str | None = None,
    layer: LayerChoice = None,
    classes: str | Sequence[str | int] | None = None,
    ignore: str | Sequence[str | int] | None = None,
    legend: GivenLegend | None = None,
    reference_legend: GivenLegend | None = None,
    mapping: GivenMapping | None = None,
    confidence: StrPath | None = None,
    aoi: Aoi | None = None,
    aoi_crs: str | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Says | None = None,
    **options: Unpack[ModelOptions],
) -> Evaluation:
    """Compare a map with reference data, or a model with a data set.

    Parameters
    ----------
    landcover : path or ModelBundle
        A map: any raster of classes. Or a model: a .safetensors bundle, whose scenes of a `split` are mapped as
        `predict` maps them. A data set's folder alone is one for the default model, the one that the environment
        variable GEOSEG_MODEL names, else the demo model.
    reference : path, GeoDataFrame or Dataset, optional
        Of a map: a raster of classes on any grid, warped by nearest neighbor where that is not the map's; or polygons
        (anything that GDAL or pyarrow reads) whose `column` holds the class by name or code. A pixel has the class of
        the polygon that holds its center, of several that of the last; pixels of no polygon do not count. Of a model:
        a data set or its folder.
    report : path, optional
        A folder to write: metrics.json, classes.csv, confusion.csv, report.md and pictures.
    areas : bool
        Estimate each class's area with its 95 % confidence interval, corrected for the map's errors.
    sample : path or GeoDataFrame, optional
        Points with the true class, drawn at random from each class of the map: anything with points that GDAL reads,
        or a CSV with x and y (the map's CRS) or lon and lat. Without a `reference` the sample is all that counts.
    column, layer : str, optional
        The column that holds the class, and the layer or layers, of polygons or points.
    classes : str or sequence, optional
        Only these classes, by name or code, have figures; all others are one.
    ignore : str or sequence, optional
        Classes of map or reference that never count, by name or code. Nodata never counts.
    legend, reference_legend : path, dict of names by code, Legend or Nomenclature, optional
        Names of the map's codes (and of a reference's that has none), and of the reference's. Classes are matched by
        name where both have names, else by code.
    mapping : dict or path of a JSON file, optional
        What each class of the reference or of the data set, by name or code, is of the map's or the model's: a name, a
        list of names that leave a choice, `{"not": [...]}`, or None. As `classes` of a mixture; a class of the same
        name may be left out. Pixels of several classes, or of none, do not count.
    confidence : path, optional
        A raster on the map's grid, as `predict` writes it: for the calibration error.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only pixels (and points of a sample) in them count, and areas are those inside; `aoi_crs` is the CRS
        of one that names none.
    mkdir, overwrite : bool
        Make the folders above the report; replace an older report.
    threads : int, optional
        How many tiles of two rasters are compared at once.
    progress, announce : callable, optional
        Called with a `Progress` after each tile, and with lines for people.
    **options
        Of a model alone: see ModelOptions. With a model `report`, `ignore`, `legend`, `column`, `layer` (those of the
        labels), `mapping` and `overwrite` apply too, all others are for maps.

    Returns
    -------
    Evaluation
        The confusion matrix and all figures.

    Raises
    ------
    UsageError
        Options that cannot be right; legends that share no class.
    SceneError
        Files that cannot be read or compared.
    OutputError
        The report cannot be written.

    Notes
    -----
    Rasters are read once, tile by tile. Areas follow Olofsson et al. 2014 (10.1016/j.rse.2014.02.015) and are those
    on the ground, in every CRS.

    Examples
    --------
    >>> geoseg.evaluate("landcover.tif", "reference.tif").metrics.miou  # doctest: +SKIP
    >>> geoseg.evaluate("model.safetensors", "deepglobe/", split="test", report="report/")  # doctest: +SKIP

    """
    say = announcer(announce)
    landcover, reference = _completed(landcover, reference, sample)
    if not isinstance(landcover, str | os.PathLike) or _is_model(landcover):
        of_maps = {"areas": areas or None, "sample": sample, "classes": classes, "confidence": confidence}
        of_maps |= {"aoi": aoi, "aoi_crs": aoi_crs, "reference_legend": reference_legend, "threads": threads}
        _refuse(of_maps, "maps", "the first is a model")
        shared: dict[str, Any] = {
            "report": report, "ignore": ignore, "legend": legend, "column": column, "layer": layer,
            "mapping": mapping, "overwrite": overwrite, "progress": progress, "announce": announce,
        }  # fmt: skip
        return _of_model(landcover, reference, {**shared, **options}, mkdir=mkdir)
    _refuse(options, "models", f"{landcover} is none")
    truth = _Truth.of(reference, column, layer)
    _check(truth, sample, confidence, areas=areas)
    if mkdir:
        make_folders(report)
    target = None if report is None else check_folder(report, overwrite=overwrite)
    points = None if sample is None else PointSample.read(sample, column, layer)
    names = _LegendsGiven.of(legend, reference_legend, mapping)
    part = landcover if aoi is None and aoi_crs is None else features.within(landcover, aoi, aoi_crs)
    evaluation = _MapEvaluation.prepare(part, truth, points, names, ignore, confidence, areas=areas)
    found = evaluation.run(classes, threads, progress, say)
    if target is not None:
        write_report(found, target, overwrite=overwrite, announce=say)
    return found


def _completed(landcover: StrPath | ModelBundle, reference: Any, sample: object) -> tuple[StrPath | ModelBundle, Any]:  # noqa: ANN401 - as `evaluate` takes it
    """Return what is evaluated and against what: the default model, where a data set came alone."""
    if reference is None and sample is None and isinstance(landcover, str | os.PathLike) and _is_data_set(landcover):
        from geoseg.model import ModelBundle  # noqa: PLC0415 - a map's evaluation needs no model

        return ModelBundle.open(), landcover
    return landcover, reference


@dataclass(frozen=True, slots=True)
class _Truth:
    """The reference as it was given."""

    given: Any
    """A path, a GeoDataFrame, or None."""
    column: str | None
    layer: LayerChoice
    polygons: bool

    @classmethod
    def of(cls, reference: Any, column: str | None, layer: LayerChoice) -> Self:  # noqa: ANN401 - whatever was given
        """Tell polygons from rasters. UsageError for what is neither, as the points of a sample."""
        if not (reference is None or isinstance(reference, str | os.PathLike) or is_frame(reference)):
            raise UsageError(
                f"a map is evaluated against a raster or polygons, got a {type(reference).__name__}; give the file of "
                "the reference (of a data set its label raster)",
                "reference",
            )
        if is_table_of_points(reference):
            raise points_error(shown(os.fspath(reference)))
        return cls(reference, column, layer, polygons=_are_polygons(reference))


@dataclass(frozen=True, slots=True)
class _LegendsGiven:
    """The legends that were given, of the map and of the reference."""

    map: Nomenclature | None
    reference: Nomenclature | None
    mapping: Mapping[str, Any] | None
    """What the reference's classes are of the map's; None to match them by name or code."""

    @classmethod
    def of(cls, legend: GivenLegend | None, reference_legend: GivenLegend | None, mapping: GivenMapping | None) -> Self:
        """Read them. Raises UsageError."""
        ours, said = given_names(legend), None if mapping is None else given_meanings(mapping)
        try:
            return cls(ours, given_names(reference_legend), said)
        except UsageError as error:
            raise error.renamed(legend="reference_legend") from None

    @property
    def of_features(self) -> Nomenclature | None:
        """Names of a reference that has values, not codes."""
        return names_said(self.mapping) if self.reference is None and self.mapping is not None else self.reference

    def match(self, ours: Nomenclature, theirs: Nomenclature, ignore: str | Sequence[str | int] | None) -> Matching:
        """Match the classes of map and reference. Raises UsageError."""
        if self.mapping is None:
            return Matching.of(ours, theirs, ignore)
        return Matching.by_mapping(ours, theirs, self.mapping, ignore)


@dataclass(frozen=True, slots=True)
class _MapEvaluation:
    """What is compared, opened and checked."""

    comparison: Comparison
    """Of map and reference, pixel by pixel; without a reference, the map alone."""
    reference: str
    """Name of the raster or the polygons, else of the sample."""
    points: PointSample | None
    notes: tuple[str, ...]
    """What people are told before anything is counted."""

    @classmethod
    def prepare(  # noqa: PLR0913, PLR0917 - the options of the verb
        cls,
        landcover: StrPath | Scene,
        truth: _Truth,
        points: PointSample | None,
        legends: _LegendsGiven,
        ignore: str | Sequence[str | int] | None,
        confidence: StrPath | None,
        *,
        areas: bool,
    ) -> Self:
        """Open map and reference, match their classes and lay one on the other."""
        mapped, ours, aligned, theirs = _opened(landcover, truth, legends)
        matching = legends.match(ours, theirs, ignore)
        grid = mapped.scene.geobox
        sure = None if confidence is None else open_confidence(os.fspath(confidence), grid)
        comparison = Comparison(mapped, aligned, matching, sure, Ground.of(grid) if areas else None)
        notes = (
            *_read_notes(mapped, aligned),
            *(points.notes if points else ()),
            aligned and aligned.note,
            matching.note,
            _unnamed_note(ours, theirs) if aligned and legends.mapping is None else None,
        )
        name = aligned.name if aligned else shown(points.path) if points else ""
        return cls(comparison, name, points, tuple(note for note in notes if note))

    def run(
        self,
        classes: str | Sequence[str | int] | None,
        threads: int | None,
        progress: Callable[[Progress], None] | None,
        say: Says,
    ) -> Evaluation:
        """Count, and return the figures; say each note as soon as it is known."""
        for note in self.notes:
            say(note)
        found = self.finish(*self.count(threads, progress), classes)
        for note in found.notes[len(self.notes) :]:
            say(note)
        return found

    def count(
        self, threads: int | None, progress: Callable[[Progress], None] | None
    ) -> tuple[PairCounts, Calibration | None]:
        """Count the rasters, where a reference or areas ask for it."""
        if self.comparison.reference is None and self.comparison.ground is None:
            return PairCounts(), None
        return count(self.comparison, threads=threads, progress=progress)

    def finish(
        self, counts: PairCounts, calibration: Calibration | None, classes: str | Sequence[str | int] | None
    ) -> Evaluation:
        """Return the figures of what was counted. SceneError where nothing was."""
        comparison, matching = self.comparison, self.comparison.matching
        points = (
            None
            if self.points is None
            else self.points.count(comparison.mapped, matching.own_names or matching.reference_names)
        )
        found = PairCounts(Counter(counts.pixels))
        if points is not None:  # a class that only points have is one too
            found.add(PairCounts(Counter(dict.fromkeys(points.pixels, 0))))
        every = matching.classes(found)
        of_points = comparison.reference is None and points is not None
        counted = points if points is not None and of_points else counts
        matrix, left_out = confusion(counted, matching, every), uncounted(counted, matching)
        if not matrix.total_px:
            raise SceneError(
                f"nothing to compare: {left_out.no_map} without a class in the map, {left_out.no_reference} without "
                f"one in the reference, {left_out.ignored} ignored, {left_out.several} that may be of several classes; "
                "check that the two overlap"
            )
        chosen = None if classes is None else _chosen(dict(matrix), classes)
        areas = None if comparison.ground is None else self._areas(comparison.ground, counts, points, every)
        return Evaluation.of(
            shown(comparison.mapped.scene.path),
            self.reference,
            matrix if chosen is None else matrix.only(chosen),
            left_out=left_out,
            unit="points" if of_points else "pixels",
            areas=areas if areas is None or chosen is None else areas.only(chosen),
            calibration=calibration,
            notes=(*self.notes, *self._found_notes(counts, areas, of_points=of_points)),
        )

    def _found_notes(self, counts: PairCounts, areas: Areas | None, *, of_points: bool) -> Iterator[str]:
        if strange := self._strange_codes(counts):
            yield f"codes of the reference that no class has, and whose pixels are errors: {strange}"
        if counts.contested:
            share = counts.contested / sum(counts.pixels.values())
            yield (
                f"{self.reference}: {numbered(counts.contested, 'pixel')} ({share:.2%} of the map) in polygons of "
                "different classes; there the last polygon counts"
            )
        if of_points:
            yield f"{_ALIKE} {'come with `areas=True`' if areas is None else 'are with the areas'}"
        elif self.points is not None:
            yield f"the areas are from the sample {public_name(self.points.path)}, everything else from the reference"
        elif areas is not None and any(each.standard_error > 0 for each in areas.classes):
            yield _CLUSTERED

    def _strange_codes(self, counts: PairCounts) -> str:
        """Return the reference's codes without a name, where names are known and only its codes tell what they are."""
        matching = self.comparison.matching
        if matching.by_name or not len(matching.reference_names):
            return ""
        named = {known.code for known in matching.reference_names} | matching.ignored_in_reference | {NONE}
        codes = sorted({theirs for theirs, _ in counts.pixels} - named)
        return listed(map(str, codes), _CODES_SHOWN)

    def _areas(self, ground: Ground, counts: PairCounts, points: PairCounts | None, classes: Classes) -> Areas:
        matching, by_pair = self.comparison.matching, self.comparison.areas(counts)
        by_code: defaultdict[int, float] = defaultdict(float)
        for (_, code), area in by_pair.items():
            by_code[code] += area
        mapped = classes.map_sums(by_code)
        if points is not None:
            return Areas.of(confusion(points, matching, classes), mapped, unit=ground.unit)
        weights = np.zeros((len(classes.codes),) * 2)
        for (theirs, ours), area in by_pair.items():
            if matching.counts(theirs, ours):
                weights[classes.of_reference[theirs], classes.of_map[ours]] += area
        population = classes.map_sums(counts.by_map_code()).astype(np.int64)
        sample = confusion(counts, matching, classes)
        return Areas.of(sample, mapped, unit=ground.unit, weights=weights, population=population)


def _is_data_set(path: StrPath) -> bool:
    """Tell whether a path that came alone is a data set: a table, a mixture, or a folder without a model in it."""
    file = Path(path)
    return file.suffix.lower() in _DATA_FILES or (file.is_dir() and not (file / "config.json").exists())


def _is_model(path: StrPath) -> bool:
    """Say whether a path is a model's, not a map's: a file of one, save_pretrained's folder, `hf://...` or "demo"."""
    file = Path(path)
    return (
        file.suffix.lower() in _MODEL_FILES or (file / "config.json").is_file() or is_demo(path) or is_hub_address(path)
    )


def _of_model(model: object, data: object, options: dict[str, Any], *, mkdir: bool) -> Evaluation:
    """Evaluate a model; without a data set there is nothing to evaluate it on."""
    if data is None:
        raise UsageError("a model is evaluated on a data set; give its folder after the model", "reference")
    if mkdir:
        make_folders(options["report"])
    # two rasters need neither Dask nor an engine, and a command lives a second
    from geoseg.evaluation.evaluate_model import evaluate_model  # noqa: PLC0415

    return evaluate_model(model, data, **options)  # type: ignore[arg-type] # checked where they are used


def _refuse(given: Mapping[str, object], whose: str, why: str) -> None:
    """Raise UsageError for options of the other kind of evaluation."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        verb = "is" if len(names) == 1 else "are"
        listed = ", ".join(f"`{name}`" for name in names)
        raise UsageError(f"{listed} {verb} for {whose}, and {why}; leave it out", names[0])


def _check(truth: _Truth, sample: object, confidence: StrPath | None, *, areas: bool) -> None:
    reference = truth.given
    if reference is None and sample is None:
        raise UsageError(
            "a map is evaluated against a reference (a raster or polygons) or a sample of points, got neither",
            "reference",
        )
    if sample is not None and reference is not None and not areas:
        raise UsageError(
            "`sample` with a reference raster is for areas; add `areas=True`, or leave one of the two out", "sample"
        )
    for name, value in (("column", truth.column), ("layer", truth.layer)):
        if value is not None and sample is None and not truth.polygons:
            raise UsageError(f"`{name}` is for a sample or polygons; leave it out for a reference raster", name)
    if confidence is not None and reference is None:
        raise UsageError(
            "`confidence` needs a reference raster, a sample is too small to judge it; add one", "confidence"
        )


def _opened(
    landcover: StrPath | Scene, truth: _Truth, legends: _LegendsGiven
) -> tuple[ClassRaster, Nomenclature, ShiftedRaster | WarpedRaster | BurnedPolygons | None, Nomenclature]:
    """Return a map and its reference, each with its names. Colors of either are read by the legend of the other.

    Where neither has names, two palettes are matched by their colors.
    """
    is_raster = truth.given is not None and not truth.polygons
    own = read_nomenclature(Scene.open(truth.given)) if is_raster else Nomenclature()
    mapped = ClassRaster.open(landcover, legends.map or legends.reference or own)
    ours = mapped.names if legends.map is None else legends.map
    grid = mapped.scene.geobox
    if is_raster:
        raster = ClassRaster.open(truth.given, legends.reference or ours or used_colors(mapped.scene))
        return mapped, ours, align(raster, grid), raster.names if legends.reference is None else legends.reference
    if truth.given is None:
        return mapped, ours, None, legends.of_features or own
    burned = BurnedPolygons.open(
        truth.given, truth.column, truth.layer, grid, mapped.scene.path, ours, legends.of_features
    )
    return mapped, ours, burned, burned.names


def _unnamed_note(ours: Nomenclature, theirs: Nomenclature) -> str | None:
    """Return a line where codes alone say what is what, and only one of the two tells what they mean."""
    if len(ours) and not len(theirs):
        unnamed, named, way_out = "reference", "map", "`reference_legend` or `mapping`"
    elif len(theirs) and not len(ours):
        unnamed, named, way_out = "map", "reference", "`legend`"
    else:
        return None
    return f"the {unnamed} has no class names: its codes count as the {named}'s; if they are others, give {way_out}"


def _read_notes(
    mapped: ClassRaster, aligned: ShiftedRaster | WarpedRaster | BurnedPolygons | None
) -> Iterator[str | None]:
    """Yield how the codes of map and reference were read, where that is not plain."""
    yield mapped.note
    if isinstance(aligned, ShiftedRaster | WarpedRaster):
        yield aligned.raster.note


def _are_polygons(reference: object) -> bool:
    """Say whether a reference is polygons; of rasters without loading what reads those."""
    return reference is not None and not looks_raster(reference) and features.is_features(reference)


def _chosen(names: dict[int, str], classes: str | Sequence[str | int]) -> frozenset[int]:
    return choose_classes(Nomenclature.from_names(names, {}).completed(names), classes)
