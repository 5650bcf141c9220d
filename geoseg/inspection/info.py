"""The verb `info`: facts about a scene, a map or a model."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoseg import features
from geoseg.errors import ModelError, UsageError, numbered
from geoseg.given import CrsLike, plain_arguments
from geoseg.legend import Nomenclature
from geoseg.model import (
    ONNX,
    AmbiguousOutputError,
    GivenOnnx,
    KnownOnnx,
    ModelBundle,
    OnnxGraph,
    is_demo,
    is_hub_address,
    is_onnx,
    output_classes,
    read_config,
    read_header,
    read_onnx_file,
)
from geoseg.raster import (
    BandStatistics,
    GeoBox,
    Scene,
    as_scene,
    class_shares,
    is_classes,
    opened,
    read_nomenclature,
    shown,
)
from geoseg.raster.landcover import LEGEND_TAG

if TYPE_CHECKING:
    from geoseg.features.area_of_interest import Aoi
    from geoseg.raster.scene import SceneLike

_MODEL_SUFFIXES = {
    ".safetensors", ".onnx", ".pt", ".pth", ".pt2", ".ckpt", ".pkl", ".h5", ".keras", ".tflite", ".pb", ".dlpk",
}  # fmt: skip
_HDF5, _NETCDF, _KERAS_BYTES = b"\x89HDF\r\n\x1a\n", b"CDF", 1 << 20
"""How HDF5 and classic netCDF files begin, and how far in a model's names are searched."""
_KERAS_NAMES = (b"keras_version", b"layer_names", b"_layer_checkpoint_dependencies")
"""In models of Keras; the last in the weights of Keras 3."""
_SAMPLE_PX = 1024
"""Long side of the decimated read from which class shares are computed."""
_TAG_PREFIX = "GEOSEG_"
_STRETCHED = 1.02
"""Above this ratio, both sides of a pixel are shown."""
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
"""Shortened to 16 characters for people."""


@plain_arguments()
def info(path: SceneLike | None = None, *, aoi: Aoi | None = None, aoi_crs: CrsLike | None = None) -> Facts:
    """Show what is known about a scene, a map or a model.

    Parameters
    ----------
    path : path, Scene, rasterio dataset or xarray.DataArray, optional
        Any raster that GDAL reads, a .safetensors bundle, an .onnx file, a folder written by smp's `save_pretrained`, a
        model on the Hugging Face hub (`hf://owner/name`), or "demo", the model that comes with geoseg. Default: the
        model that the environment variable GEOSEG_MODEL names, else the demo model.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: statistics and class shares cover only a raster's pixels in them; `aoi_crs` is its CRS if it names
        none.

    Returns
    -------
    Facts
        It prints as a table; `to_json()` gives plain values whose keys do not change between versions. Band
        statistics and class shares come from a sample of the pixels.

    Raises
    ------
    SceneError, ModelError
        The file cannot be read.

    Examples
    --------
    >>> geoseg.info("landcover.tif").to_json()["classes"]  # doctest: +SKIP

    """
    if path is not None:
        path = as_scene(path, "path")
    if aoi is not None or aoi_crs is not None:
        if path is None or (not isinstance(path, Scene) and _is_model(os.fspath(path))):
            raise UsageError("`aoi` is an area of a raster; give the raster, or leave it out", "aoi")
        path = features.within(path, aoi, aoi_crs)
    if path is None:
        return _model_facts(ModelBundle.open())
    return _raster_facts(path) if isinstance(path, Scene) else _named_facts(os.fspath(path))


def _is_model(name: str) -> bool:
    file = Path(name)
    is_file = file.suffix.lower() in _MODEL_SUFFIXES and not _is_hdf_raster(file)
    is_file = is_file or (file / "config.json").is_file()
    return is_file or is_demo(name) or is_hub_address(name)


