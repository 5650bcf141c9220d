"""Conversion of the arguments of every verb to the types that geoseg works with.

JSON and YAML give lists, numpy its own numbers and arrays, torch devices, shapely boxes. Any value with a clear meaning
is accepted; anything else raises a UsageError that names the parameter.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import errno
import functools
import inspect
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from geoseg.errors import GeosegError, UsageError, one_line
from geoseg.typed import (
    argument_types,
    as_list,
    as_path,
    as_scalar,
    flag,
    integer,
    integers,
    number,
    numbers,
    refusal,
    text,
)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
StrPath = str | os.PathLike[str]
CrsLike = Any
"""A CRS: text such as `EPSG:4326`, an EPSG number, or an object of pyproj (a GeoDataFrame's), rasterio or odc-geo."""
TABLES = (".csv", ".tsv")
"""Extensions of text tables."""
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NETWORK = ("torch.nn.modules.module", "Module")
_PATH_ERRORS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)
_RASTER_NAME = re.compile(r"\.(tiff?|png|jpe?g|jp2|img|bsq|bil|gti(\.\w+)?)$", re.IGNORECASE)
"""Names that are recognized as those of rasters without opening the file: there may be a thousand masks."""


def plain_arguments(
    *more: type, flags: Collection[str] = ()
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator that converts a verb's arguments, by their names or else their annotations.

    `more` are the TypedDicts of the verb's `**` options; `flags` are arguments that are paths in other verbs, but flags
    here. An unknown keyword is a TypeError that suggests the closest name.
    """

    def decorate(verb: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        signature = inspect.signature(verb)
        star_names = [name for name, kind in signature.parameters.items() if kind.kind is kind.VAR_KEYWORD]
        declared = {name for name in signature.parameters if name not in star_names}
        places = [name for name, kind in signature.parameters.items() if kind.kind is kind.POSITIONAL_OR_KEYWORD]
        options = {name for options_type in more for name in options_type.__annotations__}

        def convert(name: str, value: object) -> object:
            expected = argument_types(verb, more).get(name)
            if name in _KINDS and (value is not None or (expected is not None and not expected.takes_none)):
                result = flag(name, value) if name in flags else _KINDS[name](name, value)
                if result is not value or isinstance(value, str):  # the verb itself checks which words are valid
                    return result
            is_checkable = expected is not None and (not expected.is_by_name or _is_geoseg_value(value))
            return expected.of(name, value) if expected is not None and is_checkable else value

        @functools.wraps(verb)
        def wrapper(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            if (more or not star_names) and (unknown := [name for name in kwargs if name not in declared | options]):
                _refuse_keyword(verb.__name__, unknown[0], declared | options)
            positional = (convert(name, value) for name, value in zip(places, args, strict=False))
            keywords = {name: convert(name, value) for name, value in kwargs.items()}
            try:
                return verb(*positional, *args[len(places) :], **keywords)  # type: ignore[arg-type] # by their names
            except OSError as error:
                fault = path_error(error)
                if fault is None:
                    raise
                raise fault from error

        return wrapper

    return decorate


def _lacks_folder(error: OSError) -> bool:
    """Return whether the current folder was removed: the system then cannot say where the process is."""
    if error.errno != errno.ENOENT or error.filename is not None:
        return False
    try:
        os.getcwd()  # noqa: PTH109 - the call that failed
    except FileNotFoundError:
        return True
    return False


def path_error(error: OSError) -> GeosegError | None:
    """Return the error for a text that cannot be a path, or for a place without access; None for other errors."""
    if _lacks_folder(error):
        return GeosegError("the current folder no longer exists; change to another one, or give absolute paths")
    if error.errno not in _PATH_ERRORS or not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    return GeosegError(
        f"{os.fspath(error.filename)!r:.80}: {error.strerror}; check the path, and the permissions of its folders"
    )


def is_frame(value: object) -> bool:
    """Return whether a value is a GeoDataFrame, without importing geopandas."""
    return any(kind.__name__ == "GeoDataFrame" for kind in type(value).__mro__)


def looks_raster(value: object) -> bool:
    """Return whether a source of labels or reference data is a raster, not features, by its extension."""
    return isinstance(value, str | os.PathLike) and _RASTER_NAME.search(os.fspath(value)) is not None


def is_network(value: object) -> bool:
    """Return whether a value is a torch network, without importing torch."""
    return any((kind.__module__, kind.__name__) == _NETWORK for kind in type(value).__mro__)


def scale(name: str, value: object) -> tuple[float, float]:
    """Return (low, high) from two numbers, or from high alone; UsageError for anything else."""
    expected = "two numbers, low and high, or high alone"
    single = as_scalar(value)
    if isinstance(single, Real):
        return 0.0, number(name, single)
    values = numbers(name, value, expected)
    if len(values) == 1:
        return 0.0, values[0]
    if len(values) != 2:
        raise refusal(name, expected, value)
    return values[0], values[1]


def box(name: str, value: object) -> tuple[float, ...]:
    """Return the numbers of a box: a sequence, a rasterio box, a shapely geometry, or a geopandas table.

    Whether they are four, and form a box, is checked by the cropping code.
    """
    for attribute in ("total_bounds", "bounds"):  # of geopandas; of shapely and rasterio
        bounds = getattr(value, attribute, None)
        if bounds is not None and not callable(bounds):
            return numbers(name, bounds)
    return numbers(name, value, "four numbers: west, south, east, north")


def bands(name: str, value: object) -> tuple[int | str, ...]:
    """Return bands, by number from 1 or by name, from a sequence, `4,3,2` or a single one; UsageError otherwise."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        return tuple(int(part) if part.isdecimal() else part for part in parts)
    return _numbers_or_names(name, value, "band numbers, from 1, or band names")


def _classes(name: str, value: object) -> str | tuple[int | str, ...]:
    return str(value) if isinstance(value, str) else _numbers_or_names(name, value, "class codes or names")


def _numbers_or_names(name: str, value: object, expected: str) -> tuple[int | str, ...]:
    values = [value] if isinstance(as_scalar(value), Real) else as_list(value)
    if values is None:
        raise refusal(name, expected, value)
    return tuple(str(item) if isinstance(item, str) else integer(name, item) for item in values)


def _device(name: str, value: object) -> str:
    if isinstance(value, str):
        return value.strip().lower()
    if isinstance(value, list | tuple) and value:
        return ",".join(_device(name, item) for item in value)
    if type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == "device":
        return str(value)
    raise refusal(name, "a name such as cpu or cuda:0, a list of them, or a torch.device", value)


def _word_or_number(name: str, value: object) -> str | float:
    if isinstance(value, str):
        return str(value)
    plain_value = as_scalar(value)
    if isinstance(plain_value, Real) and not isinstance(plain_value, bool):
        return number(name, plain_value)
    raise refusal(name, "a number or a word", value)


def _crs(_name: str, value: object) -> object:
    """Return a CRS, or that of a GeoDataFrame or dataset, as text; the verb refuses what is none."""
    value = getattr(value, "crs", value)
    plain_value = as_scalar(value)
    if isinstance(plain_value, Integral) and not isinstance(plain_value, bool):
        return f"EPSG:{plain_value}"
    for way in ("to_string", "to_wkt"):
        if callable(as_text := getattr(value, way, None)):
            return str(as_text())
    return value


def _count(name: str, value: object) -> int:
    count = integer(name, value)
    if count < 1:
        raise UsageError(f"`{name}` must be at least 1, got {count}", name)
    return count


def _value_or_path(name: str, value: object) -> object:
    """Return a path, or one of geoseg's own values unchanged; those are checked where they are used."""
    return value if _is_geoseg_value(value) else as_path(name, value)


def is_geoseg_type(value: object, kind: str) -> bool:
    """Return whether a value is of a geoseg type, recognized by its name because it may not be imported yet."""
    return any(base.__name__ == kind and base.__module__.partition(".")[0] == "geoseg" for base in type(value).__mro__)


def _is_geoseg_value(value: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "geoseg" for kind in type(value).__mro__)


def _model(name: str, value: object) -> object:
    """Do the same as `_value_or_path`; for a function or a network, raise an error that says how to make it a model."""
    if callable(value) and not isinstance(value, os.PathLike):
        hint = "; wrap it with ModelBundle.from_callable(function, legend=...)"
        if is_network(value):
            hint += ", or save a segmentation-models-pytorch network with save_bundle"
        raise refusal(name, "a path or a ModelBundle", value, hint)
    return _value_or_path(name, value)


def _scene(name: str, value: object) -> object:
    """Return a rasterio dataset or an xarray array unchanged; treat anything else like `_value_or_path`."""
    packages = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    if not packages & {"rasterio", "xarray", "geoseg"} and hasattr(value, "__array__"):
        hint = "; a bare array is not georeferenced: give an xarray.DataArray with a CRS, or a file"
        raise refusal(name, "a path", value, hint)
    if "pystac" in packages:
        hint = "; write it to a file: item.save_object(include_self_link=False, dest_href='item.json')"
        raise refusal(name, "a path", value, hint)
    return value if packages & {"rasterio", "xarray"} else _value_or_path(name, value)


def _features_or_path(name: str, value: object) -> object:
    """Return a GeoDataFrame unchanged; treat anything else like `_value_or_path`."""
    if type(value).__name__ == "DataFrame":
        raise UsageError(
            f"`{name}` must be a path or a GeoDataFrame, got a DataFrame; make it one with "
            "geopandas.GeoDataFrame(table, geometry=geopandas.points_from_xy(table.lon, table.lat), crs=4326)",
            name,
        )
    return value if is_frame(value) else _value_or_path(name, value)


def _features_or_scene(name: str, value: object) -> object:
    """Return a GeoDataFrame unchanged; treat anything else like `_scene`."""
    return value if is_frame(value) else _scene(name, value)


def _polygons(name: str, value: object) -> object:
    """Return tables, and values that may be meant as one, unchanged; they are checked where they are drawn."""
    return as_path(name, value) if isinstance(value, str | bytes | os.PathLike | Real) else value


def _aoi(name: str, value: object) -> object:
    """Return a shapely geometry, a GeoDataFrame or GeoJSON unchanged, a GeoSeries as a table, or else a path."""
    if is_frame(value) or isinstance(value, Mapping):
        return value
    if any(kind.__name__ == "GeoSeries" for kind in type(value).__mro__):
        return value.to_frame("geometry")  # type: ignore[attr-defined] # pandas'
    if hasattr(value, "geom_type") and hasattr(value, "__geo_interface__"):
        return value
    if isinstance(value, str | bytes | os.PathLike):
        return as_path(name, value)
    raise refusal(name, "a path, a GeoDataFrame, a shapely geometry or GeoJSON", value)


def _mapping_or_path(name: str, value: object) -> object:
    """Return a dict, such as names by code, unchanged; treat anything else like `_value_or_path`."""
    if isinstance(value, list | tuple):
        example = "{'trees': 'forest'}" if name == "mapping" else "{1: 'water'}"
        raise refusal(name, f"a dict such as {example}, or a path", value)
    return value if isinstance(value, Mapping) else _value_or_path(name, value)


def _layer(name: str, value: object) -> str | int | tuple[str, ...]:
    if isinstance(value, str):
        return str(value)
    if isinstance(as_scalar(value), Integral):
        return integer(name, value)
    values = as_list(value)
    if not values or not all(isinstance(item, str) for item in values):
        raise refusal(name, "a layer name or several", value)
    return tuple(map(str, values))


def _creation_options(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise refusal(name, 'a mapping such as {"COMPRESS": "ZSTD"}', value)
    return {str(key): str(as_scalar(setting)) for key, setting in value.items()}


def _refuse_keyword(verb: str, name: str, accepted: Iterable[str]) -> NoReturn:
    suggestion = nearest(name, accepted)
    hint = "" if suggestion is None else f" (did you mean {suggestion!r}?)"
    raise TypeError(f"{verb}() got an unexpected keyword argument {name!r}{hint}")


def _listener(name: str, value: object) -> object:
    if not callable(value):
        raise refusal(name, "a function", value)
    return value


def _instance_of(kind: str) -> Callable[[str, object], object]:
    """Return a check for values of a geoseg type."""

    def check(name: str, value: object) -> object:
        if not is_geoseg_type(value, kind):
            raise refusal(name, f"a {kind}", value)
        return value

    return check


def _arguments(name: str, value: object) -> object:
    if not isinstance(value, Mapping):
        raise refusal(name, 'a mapping such as {"encoder_name": "resnet34"}', value)
    return value


def _recipe(name: str, value: object) -> object:
    if isinstance(value, str) or type(value).__name__ == "Recipe":
        return value
    raise refusal(name, "the name of a recipe, or a Recipe", value)


def _path_or_flag(name: str, value: object) -> object:
    value = as_scalar(value)
    return value if isinstance(value, bool) else as_path(name, value)


_KINDS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(
        (
            "overlap", "tta", "zoom", "connectivity", "window_px", "overlap_px", "width_px", "dpi", "per_class",
            "points", "seed",
        ),
        integer,
    ),
    **dict.fromkeys(("window", "tile", "batch_size", "workers", "threads", "devices", "divisor"), _count),
    **dict.fromkeys(
        ("gsd_m", "data_gsd_m", "tolerance", "max_mb", "checkpoint_minutes", "temperature", "valid_share"), number
    ),
    **dict.fromkeys(("resolution", "network_resolution", "simplify", "min_area"), _word_or_number),
    **dict.fromkeys(("classes", "ignore"), _classes),
    **dict.fromkeys(
        (
            "blend", "method", "column", "shard", "split", "split_rule", "rule", "palette", "title", "description",
            "name", "version", "dtype", "preset", "encoder", "architecture", "activation", "network_output",
        ),
        text,
    ),
    "statistics": _instance_of("BandStatistics"),
    "profile": _instance_of("Profile"),
    "arguments": _arguments,
    **dict.fromkeys(("areas", "dissolve", "half", "mkdir", "overwrite", "smooth", "wandb"), flag),
    **dict.fromkeys(("announce", "decoding", "progress", "on_result"), _listener),
    "recipe": _recipe,
    **dict.fromkeys(("out", "out_dir", "report", "cache", "probabilities"), as_path),
    "model": _model,
    **dict.fromkeys(("landcover", "later", "scene", "confidence"), _scene),
    **dict.fromkeys(("sample", "labels"), _features_or_path),
    **dict.fromkeys(("reference", "by"), _features_or_scene),
    **dict.fromkeys(("legend", "reference_legend", "by_legend", "mapping"), _mapping_or_path),
    "polygons": _polygons,
    "layer": _layer,
    "stac": _path_or_flag,
    "aoi": _aoi,
    "scale": scale,
    "bbox": box,
    **dict.fromkeys(("crs", "bbox_crs", "aoi_crs"), _crs),
    "bands": bands,
    "device": _device,
    "output_codes": integers,
    "creation_options": _creation_options,
}  # fmt: skip
"""The conversion of each parameter, in whichever verb it occurs."""


def text_in(file: str | os.PathLike[str]) -> str:
    """Return the text of a file written by people. ValueError, worded to follow its name, if it is not text."""
    raw = b""
    try:
        raw = Path(file).read_bytes()
        return text_of(raw)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}; check the path") from None
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            raise ValueError("is not a text file; check the path") from None
        raise ValueError(f"is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from None


def text_of(raw: bytes) -> str:
    """Decode text: UTF-8, or UTF-16 with a byte order mark, as written by PowerShell. Raises UnicodeDecodeError."""
    return raw.decode(next((encoding for mark, encoding in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8"))


def delimiter_in(heading: str, marks: str = ",;\t") -> str:
    """Return the delimiter of a table's columns, by its header line."""
    return max(marks, key=heading.count)


def rows_of(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    """Return the cells of the lines of a table, without blanks around them. ValueError as in `json_of`."""
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    except csv.Error as error:
        raise ValueError(f"is not a table that can be read: {one_line(error, 120)}") from None


def json_in(file: str | os.PathLike[str]) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value in a JSON file written by people, without duplicate names. ValueError as in `text_in`."""
    return json_of(text_in(file))


def json_of(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text, without duplicate names. ValueError, worded to follow the file's name."""
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {one_line(error, 120)}") from None


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; ValueError for a duplicate name, of which json.loads would silently keep the last."""
    names = [name for name, _ in pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{repeated!r:.60} occurs twice")
    return dict(pairs)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word closest to a word, ignoring case; None if none is close."""
    by_lowercase: dict[str, str] = {}
    for candidate in known:
        by_lowercase.setdefault(candidate.casefold(), candidate)
    matches = difflib.get_close_matches(word.casefold(), by_lowercase, n=1)
    return by_lowercase[matches[0]] if matches else None
