"""Facts of a model: what it takes, what it gives, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoseg.inspection.facts import Facts
from geoseg.model import ModelBundle, output_classes, read_config, read_header

_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
"""Its first 16 letters are enough for people."""


def model_facts(bundle: ModelBundle) -> Facts:
    """Return the facts of a model; its weights are counted, not loaded."""
    parameters = read_header(bundle.weights_path).parameters
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
    return Facts("model", str(bundle.weights_path), values, tuple(_lines(bundle, parameters)))


def folder_facts(folder: Path) -> Facts:
    """Return what a folder written by smp's save_pretrained says of itself; ModelError if it cannot be used."""
    architecture, arguments = read_config(folder)
    parameters = read_header(folder / "model.safetensors").parameters
    values = {"architecture": architecture, "arguments": arguments, "parameters": parameters}
    lines = (
        ("network", _network(architecture, arguments, parameters)),
        ("takes", f"{arguments['in_channels']} bands; `mean` and `std` must be given to predict"),
        ("gives", f"{output_classes(arguments)} classes; `legend` must be given to predict"),
    )
    return Facts("model", str(folder), values, lines)


def _network(architecture: str, arguments: dict[str, Any], parameters: int) -> str:
    encoder = arguments.get("encoder_name")
    return f"{architecture}{f' on {encoder}' if encoder else ''}, {parameters / 1e6:.2f} million parameters"


def _lines(bundle: ModelBundle, parameters: int) -> Iterator[tuple[str, str]]:
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
    for code in bundle.output_codes:
        yield f"class {code}", bundle.legend.by_code(code).name
    yield from _plain(bundle.provenance)
    yield from _plain(bundle.metrics)


def _plain(values: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what fits on a line; the rest is in the JSON."""
    for name, value in values.items():
        label = name.replace("_", " ")
        if isinstance(value, float):
            yield label, f"{value:.4g}"
        elif isinstance(value, str | int):
            yield label, _SHA256.sub(lambda digest: digest[0][:16], str(value))
