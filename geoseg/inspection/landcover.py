"""Facts of a land-cover map: its grid, its classes and about how much of each, and where it comes from."""

from __future__ import annotations

import json

from geoseg.inspection.facts import Facts
from geoseg.inspection.scene import grid_lines, grid_values, scene_facts
from geoseg.legend import Legend, Nomenclature
from geoseg.raster import Scene, class_shares, opened, read_legend, read_nomenclature, shown
from geoseg.raster.landcover import LEGEND_TAG

_SAMPLE_PX = 1024
_TAG_PREFIX = "GEOSEG_"


def map_facts(scene: Scene) -> Facts:
    """Return the facts of a raster of class codes; shares are of a decimated read. SceneError if it cannot be read."""
    shares = class_shares(scene, _SAMPLE_PX)
    legend = read_legend(scene, shares) if scene.dtype == "uint8" else read_nomenclature(scene)
    tags = provenance(scene)
    values = grid_values(scene) | {"classes": _class_values(legend, shares), "provenance": tags}
    return Facts("map", shown(scene.path), values, (*grid_lines(scene), *_class_lines(legend, shares), *_origin(tags)))


def product_facts(scene: Scene) -> Facts:
    """Return the facts of a confidence or probability raster that geoseg wrote."""
    tags, facts = provenance(scene), scene_facts(scene)
    return Facts("map", shown(scene.path), facts.values | {"provenance": tags}, (*facts.lines, *_origin(tags)))


def provenance(scene: Scene) -> dict[str, str]:
    """Return what geoseg noted in a raster that it wrote; empty for all others."""
    with opened(scene.path) as dataset:
        return {name: text for name, text in dataset.tags().items() if name.startswith(_TAG_PREFIX)}


def _origin(tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what was noted, in words; what was left to geoseg (null) is in the JSON."""
    lines = [(_label(name), _in_words(text)) for name, text in tags.items() if name != LEGEND_TAG]
    return tuple((label, text) for label, text in lines if text)


def _in_words(text: str) -> str:
    """Return a tag's text on one line; a JSON list without its brackets, null as nothing."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if value is None:
        return ""
    words = ", ".join(map(str, value)) if isinstance(value, list) else text
    return " ".join(words.split())[:120]


def _label(tag: str) -> str:
    return tag.removeprefix(_TAG_PREFIX).replace("_", " ").lower()


def _class_values(legend: Legend | Nomenclature | None, shares: dict[int, float]) -> list[dict[str, object]]:
    if legend is None:
        return [{"code": code, "share": share} for code, share in shares.items()]
    return [
        {"code": each.code, "name": each.name, "color": list(each.color), "share": shares.get(each.code, 0.0)}
        for each in legend
    ]


def _class_lines(legend: Legend | Nomenclature | None, shares: dict[int, float]) -> list[tuple[str, str]]:
    names = {} if legend is None else {land_cover.code: land_cover.name for land_cover in legend}
    known = [(f"class {code}", f"{name}, about {shares.get(code, 0):.1%}") for code, name in names.items()]
    others = [(f"code {code}", f"unnamed, about {share:.1%}") for code, share in shares.items() if code not in names]
    return [*known, *others] or [("pixels", "none valid")]