def _is_hdf_raster(file: Path) -> bool:
    """Return whether a file is HDF5 but not of Keras, as remote sensing products are."""
    if file.suffix.lower() != ".h5" or file.name.lower().endswith(".weights.h5"):
        return False
    try:
        with file.open("rb") as opened_file:
            start = opened_file.read(_KERAS_BYTES)
    except OSError:  # opening it as a model says why
        return False
    return start.startswith((_HDF5, _NETCDF)) and not any(word in start for word in _KERAS_NAMES)


def _named_facts(name: str) -> Facts:
    if not _is_model(name):
        return _raster_facts(Scene.open(name))
    if is_demo(name) or is_hub_address(name):
        return _model_facts(ModelBundle.open(name))
    if (Path(name) / "config.json").is_file():
        return _folder_facts(Path(name))
    is_foreign = is_onnx(Path(name)) and Path(name).is_file()
    return _onnx_facts(Path(name)) if is_foreign else _model_facts(ModelBundle.open(Path(name)))


def _raster_facts(scene: Scene) -> Facts:
    if is_classes(scene):
        return _map_facts(scene)
    tags, facts = _provenance(scene), _scene_facts(scene)
    if not tags:
        return facts
    return Facts("map", facts.path, facts.values | {"provenance": tags}, (*facts.lines, *_origin(tags)))


@dataclass(frozen=True, slots=True, repr=False)
class Facts:
    """What is known about a scene, a map or a model."""

    kind: Literal["scene", "map", "model"]
    path: str
    values: dict[str, object]
    """Plain values; the keys of each kind do not change between versions."""
    lines: tuple[tuple[str, str], ...]
    """The same as (label, text) for people."""

    def __repr__(self) -> str:
        return self.describe()

    def to_json(self) -> dict[str, object]:
        """Return plain values that strict JSON can hold: NaN and infinities become strings."""
        return {"kind": self.kind, "path": self.path} | {name: _finite(value) for name, value in self.values.items()}

    def describe(self) -> str:
        """Return a table for people."""
        width = max((len(label) for label, _ in self.lines), default=0)
        return "\n".join([f"{self.path}: {self.kind}", *(f"  {label:<{width}}  {text}" for label, text in self.lines)])


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _map_facts(scene: Scene) -> Facts:
    """Return the facts of a raster of class codes, shares from a decimated read. SceneError if it cannot be read."""
    shares = class_shares(scene, _SAMPLE_PX)
    named, tags = read_nomenclature(scene), _provenance(scene)
    classes = [
        {"code": each.code, "name": each.name, "color": list(each.color), "share": shares.get(each.code, 0.0)}
        for each in named.completed({*shares, *(each.code for each in named)})
    ]
    values = _grid_values(scene) | {"classes": classes, "provenance": tags}
    return Facts("map", shown(scene.path), values, (*_grid_lines(scene), *_class_lines(named, shares), *_origin(tags)))


def _provenance(scene: Scene) -> dict[str, str]:
    """Return the tags that geoseg wrote in a raster; empty for rasters from other programs."""
    with opened(scene.path) as dataset:
        return {name: text for name, text in dataset.tags().items() if name.startswith(_TAG_PREFIX)}


