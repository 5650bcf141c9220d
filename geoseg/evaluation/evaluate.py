"""The verb `evaluate`: a map against reference data; for models see `evaluate_model`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Unpack

from geoseg import features
from geoseg.errors import UsageError
from geoseg.evaluation.comparison import LegendsGiven, MapEvaluation, Truth
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.points import PointSample
from geoseg.evaluation.report import check_folder, write_report
from geoseg.given import TABLES, CrsLike, StrPath, is_geoseg_type, plain_arguments
from geoseg.inference import ScoringOptions
from geoseg.legend import GivenLegend, GivenMapping
from geoseg.model import is_demo, is_hub_address
from geoseg.progress import Progress, announcer
from geoseg.raster import Scene, as_scene, shown

if TYPE_CHECKING:
    import geopandas

    from geoseg.dataset import Dataset
    from geoseg.features import LayerChoice
    from geoseg.features.area_of_interest import Aoi
    from geoseg.model import ModelBundle
    from geoseg.raster.scene import SceneLike


_MODEL_FILES = frozenset({".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".pt2"})
"""For files that cannot be opened directly, the error on opening says what to do. A `.bin` may be a raster."""
_DATA_FILES = (*TABLES, ".json")


class ModelOptions(ScoringOptions, total=False):
    """Options of `evaluate` if the first argument is a model and the second a data set."""

    split: str
    """train, valid, test (the default) or all."""
    split_rule: str
    """How the parts are made, as in `split`: a rule, a file of ids, or a folder of lists. Default: as in training."""
    bands: Sequence[int | str]
    """Bands of the scenes, by number from 1 or by name, in the model's order."""
    gsd_m: float
    """Pixel size of scenes that do not state it."""
    labels: str | os.PathLike[str] | geopandas.GeoDataFrame
    """Labels of scenes, if they are elsewhere."""
    tolerance: float
    """Share of a label image's pixels whose color may belong to no class."""
    cache: str | os.PathLike[str]
    """Folder for decoded scenes."""


@plain_arguments(ModelOptions)
def evaluate(  # noqa: PLR0913 - the options of the verb
    landcover: SceneLike | ModelBundle,
    reference: SceneLike | Dataset | geopandas.GeoDataFrame | None = None,
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
    confidence: SceneLike | None = None,
    aoi: Aoi | None = None,
    aoi_crs: CrsLike | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Unpack[ModelOptions],
) -> Evaluation:
    """Compare a map with reference data, or a model with a data set.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset, xarray.DataArray or ModelBundle
        A map: any raster of classes, or a part of one, from `geoseg.within` or `geoseg.crop`. Or a model: a
        .safetensors bundle, which maps the scenes of a `split` as `predict` does. If only a data set's folder is given,
        the default model is evaluated: the one that the environment variable GEOSEG_MODEL names, else the demo model.
    reference : path, Scene, rasterio dataset, xarray.DataArray, GeoDataFrame or Dataset, optional
        For a map: a raster of classes on any grid, warped by nearest neighbor if that is not the map's; or polygons
        (anything that GDAL or pyarrow reads) whose `column` holds the class by name or code. A pixel has the class of
        the last polygon that contains its center; pixels outside all polygons do not count. For a model: a data set or
        its folder.
    report : path, optional
        A folder to write: metrics.json, classes.csv, confusion.csv, report.md and pictures.
    areas : bool
        Estimate each class's area with its 95 % confidence interval, corrected for the map's errors.
    sample : path or GeoDataFrame, optional
        Points with the true class, drawn at random from each class of the map: anything with points that GDAL reads,
        or a CSV with x and y (the map's CRS) or lon and lat. Without a `reference`, only the sample counts.
    column, layer : str, optional
        For polygons or points: the column that holds the class, and the layer or layers.
    classes : str or sequence, optional
        Report figures only for these classes, by name or code; all others are merged into one.
    ignore : str or sequence, optional
        Classes of map or reference that never count, by name or code. Nodata never counts.
    legend, reference_legend : path, dict of names by code, Legend or Nomenclature, optional
        Names of the map's codes (also for a reference without names), and of the reference's codes. Classes are
        matched by name if both have names, else by code.
    mapping : dict or path of a JSON file, optional
        Maps each class of the reference or the data set, by name or code, to the map's or the model's: a name, a list
        of names that leave a choice, `{"not": [...]}`, or None, as `classes` of a mixture. A class with the same name
        in both may be left out. Pixels of several classes, or of none, do not count.
    confidence : path, Scene, rasterio dataset or xarray.DataArray, optional
        A raster on the map's grid, as `predict` writes it, to compute the calibration error.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only pixels (and points of a sample) inside count, and areas are of the inside; `aoi_crs` is the CRS
        if the polygons state none.
    mkdir, overwrite : bool
        Create the folders above the report; replace an older report.
    threads : int, optional
        Number of tiles of two rasters that are compared at once.
    progress, announce : callable, optional
        Called with a `Progress` after each tile, and with lines for people.
    **options
        For models only: see ModelOptions. With a model, `report`, `ignore`, `legend`, `column`, `layer` (those of the
        labels), `mapping` and `overwrite` apply too; all others are for maps.

    Returns
    -------
    Evaluation
        The confusion matrix and all figures.

    Raises
    ------
    UsageError
        If options are invalid, or the legends share no class.
    SceneError
        If files cannot be read or compared.
    OutputError
        If the report cannot be written.

    Notes
    -----
    Rasters are read once, tile by tile. Areas follow Olofsson et al. 2014 (10.1016/j.rse.2014.02.015) and are measured
    on the ground, in any CRS.

    Examples
    --------
    >>> geoseg.evaluate("landcover.tif", "reference.tif").metrics.miou  # doctest: +SKIP
    >>> geoseg.evaluate("model.safetensors", "deepglobe/", split="test", report="report/")  # doctest: +SKIP

    """
    announce = announcer(announce)
    landcover, reference = _with_default_model(landcover, reference, sample)
    if _is_model(landcover):
        map_options = {"areas": areas or None, "sample": sample, "classes": classes, "confidence": confidence}
        map_options |= {"aoi": aoi, "aoi_crs": aoi_crs, "reference_legend": reference_legend, "threads": threads}
        _refuse(map_options, "maps", "the first argument is a model")
        shared_options: dict[str, Any] = {
            "report": report, "ignore": ignore, "legend": legend, "column": column, "layer": layer,
            "mapping": mapping, "mkdir": mkdir, "overwrite": overwrite, "progress": progress, "announce": announce,
        }  # fmt: skip
        return _model_evaluation(landcover, reference, {**shared_options, **options})
    landcover = as_scene(landcover, "landcover")
    confidence = None if confidence is None else as_scene(confidence, "confidence")
    _refuse(
        options, "models", f"{shown(os.fspath(landcover.path if isinstance(landcover, Scene) else landcover))} is a map"
    )
    truth = Truth.of(reference, column, layer)
    _check(truth, sample, confidence, areas=areas)
    target = None if report is None else check_folder(report, mkdir=mkdir, overwrite=overwrite)
    points = None if sample is None else PointSample.read(sample, column, layer)
    legends = LegendsGiven.of(legend, reference_legend, mapping)
    part = landcover if aoi is None and aoi_crs is None else features.within(landcover, aoi, aoi_crs)
    inputs = MapEvaluation.prepare(part, truth, points, legends, ignore, confidence, areas=areas)
    evaluation = inputs.run(classes, threads, progress, announce)
    if target is not None:
        write_report(evaluation, target, mkdir=mkdir, overwrite=overwrite, announce=announce)
    return evaluation


