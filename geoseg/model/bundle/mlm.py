"""A model card as JSON, in the terms of the STAC Machine Learning Model extension (1.4 and 1.5) where they exist.

https://github.com/stac-extensions/mlm: mlm:name, mlm:architecture, mlm:framework, mlm:tasks, mlm:hyperparameters,
mlm:input (bands, value_scaling), mlm:output (classification:classes); gsd is STAC's own. All other fields start with
geoseg.
"""

from __future__ import annotations

from typing import Any, TypeVar

from geoseg.errors import ModelError, UsageError, one_line
from geoseg.legend import LandCover, Legend
from geoseg.model.bundle.architectures import architecture_named
from geoseg.model.bundle.card import ONNX, ModelCard, Normalization, frozen_text
from geoseg.raster import BandStatistics

_T = TypeVar("_T", str, int, float, dict[str, Any], list[Any])
_FORMAT = 2
"""The format version of these JSON texts; readers reject higher ones."""
_BAND_AXIS = {1: "channel", 2: "bands"}
"""The name of the band axis, by format version. Since 2, classes also have a description: MLM requires both."""
_TASKS = ["semantic-segmentation"]
_FRAMEWORK = "PyTorch"


def to_mlm(card: ModelCard) -> dict[str, Any]:
    """Return a card as plain JSON values."""
    window = card.window_px
    return {
        "geoseg:format": _FORMAT,
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:framework": _framework(card.architecture),
        "mlm:tasks": _TASKS,
        "mlm:hyperparameters": card.arguments,
        "mlm:input": [
            {
                "name": "image",
                "bands": list(card.bands),
                "input": _structure(len(card.bands), window, _BAND_AXIS[_FORMAT]),
                "value_scaling": [
                    {"type": "z-score", "mean": mean, "stddev": std}
                    for mean, std in zip(card.normalization.mean, card.normalization.std, strict=True)
                ],
            }
        ],
        "mlm:output": [
            {
                "name": "logits",
                "tasks": _TASKS,
                "result": _structure(len(card.output_codes), window, "class"),
                "classification:classes": [_class_to_mlm(land_cover) for land_cover in card.legend],
            }
        ],
        "gsd": card.gsd_m,
        "geoseg:output_codes": list(card.output_codes),
        "geoseg:data_type": card.dtype,
        "geoseg:value_range": list(card.normalization.value_range),
        "geoseg:statistics": card.statistics and {key: list(getattr(card.statistics, key)) for key in _STATISTICS},
        "geoseg:overlap_px": card.overlap_px,
        "geoseg:temperature": card.temperature,
        "geoseg:provenance": card.provenance,
        "geoseg:metrics": card.metrics,
    }


def from_mlm(value: object, source: str) -> ModelCard:
    """Return a card from untrusted values; ModelError, naming the source, if any is missing, unknown or invalid."""
    try:
        return _card(_Fields(value, source))
    except UsageError as fault:
        raise ModelError(f"{source}: {one_line(fault)}") from None
    except ModelError as fault:
        raise ModelError(str(fault) if source in str(fault) else f"{source}: {one_line(fault, 300)}") from None


class _Fields:
    """An object of untrusted values: each is taken once, with its type checked, and none may be left over."""

    def __init__(self, value: object, location: str) -> None:
        if not isinstance(value, dict):
            raise ModelError(f"{location} must be an object, got {one_line(repr(value), 60)}")
        self._remaining = dict(value)
        self._location = location

    def take(self, name: str, kind: type[_T]) -> _T:
        """Take a value: text, an int, a float (possibly written as an integer) or an object."""
        if name not in self._remaining:
            raise ModelError(f"{self._location} lacks {name}")
        value = self._remaining.pop(name)
        if not _is(value, kind):
            raise ModelError(f"{self._location}: {name} must be {_NAMES[kind]}, got {one_line(repr(value), 60)}")
        return kind(value)

    def several(self, name: str, kind: type[_T]) -> tuple[_T, ...]:
        """Take a list of values."""
        values = self.take(name, list)
        if len(values) > 1024 or not all(_is(item, kind) for item in values):
            raise ModelError(
                f"{self._location}: {name} must be a list of {_NAMES[kind]}, got {one_line(repr(values), 60)}"
            )
        return tuple(kind(item) for item in values)

    def fields(self, name: str) -> _Fields:
        return _Fields(self.take(name, dict), f"{self._location}, {name}")

    def only(self, name: str) -> _Fields:
        """Take the object from a list of one: geoseg's models have one input and one output."""
        values = self.take(name, list)
        if len(values) != 1:
            raise ModelError(f"{self._location}: {name} must hold one object, got {len(values)}")
        return _Fields(values[0], f"{self._location}, {name}")

    def rows(self, name: str) -> list[_Fields]:
        return [_Fields(item, f"{self._location}, {name}") for item in self.several(name, dict)]

    def maybe(self, name: str) -> bool:
        """Return whether a value is not null; a null is taken."""
        is_null = name in self._remaining and self._remaining[name] is None
        if is_null:
            del self._remaining[name]
        return not is_null

    def expect(self, name: str, expected: object) -> None:
        value = self._remaining.pop(name, None)
        if value != expected:
            raise ModelError(f"{self._location}: {name} must be {expected!r}, got {one_line(repr(value), 60)}")

    def finish(self) -> None:
        """Reject unknown fields: they could not be kept, and a typo would go unnoticed."""
        if self._remaining:
            raise ModelError(f"{self._location} has an unknown field {one_line(next(iter(self._remaining)), 60)!r}")


