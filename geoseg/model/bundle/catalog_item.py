"""A model as a STAC item of the Machine Learning Model extension 1.5.2 (https://github.com/stac-extensions/mlm)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from geoseg.catalog import FILE_EXTENSION, STAC_VERSION, file_facts, modified_text
from geoseg.model.bundle.card import ModelCard
from geoseg.model.bundle.mlm import to_mlm

_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
    FILE_EXTENSION,
)
_WORLD = (-180.0, -90.0, 180.0, 90.0)
"""Where a model may be used is not known, and an item has a place."""
_MEDIA_TYPE = "application/octet-stream; application={}"
_ARTIFACTS = {
    ".safetensors": ("safetensors.torch.save_file", "safetensors"),
    ".pt2": ("torch.export.save", "pytorch"),
    ".onnx": ("torch.onnx.export", "onnx"),
}
"""What wrote a file, and for what, by its ending."""
_BETWEEN = re.compile(r"[^A-Za-z0-9_.\s-]+", re.ASCII)


def stac_item(card: ModelCard, file: Path, href: str) -> dict[str, Any]:
    """Return the item of a model in a file, of which `href` says where it is from the item's own place.

    A `.safetensors` bundle gives logits, what is exported from it probabilities. Both take what `value_scaling` makes
    of stored values.
    """
    artifact, application = _ARTIFACTS.get(file.suffix.lower(), ("torch.onnx.export", "onnx"))
    properties = to_mlm(card)
    (output,) = properties["mlm:output"]
    by_code = {row["value"]: row for row in output["classification:classes"]}
    output["classification:classes"] = [by_code[code] for code in card.output_codes]
    if file.suffix.lower() != ".safetensors":
        output["name"] = "probabilities"
    west, south, east, north = _WORLD
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(_EXTENSIONS),
        "id": _name(card.name).lower().replace(" ", "-"),
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        },
        "bbox": list(_WORLD),
        "properties": {
            "datetime": modified_text(file),
            "title": card.name,
            "description": _description(card),
            **{name: value for name, value in properties.items() if value is not None},
            "mlm:name": _name(card.name),
            "bands": [{"name": band} for band in card.bands],
        },
        "links": [],
        "assets": {
            "model": {
                "href": href,
                "title": card.name,
                "type": _MEDIA_TYPE.format(application),
                "roles": ["mlm:model", "mlm:weights", "data"],
                "mlm:artifact_type": artifact,
                **file_facts(file),
            }
        },
    }


def _description(card: ModelCard) -> str:
    names = ", ".join(card.legend.by_code(code).name for code in card.output_codes)
    return f"Land cover from {', '.join(card.bands)}: {names}. The classes are in the order of the output channels."


def _name(name: str) -> str:
    """Return a name as the extension allows it: letters, digits and a few signs, a letter first."""
    plain = " ".join(_BETWEEN.sub(" ", name).split()).strip("_.- ")
    plain = plain if plain[:1].isalpha() else f"model {plain}".strip()
    return plain if len(plain) > 2 else f"model {plain}"