def _with_default_model(
    landcover: SceneLike | ModelBundle,
    reference: Any,  # noqa: ANN401 - as `evaluate` takes it
    sample: object,
) -> tuple[SceneLike | ModelBundle, Any]:
    """Return both arguments; if only a data set was given, it becomes the reference of the default model."""
    if reference is None and sample is None and isinstance(landcover, str | os.PathLike) and _is_data_set(landcover):
        from geoseg.model import ModelBundle  # noqa: PLC0415 - evaluating a map needs no model

        return ModelBundle.open(), landcover
    return landcover, reference


def _is_data_set(path: StrPath) -> bool:
    """Return whether a path given alone is a data set: a table, a mixture, or a folder without a model in it."""
    file = Path(path)
    return file.suffix.lower() in _DATA_FILES or (file.is_dir() and not (file / "config.json").exists())


def _is_model(given: SceneLike | ModelBundle) -> TypeGuard[StrPath | ModelBundle]:
    """Return whether a model was given: a bundle, its file, a folder of save_pretrained, `hf://...` or "demo"."""
    if not isinstance(given, str | os.PathLike):
        return is_geoseg_type(given, "ModelBundle")
    file = Path(given)
    return (
        file.suffix.lower() in _MODEL_FILES
        or (file / "config.json").is_file()
        or is_demo(given)
        or is_hub_address(given)
    )


def _model_evaluation(model: object, data: object, options: dict[str, Any]) -> Evaluation:
    """Evaluate a model. UsageError if there is no data set to evaluate it on."""
    if data is None:
        raise UsageError("a model is evaluated on a data set; give its folder after the model", "reference")
    if not (isinstance(data, str | os.PathLike) or is_geoseg_type(data, "Dataset")):
        raise UsageError(
            f"a model is evaluated on a data set, got a {type(data).__name__}; give its folder, or the file of a scene "
            "with `labels`",
            "reference",
        )
    # comparing two rasters needs neither Dask nor an engine, and may be done in a second
    from geoseg.evaluation.evaluate_model import evaluate_model  # noqa: PLC0415

    return evaluate_model(model, data, **options)  # type: ignore[arg-type] # checked where they are used


def _refuse(options: Mapping[str, object], owner: str, reason: str) -> None:
    """Raise UsageError for options that belong to the other kind of evaluation."""
    names = [name for name, value in options.items() if value is not None]
    if names:
        verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
        text = ", ".join(f"`{name}`" for name in names)
        raise UsageError(f"{text} {verb} for {owner}, but {reason}; leave {them} out", names[0])


def _check(truth: Truth, sample: object, confidence: object, *, areas: bool) -> None:
    reference = truth.given
    if reference is None and sample is None:
        raise UsageError(
            "a map is evaluated against a reference (a raster or polygons) or a sample of points, got neither",
            "reference",
        )
    if sample is not None and reference is not None and not areas:
        raise UsageError(
            "`sample` with a reference is only used for areas; add `areas=True`, or leave one of the two out", "sample"
        )
    for name, value in (("column", truth.column), ("layer", truth.layer)):
        if value is not None and sample is None and not truth.polygons:
            raise UsageError(f"`{name}` is for a sample or polygons; leave it out for a reference raster", name)
    if confidence is not None and reference is None:
        raise UsageError(
            "`confidence` needs a reference: a sample is too small to judge it; add a reference", "confidence"
        )
