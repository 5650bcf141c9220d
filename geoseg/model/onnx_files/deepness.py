"""The metadata by which Deepness, a QGIS plugin, knows an ONNX file (https://qgis-plugin-deepness.readthedocs.io).

Texts of JSON: model_type, class_names (or names), resolution in cm a pixel, tile_size (its documentation writes
tiles_size), tiles_overlap in percent, standardization_mean and standardization_std of values that were divided by 255,
seg_thresh: what is less probable becomes class 0.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geoseg.errors import ModelError
from geoseg.legend import LandCover, Legend, distinct_color, name_key
from geoseg.model.bundle import MAX_CLASSES, ONNX, ModelCard, one_line, parse_json

_TYPE = "Segmentor"
_KEYS = (
    "model_type", "class_names", "names", "resolution", "tile_size", "tiles_size", "tiles_overlap",
    "standardization_mean", "standardization_std", "seg_thresh",
)  # fmt: skip
_WHITE = 255.0
"""Deepness divides by it first, whatever the imagery."""
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Deepness:
    """What the metadata of a file say; None where they say nothing."""

    names: tuple[str, ...] | None
    gsd_m: float | None
    window_px: int | None
    overlap_share: float | None
    mean: tuple[float, ...] | None
    """In stored units, as `std`."""
    std: tuple[float, ...] | None
    is_there: bool
    """Whether the file has any metadata of this kind; then no mean and std mean values divided by 255."""


def read_deepness(metadata: Mapping[str, str], source: str, output_index: int = 0) -> Deepness:
    """Return what the metadata say; ModelError for texts that cannot be meant, or a model that maps no classes."""
    values = {key: _value(metadata[key], f"{key} of {source}") for key in _KEYS if key in metadata}
    kind = str(values.get("model_type", _TYPE)).capitalize()
    if kind != _TYPE:
        raise ModelError(
            f"{source} is a model of the type {one_line(kind, 40)}; geoseg runs those that map classes, {_TYPE}"
        )
    names = values.get("class_names", values.get("names"))
    if isinstance(names, list) and names and all(isinstance(each, dict) for each in names):
        names = names[min(output_index, len(names) - 1)]  # one of each output
    gsd_cm = _number(values, "resolution", source)
    overlap = _number(values, "tiles_overlap", source)
    size = _number(values, "tile_size" if "tile_size" in values else "tiles_size", source)
    mean, std = (_numbers(values, f"standardization_{what}", source) for what in ("mean", "std"))
    return Deepness(
        names=None if names is None else _names(names, source),
        gsd_m=gsd_cm / 100 if gsd_cm else None,
        window_px=round(size) if size else None,
        overlap_share=None if overlap is None else overlap / 100,
        mean=mean and tuple(_WHITE * each for each in mean),
        std=std and tuple(_WHITE * each for each in std),
        is_there=bool(values),
    )


def legend_of_names(names: tuple[str, ...]) -> Legend:
    """Return classes of such names, coded 0, 1, 2, ..., each in its own color; a name that is there gets its code."""
    taken: set[str] = set()
    classes = []
    for code, name in enumerate(names):
        line = one_line(name, 100) or f"class {code}"
        unique = line if name_key(line) not in taken else f"{line} {code}"
        taken.add(name_key(unique))
        classes.append(LandCover(code, unique, distinct_color(code)))
    return Legend(tuple(classes))


def deepness_metadata(card: ModelCard) -> dict[str, str]:
    """Return the metadata of a file whose channels are those of a card, as probabilities.

    Deepness takes what is less probable than seg_thresh for class 0. So it is 0, but where one channel is to be told
    from no other.
    """
    names = [card.legend.by_code(code).name for code in card.output_codes]
    normalization = card.normalization
    values: dict[str, Any] = {
        "model_type": _TYPE,
        "class_names": {str(channel): name for channel, name in enumerate(names)},
        "tile_size": card.window_px,
        "tiles_size": card.window_px,
        "tiles_overlap": round(100 * card.overlap_px / card.window_px),
        "standardization_mean": [each / _WHITE for each in normalization.mean],
        "standardization_std": [each / _WHITE for each in normalization.std],
        "seg_thresh": 0.5 if card.arguments["classes"] == 1 and card.architecture == ONNX else 0,
        "seg_small_segment": 0,
    }
    if card.gsd_m is not None:
        values["resolution"] = 100 * card.gsd_m
    return {key: json.dumps(value) for key, value in values.items()}


def _value(text: str, source: str) -> Any:  # noqa: ANN401 - whatever somebody wrote
    try:
        return parse_json(text, source)
    except ModelError as fault:
        try:
            return ast.literal_eval(text)  # {0: 'field'}, as ultralytics writes it: a literal, nothing is run
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            if text.isidentifier():
                return text  # Segmentor without its quotation marks
            raise fault from None


def _names(value: object, source: str) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_CLASSES:
        raise ModelError(f"class_names of {source} must name classes by their numbers, got {one_line(repr(value), 60)}")
    by_number = {str(key): name for key, name in value.items()}
    found = [by_number.get(str(number)) for number in range(len(by_number))]
    if not all(isinstance(name, str) for name in found):
        raise ModelError(
            f"class_names of {source} must be texts numbered from 0 without gaps, got {one_line(repr(value), 60)}"
        )
    names = tuple(str(name) for name in found)
    return names if len(names) > 1 else (BACKGROUND, *names)


def _number(values: Mapping[str, Any], key: str, source: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= 0):
        raise ModelError(f"{key} of {source} must be a number, got {one_line(repr(value), 40)}")
    return number


def _numbers(values: Mapping[str, Any], key: str, source: str) -> tuple[float, ...] | None:
    value = values.get(key)
    if value is None:
        return None
    each = value if isinstance(value, list | tuple) else [value]
    if not each or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in each):
        raise ModelError(f"{key} of {source} must be numbers, got {one_line(repr(value), 60)}")
    return tuple(float(one) for one in each)