def _origin(tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the tags for people, without options left at their defaults (null), which the JSON has."""
    texts = {name: _in_words(text) for name, text in tags.items() if name != LEGEND_TAG}
    return tuple(
        (name.removeprefix(_TAG_PREFIX).replace("_", " ").lower(), text) for name, text in texts.items() if text
    )


def _in_words(text: str) -> str:
    """Return a tag's text on one line: a JSON list without brackets, null as an empty text."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if value is None:
        return ""
    words = ", ".join(map(str, value)) if isinstance(value, list) else text
    return " ".join(words.split())[:120]


def _class_lines(known: Nomenclature, shares: dict[int, float]) -> list[tuple[str, str]]:
    names = {each.code: each.name for each in known}
    named = [(f"class {code}", f"{name}, about {shares.get(code, 0):.1%}") for code, name in names.items()]
    others = [(f"code {code}", f"unnamed, about {share:.1%}") for code, share in shares.items() if code not in names]
    return [*named, *others] or [("pixels", "none valid")]


def _scene_facts(scene: Scene) -> Facts:
    """Return the facts of a scene; its statistics come from overviews or a sample. SceneError if it cannot be read."""
    measured = _measured(scene, scene.statistics())
    values = _grid_values(scene) | _band_values(scene, measured)
    return Facts("scene", shown(scene.path), values, (*_grid_lines(scene), *_band_lines(scene, measured)))


def _grid_values(scene: Scene) -> dict[str, object]:
    """Return size, storage and place as plain values."""
    box = scene.geobox
    return {
        "driver": scene.driver,
        "rows": box.height_px,
        "columns": box.width_px,
        "dtype": scene.dtype,
        "block": list(scene.block_shape),
        "nodata": scene.nodata,
        "crs": box.crs.to_string() if box.crs else None,
        "transform": list(box.transform)[:6] if box.has_grid else None,
        "gcps": len(box.gcps),
        "rpcs": box.rpcs is not None,
        "gsd_m": box.gsd_m,
        "pixel_m": None if box.pixel_m is None else list(box.pixel_m),
    }


def _grid_lines(scene: Scene) -> tuple[tuple[str, str], ...]:
    """Return size, storage and place in words."""
    box = scene.geobox
    rows, cols = scene.block_shape
    fault = box.gcp_fault
    return (
        ("size", f"{numbered(box.height_px, 'row')} x {numbered(box.width_px, 'column')}, {_pixels(box)}"),
        ("stored", f"{scene.driver}, {scene.dtype}, blocks of {rows} x {cols}"),
        ("nodata", "none" if scene.nodata is None else f"{scene.nodata:g}"),
        ("place", _place(box)),
        *([("", fault)] if fault else []),
    )


def _place(box: GeoBox) -> str:
    if not box.has_place and box.transform_fault:
        return f"unknown: {box.transform_fault}"
    if not (box.has_place or box.gcps):
        return "unknown: no CRS, ground control points or RPCs"
    ways = []
    if box.crs is not None:
        name = box.crs.to_string()
        kind = "projected" if box.crs.is_projected else "geographic" if box.crs.is_geographic else "local"
        ways.append(name if name.startswith("EPSG:") else f"{kind} CRS")
    if box.gcps:
        ways.append(f"{numbered(len(box.gcps), 'ground control point')}")
    if box.rpcs is not None:
        ways.append("RPCs")
    return f"{', '.join(ways)}; {_pixel_size(box)}"


def _pixel_size(box: GeoBox) -> str:
    if box.gsd_m is None or box.pixel_m is None:
        return "unknown pixel size"
    size_text = f"{_length(box.gsd_m)} a pixel"
    if box.stretch < _STRETCHED:
        return size_text
    height_m, width_m = box.pixel_m
    return f"{size_text}, not square on the ground: {_length(height_m)} high, {_length(width_m)} wide"


def _length(length_m: float) -> str:
    return f"{length_m / 1000:.4g} km" if length_m >= 1000 else f"{length_m:.4g} m"


def _pixels(box: GeoBox) -> str:
    pixels = box.height_px * box.width_px
    return f"{pixels / 1e6:.1f} Mpx" if pixels >= 100_000 else f"{pixels} px"


def _measured(scene: Scene, statistics: BandStatistics | None) -> list[dict[str, float]] | None:
    """Return the statistics band by band; None if no pixel is valid."""
    if statistics is None:
        return None
    columns = zip(scene.band_indexes, statistics.mean, statistics.std, statistics.low, statistics.high, strict=True)
    return [dict(zip(("band", "mean", "std", "low", "high"), values, strict=True)) for values in columns]


def _band_values(scene: Scene, measured: list[dict[str, float]] | None) -> dict[str, object]:
    bands = enumerate(zip(scene.colors, scene.descriptions, strict=True), start=1)
    return {
        "bands": [{"index": index, "color": color, "description": text} for index, (color, text) in bands],
        "statistics": measured,
    }


def _band_lines(scene: Scene, measured: list[dict[str, float]] | None) -> tuple[tuple[str, str], ...]:
    statistics_text = {
        band["band"]: ": about {mean:.4g} ± {std:.4g}, most from {low:.4g} to {high:.4g}".format(**band)
        for band in measured or ()
    }
    lines = []
    for index, (color, description) in enumerate(zip(scene.colors, scene.descriptions, strict=True), start=1):
        label = " ".join(word for word in (color, f'"{description}"' if description else "") if word)
        lines.append((f"band {index}", f"{label}{statistics_text.get(index, '')}"))
    if measured is None:
        lines.append(("pixels", "none valid"))
    return tuple(lines)


def _model_facts(bundle: ModelBundle) -> Facts:
    """Return the facts of a model; its weights are counted, not loaded."""
    if bundle.graph is None:
        parameters = read_header(bundle.weights_path).parameters
    else:
        parameters = read_onnx_file(bundle.weights_path).parameters
    values: dict[str, object] = {
        "name": bundle.name,
        "architecture": bundle.architecture,
        "arguments": bundle.arguments,
        "parameters": parameters,
        "bytes": bundle.weights_bytes,
        "hash": bundle.hash,
        "legend": bundle.legend.to_json(),
        "output_codes": list(bundle.output_codes),
        "bands": list(bundle.bands),
        "dtype": bundle.dtype,
        "mean": list(bundle.normalization.mean),
        "std": list(bundle.normalization.std),
        "value_range": list(bundle.normalization.value_range),
        "gsd_m": bundle.gsd_m,
        "window_px": bundle.window_px,
        "overlap_px": bundle.overlap_px,
        "temperature": bundle.temperature,
        "provenance": bundle.provenance,
        "metrics": bundle.metrics,
    }
    if bundle.graph is not None:
        values |= {"network": _graph_values(bundle.graph), "missing": []}
    return Facts("model", str(bundle.weights_path), values, tuple(_model_lines(bundle, parameters)))


def _onnx_facts(path: Path) -> Facts:
    """Return the facts of an ONNX file, and the arguments it needs for mapping; ModelError if it cannot be used."""
    model = KnownOnnx.read(path, GivenOnnx())
    if not model.parameters:
        try:
            return _model_facts(model.bundle())
        except ModelError as fault:
            if not _is_about_an_option(fault):
                raise
    completed, (tried, details, lacking) = model.completed, _tried(model)
    missing = [*model.parameters, *lacking]
    values: dict[str, object] = {
        "name": path.stem,
        "architecture": ONNX,
        "parameters": model.file.parameters,
        "bytes": model.file.weights_bytes,
        "bands": model.bands,
        "legend": None if completed.legend is None else completed.legend.to_json(),
        "mean": None if completed.normalization is None else list(completed.normalization.mean),
        "std": None if completed.normalization is None else list(completed.normalization.std),
        "gsd_m": completed.gsd_m,
        **tried,
        "missing": missing,
    }
    lines = (
        ("network", _network(ONNX, {}, model.file.parameters)),
        *details,
        ("pixels", "of unknown size" if completed.gsd_m is None else f"of {completed.gsd_m:g} m"),
        *((f"class {named.code}", named.name) for named in completed.legend or ()),
        ("missing", f"{', '.join(f'`{name}`' for name in missing)} must be given to predict"),
    )
    return Facts("model", str(path), values, lines)


def _tried(model: KnownOnnx) -> tuple[dict[str, object], list[tuple[str, str]], list[str]]:
    """Try a network on a little noise; return its values, its lines, and the argument without which it cannot run."""
    takes = f"{numbered(model.bands, 'band')} as {model.input.dtype}"
    try:
        trial = model.try_out()
    except ModelError as fault:
        if not _is_about_an_option(fault):
            raise
        gives = fault.gives if isinstance(fault, AmbiguousOutputError) else f"unknown: {fault}"
        size_px = model.input.size_px
        values: dict[str, object] = {"classes": None, "window_px": size_px, "network": None, "error": str(fault)}
        return values, [("takes", takes), ("gives", gives)], [str(fault.parameter)]
    classes = 2 if trial.channels == 1 else trial.channels
    lines = [("takes", f"{takes}, {_sizes(trial.graph, trial.divisor)}"), ("gives", numbered(classes, "class"))]
    lines += [("", note) for note in trial.graph.notes]
    network = _graph_values(trial.graph)
    return {"classes": classes, "window_px": trial.window_px, "network": network, "error": None}, lines, []


def _is_about_an_option(fault: ModelError) -> bool:
    """Return whether a network can be run once an option is given: its output, or its window."""
    return isinstance(fault, AmbiguousOutputError) or fault.parameter == "window"


def _graph_values(graph: OnnxGraph) -> dict[str, object]:
    image = graph.input
    return {
        "input": image.name,
        "input_dtype": image.dtype,
        "input_axes": ["n", "row", "col", "band"] if image.channels_last else ["n", "band", "row", "col"],
        "batch": image.batch,
        "size_px": image.size_px,
        "output": graph.output,
        "output_axes": ["n", "row", "col", "class"] if graph.output_channels_last else ["n", "class", "row", "col"],
        "activation": graph.activation,
        "fit": graph.fit,
        "ratio": graph.least,
        "notes": list(graph.notes),
    }


def _sizes(graph: OnnxGraph, divisor: int) -> str:
    if graph.input.size_px is not None:
        return f"windows of {graph.input.size_px} px only"
    return "windows of any size" if divisor == 1 else f"windows of any multiple of {divisor} px"


def _folder_facts(folder: Path) -> Facts:
    """Return the facts of a folder written by smp's save_pretrained; ModelError if it cannot be used."""
    architecture, arguments = read_config(folder)
    parameters = read_header(folder / "model.safetensors").parameters
    values = {"architecture": architecture, "arguments": arguments, "parameters": parameters}
    lines = (
        ("network", _network(architecture, arguments, parameters)),
        ("takes", f"{numbered(arguments['in_channels'], 'band')}; `mean` and `std` must be given to predict"),
        ("gives", f"{numbered(output_classes(arguments), 'class')}; `legend` must be given to predict"),
    )
    return Facts("model", str(folder), values, lines)


def _network(architecture: str, arguments: dict[str, Any], parameters: int) -> str:
    encoder = arguments.get("encoder_name")
    return f"{architecture}{f' on {encoder}' if encoder else ''}, {parameters / 1e6:.2f} million parameters"


def _model_lines(bundle: ModelBundle, parameters: int) -> Iterator[tuple[str, str]]:
    normalization = bundle.normalization
    low, high = normalization.value_range
    yield "name", bundle.name
    yield "network", _network(bundle.architecture, bundle.arguments, parameters)
    yield "file", f"{bundle.weights_bytes / 1e6:.1f} MB, hash {bundle.hash[:16]}"
    yield "takes", f"{', '.join(bundle.bands)} as {bundle.dtype}, {low:g} to {high:g}"
    yield "mean", ", ".join(f"{value:.4g}" for value in normalization.mean)
    yield "std", ", ".join(f"{value:.4g}" for value in normalization.std)
    yield "pixels", "of unknown size" if bundle.gsd_m is None else f"of {bundle.gsd_m:g} m"
    yield "window", f"{bundle.window_px} px, overlap {bundle.overlap_px} px"
    if bundle.graph is not None:
        yield "sizes", _sizes(bundle.graph, bundle.divisor)
        yield from (("", note) for note in bundle.graph.notes)
    for code in bundle.output_codes:
        yield f"class {code}", bundle.legend.by_code(code).name
    yield from _plain(bundle.provenance)
    yield from _plain(bundle.metrics)


def _plain(values: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the values that fit on a line; the JSON has the rest."""
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, float):
            yield label, f"{value:.4g}"
        elif isinstance(value, str | int):
            yield label, _SHA256.sub(lambda digest: digest[0][:16], str(value))