_STATISTICS = ("mean", "std", "low", "high")
_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text", int: "an integer", float: "a number"}


def _card(fields: _Fields) -> ModelCard:
    written = fields.take("geoseg:format", int)
    if written not in _BAND_AXIS:
        raise ModelError(f"model format {written} is unknown, this geoseg reads up to {_FORMAT}; update geoseg")
    architecture = fields.take("mlm:architecture", str)
    if architecture != ONNX:
        architecture = architecture_named(architecture).name
    fields.expect("mlm:framework", _framework(architecture))
    fields.expect("mlm:tasks", _TASKS)
    bands, window_px, mean, std = _input(fields.only("mlm:input"), written)
    codes = fields.several("geoseg:output_codes", int)
    card = ModelCard(
        name=fields.take("mlm:name", str),
        architecture=architecture,
        arguments_text=frozen_text(fields.take("mlm:hyperparameters", dict), "arguments"),
        legend=_output(fields.only("mlm:output"), len(codes), window_px, written),
        output_codes=codes,
        bands=bands,
        dtype=fields.take("geoseg:data_type", str),
        normalization=Normalization(mean, std, _pair(fields.several("geoseg:value_range", float))),
        statistics=_statistics(fields.fields("geoseg:statistics")) if fields.maybe("geoseg:statistics") else None,
        gsd_m=fields.take("gsd", float) if fields.maybe("gsd") else None,
        window_px=window_px,
        overlap_px=fields.take("geoseg:overlap_px", int),
        temperature=fields.take("geoseg:temperature", float),
        provenance_text=frozen_text(fields.take("geoseg:provenance", dict), "provenance"),
        metrics_text=frozen_text(fields.take("geoseg:metrics", dict), "metrics"),
    )
    fields.finish()
    return card


def _input(fields: _Fields, written: int) -> tuple[tuple[str, ...], int, tuple[float, ...], tuple[float, ...]]:
    """Return band names, window, mean and std."""
    fields.expect("name", "image")
    bands = fields.several("bands", str)
    structure = fields.fields("input")
    shape = structure.several("shape", int)
    window_px = shape[-1] if shape else 0
    structure.expect("dim_order", ["batch", _BAND_AXIS[written], "height", "width"])
    structure.expect("data_type", "float32")
    structure.finish()
    if shape != (-1, len(bands), window_px, window_px):
        raise ModelError(f"the input's shape must be [-1, {len(bands)}, window, window], got {list(shape)!r:.60}")
    mean, std = [], []
    for scaling in fields.rows("value_scaling"):
        scaling.expect("type", "z-score")
        mean.append(scaling.take("mean", float))
        std.append(scaling.take("stddev", float))
        scaling.finish()
    fields.finish()
    return bands, window_px, tuple(mean), tuple(std)


def _output(fields: _Fields, channels: int, window_px: int, written: int) -> Legend:
    fields.expect("name", "logits")
    fields.expect("tasks", _TASKS)
    fields.expect("result", _structure(channels, window_px, "class"))
    classes = [_class(row, written) for row in fields.rows("classification:classes")]
    fields.finish()
    return Legend(tuple(sorted(classes, key=lambda land_cover: land_cover.code)))


def _class(fields: _Fields, written: int) -> LandCover:
    code, name, hint = fields.take("value", int), fields.take("name", str), fields.take("color_hint", str)
    if written > 1:
        fields.take("description", str)  # for other programs; geoseg shows names
    fields.finish()
    if len(hint) != 6 or not set(hint) <= set("0123456789ABCDEFabcdef"):
        raise ModelError(f"color_hint must be six hexadecimal digits, got {one_line(repr(hint), 40)}")
    red, green, blue = bytes.fromhex(hint)
    return LandCover(code, name, (red, green, blue))


def _class_to_mlm(land_cover: LandCover) -> dict[str, Any]:
    name, hint = land_cover.name, bytes(land_cover.color).hex().upper()
    return {"value": land_cover.code, "name": name, "description": name, "color_hint": hint}


def _statistics(fields: _Fields) -> BandStatistics:
    values = {key: fields.several(key, float) for key in _STATISTICS}
    fields.finish()
    if len({len(numbers) for numbers in values.values()}) != 1:
        raise ModelError(
            f"geoseg:statistics must be equally many numbers each, got {[len(v) for v in values.values()]}"
        )
    return BandStatistics(**values)


def _framework(architecture: str) -> str:
    return ONNX if architecture == ONNX else _FRAMEWORK


def _structure(channels: int, window_px: int, axis: str) -> dict[str, Any]:
    return {
        "shape": [-1, channels, window_px, window_px],
        "dim_order": ["batch", axis, "height", "width"],
        "data_type": "float32",
    }


def _pair(values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) != 2:
        raise ModelError(f"geoseg:value_range must be two numbers, got {len(values)}")
    return values[0], values[1]


def _is(value: object, kind: type) -> bool:
    return isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
