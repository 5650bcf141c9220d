"""The metadata that Deepness, a QGIS plugin, needs in an ONNX file (https://qgis-plugin-deepness.readthedocs.io).

JSON texts: model_type, class_names (or names), resolution in cm per pixel, tile_size (tiles_size in its documentation),
tiles_overlap in percent, standardization_mean and standardization_std for values divided by 255, and seg_thresh, below
which a probability means class 0. People write them in many ways, so any unambiguous form is accepted: upper-case keys,
Python literals, names and numbers separated by commas or spaces.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from geoseg.errors import ModelError, one_line
from geoseg.legend import LandCover, Legend, distinct_color, name_key
from geoseg.model.bundle import MAX_CLASSES, ONNX, ModelCard, parse_json

_TYPE = "Segmentor"
_KEYS = (
    "model_type", "class_names", "names", "resolution", "tile_size", "tiles_size", "tiles_overlap",
    "standardization_mean", "standardization_std", "seg_thresh",
)  # fmt: skip
_OVERRIDDEN_BY = {
    "class_names": "legend", "names": "legend", "resolution": "gsd_m", "tile_size": "window_px",
    "tiles_size": "window_px", "tiles_overlap": "overlap_px", "standardization_mean": "normalization",
    "standardization_std": "normalization",
}  # fmt: skip
"""The parameters that override keys of the file."""
_YOLO_TASKS = {"detect", "segment", "pose", "obb", "classify"}
"""Task names of Ultralytics networks (YOLO); none of them gives each pixel a class."""
_WHITE = 255.0
"""Deepness divides all imagery by this first."""
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Deepness:
    """The metadata of a file; None where they are missing."""

    names: tuple[str, ...] | None
    first_code: int
    """The code of the first name: Deepness counts from 0, some people from 1."""
    gsd_m: float | None
    window_px: int | None
    overlap_share: float | None
    mean: tuple[float, ...] | None
    """In stored units, like `std`."""
    std: tuple[float, ...] | None
    has_metadata: bool
    """Whether the file has any such metadata; if so, a missing mean and std mean values divided by 255."""


def read_deepness(metadata: Mapping[str, str], source: str, output_index: int, given: Collection[str]) -> Deepness:
    """Parse the metadata; ModelError for invalid texts, or a model that does not map classes.

    If several outputs have names, those at `output_index` are read. Keys overridden by the parameters in `given` are
    not read.
    """
    texts = {key.lower(): text for key, text in metadata.items()}
    _check_maps_classes(texts, source)
    values = {key: _value(texts[key]) for key in _KEYS if key in texts and _OVERRIDDEN_BY.get(key) not in given}
    names_key = "class_names" if "class_names" in values else "names"
    names = _names_of_output(values.get(names_key), output_index)
    gsd_cm = _number(values, "resolution", source)
    overlap = _number(values, "tiles_overlap", source)
    size = _number(values, "tile_size" if "tile_size" in values else "tiles_size", source)
    if overlap is not None and overlap >= 100:
        raise _invalid("tiles_overlap", source, "a percentage below 100", overlap)
    mean, std = (_shares(values, f"standardization_{statistic}", source) for statistic in ("mean", "std"))
    first_code, class_names = (0, None) if names is None else _class_names(names, names_key, source)
    return Deepness(
        names=class_names,
        first_code=first_code,
        gsd_m=gsd_cm / 100 if gsd_cm else None,
        window_px=round(size) if size else None,
        overlap_share=None if overlap is None else overlap / 100,
        mean=mean and tuple(_WHITE * share for share in mean),
        std=std and tuple(_WHITE * share for share in std),
        has_metadata=any(key in texts for key in _KEYS),
    )


def _check_maps_classes(texts: Mapping[str, str], source: str) -> None:
    """Raise ModelError for a model whose metadata declare another task."""
    task = texts.get("task", "")
    if task in _YOLO_TASKS and "names" in texts:
        raise ModelError(
            f"{source} is an Ultralytics (YOLO) model for the task {task}, which finds objects; geoseg runs models "
            "that give each pixel a class (semantic segmentation)"
        )
    kind = str(_value(texts.get("model_type", _TYPE)))
    if "segment" not in kind.lower() or "instance" in kind.lower():
        raise ModelError(
            f"{source} has the model type {one_line(kind, 40)}; geoseg runs those that map classes: {_TYPE}"
        )


def legend_of_names(names: tuple[str, ...], first_code: int) -> Legend:
    """Return classes with these names, codes from `first_code`, and distinct colors; repeated names get their code."""
    used_keys: set[str] = set()
    classes = []
    for code, name in enumerate(names, start=first_code):
        line = one_line(name, 100) or f"class {code}"
        unique = line if name_key(line) not in used_keys else f"{line} {code}"
        used_keys.add(name_key(unique))
        classes.append(LandCover(code, unique, distinct_color(code)))
    return Legend(tuple(classes))


def deepness_metadata(card: ModelCard) -> dict[str, str]:
    """Return the metadata for a file that outputs the channels of a card, as probabilities.

    Deepness assigns class 0 if the probability is below seg_thresh. So it is 0, except for networks with a single
    channel, which need a threshold.
    """
    names = [card.legend.by_code(code).name for code in card.output_codes]
    normalization = card.normalization
    values: dict[str, Any] = {
        "model_type": _TYPE,
        "class_names": {str(channel): name for channel, name in enumerate(names)},
        "tile_size": card.window_px,
        "tiles_size": card.window_px,
        "tiles_overlap": round(100 * card.overlap_px / card.window_px),
        "standardization_mean": [mean / _WHITE for mean in normalization.mean],
        "standardization_std": [std / _WHITE for std in normalization.std],
        "seg_thresh": 0.5 if card.arguments["classes"] == 1 and card.architecture == ONNX else 0,
        "seg_small_segment": 0,
    }
    if card.gsd_m is not None:
        values["resolution"] = 100 * card.gsd_m
    return {key: json.dumps(value) for key, value in values.items()}


def _value(text: str) -> Any:  # noqa: ANN401 - whatever the file's author wrote
    """Return the value of a text: JSON, a Python literal, else the text itself."""
    try:
        return parse_json(text, "")
    except ModelError:
        try:
            return ast.literal_eval(text.strip())  # {0: 'field'}, as written by ultralytics; nothing is executed
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return text


def _names_of_output(names: object, output_index: int) -> object:
    """Return the class names of one output; people write a dict for each output, or one for each class."""
    if not isinstance(names, list) or not names or not all(isinstance(row, dict) for row in names):
        return names
    if len(names) == 1:
        return names[0]
    class_names = [row.get("name") for row in names]
    return names[min(output_index, len(names) - 1)] if None in class_names else class_names


def _class_names(value: object, key: str, source: str) -> tuple[int, tuple[str, ...]]:
    """Return the first code, 0 or 1, and the names, from a dict in either direction, a list, or a text with commas."""
    mapping = value
    if isinstance(mapping, str) and not re.search(r"[\[\]{}()\"']", mapping):
        mapping = [name.strip() for name in re.split(r"[,;\n]", mapping) if name.strip()]
    if isinstance(mapping, list | tuple):
        mapping = dict(enumerate(mapping))
    if isinstance(mapping, dict) and all(isinstance(name, str) and not name.isdigit() for name in mapping):
        mapping = {number: name for name, number in mapping.items() if type(number) is int} or mapping
    if not isinstance(mapping, dict) or not 1 <= len(mapping) <= MAX_CLASSES:
        raise _invalid(key, source, "class names by their numbers", value)
    by_number = {str(number): name for number, name in mapping.items()}
    first_code = 0 if "0" in by_number else 1
    names = tuple(by_number.get(str(number)) for number in range(first_code, first_code + len(by_number)))
    if not all(isinstance(name, str) for name in names):
        raise _invalid(key, source, "texts numbered from 0 or 1 without gaps", value)
    class_names = tuple(map(str, names))
    return (first_code, class_names) if len(class_names) > 1 else (0, (BACKGROUND, *class_names))


def _number(values: Mapping[str, Any], key: str, source: str) -> float | None:
    """Return a number; a list of equal numbers counts as one, and a percentage may have its sign."""
    value = values.get(key)
    if value is None:
        return None
    single = value[0] if isinstance(value, list | tuple) and value and len({*map(repr, value)}) == 1 else value
    single = single.strip().removesuffix("%") if isinstance(single, str) and key == "tiles_overlap" else single
    try:
        number = float(single)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(single, bool) or not (math.isfinite(number) and number >= 0):
        raise _invalid(key, source, "a number" + " of centimeters" * (key == "resolution"), value)
    return number


_NUMBERS = re.compile(r"[\[(]?\s*((?:[-+\d.eE]+[\s,;]*)+)[\])]?")
"""Numbers separated by commas or spaces, as printed by numpy."""


def _shares(values: Mapping[str, Any], key: str, source: str) -> tuple[float, ...] | None:
    """Return numbers for values divided by 255, which are at most 1."""
    value = values.get(key)
    if value is None:
        return None
    match = _NUMBERS.fullmatch(value.strip()) if isinstance(value, str) else None
    items = re.split(r"[\s,;]+", match[1].strip(" ,;")) if match else value
    items = items if isinstance(items, list | tuple) else [items]
    try:
        numbers = tuple(float(item) for item in items if type(item) in {int, float, str})
    except (ValueError, OverflowError):
        numbers = ()
    if not numbers or len(numbers) != len(items):
        raise _invalid(key, source, "numbers", value)
    if max(numbers) > 1:
        raise _invalid(key, source, "at most 1, for values divided by 255 as in Deepness", list(numbers))
    return numbers


def _invalid(key: str, source: str, expected: str, value: object) -> ModelError:
    """Return the error for an invalid text in a file, naming the parameter that overrides it."""
    parameters = {"legend": "`legend`", "gsd_m": "`gsd_m`", "normalization": "`mean` and `std` of stored values"}
    parameter = parameters.get(_OVERRIDDEN_BY[key])
    hint = "correct it" + (f", or give {parameter} to predict or export" if parameter else "")
    return ModelError(f"{key} of {source} must be {expected}, got {one_line(repr(value), 60)}; {hint}")
