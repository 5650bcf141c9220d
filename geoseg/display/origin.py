"""What a map is called and where it comes from, in words: title, description, model, warnings, date of the imagery."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Self

from geoseg.display.code_table import typical_gsd_m
from geoseg.errors import UsageError
from geoseg.raster import GeoBox, Scene, opened

_TITLE_LETTERS, _TEXT_LETTERS = 200, 10_000
_NAME_LETTERS, _SENTENCE_LETTERS, _MOST_SENTENCES = 100, 300, 8
"""How much of what a file says of itself is shown: anybody can have written it."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Heading:
    """What a page or a picture is called, and what is said below that. UsageError where it cannot be."""

    title: str | None = None
    """On one line."""
    description: str | None = None
    """An empty line begins a paragraph."""

    def __post_init__(self) -> None:
        title, text = self.title, self.description
        if title is not None and not (0 < len(title.strip()) <= _TITLE_LETTERS and title.isprintable()):
            raise UsageError(
                f"`title` must be 1 to {_TITLE_LETTERS} characters on one line, got {title!r:.80}; "
                "more can be said in `description`",
                "title",
            )
        if text is not None and not 0 < len(text.strip()) <= _TEXT_LETTERS:
            raise UsageError(
                f"`description` must be 1 to {_TEXT_LETTERS:,} characters, got {len(text.strip()):,}; "
                "leave it out, or shorten it",
                "description",
            )

    @property
    def paragraphs(self) -> list[str]:
        """The description, its lines joined."""
        parts = re.split(r"\n[ \t]*\n", (self.description or "").replace("\r\n", "\n"))
        return [" ".join(part.split()) for part in parts if part.strip()]


@dataclass(frozen=True, slots=True)
class Origin:
    """What `predict` noted in a map; a map of others says nothing of this."""

    model: str | None = None
    about: str | None = None
    """What the model is, in a sentence."""
    cautions: tuple[str, ...] = ()
    """How the scene is unlike the imagery that the model was trained on, in sentences."""
    scene: str | None = None
    """The name of the scene's file."""

    @classmethod
    def of(cls, landcover: Scene) -> Self:
        """Read the tags of a map."""
        with opened(landcover.path) as dataset:
            tags = dataset.tags()

        def said(tag: str, letters: int) -> str | None:
            return " ".join(tags.get(f"GEOSEG_{tag}", "").split())[:letters] or None

        return cls(
            said("MODEL_NAME", _NAME_LETTERS),
            said("MODEL_ABOUT", _SENTENCE_LETTERS),
            _sentences(tags.get("GEOSEG_WARNINGS", "[]")),
            said("SCENE_PATH", _NAME_LETTERS),
        )


def _sentences(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    texts = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    return tuple(" ".join(each.split())[:_SENTENCE_LETTERS] for each in texts[:_MOST_SENTENCES] if each.strip())


def imaged_on(scene: Scene) -> str | None:
    """Return the day on which a scene was taken, such as 2023-06-14, where its file says so (GDAL's domain IMAGERY)."""
    with opened(scene.path) as dataset:
        found = _DATE.match(dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", ""))
    return found[0] if found else None


def facts_of(landcover: Scene) -> str:
    """Return size, pixel and CRS of a map, on one line."""
    box = landcover.geobox
    crs = box.crs if box.has_transform else box.gcp_crs
    authority = None if crs is None else crs.to_authority()
    place = "no CRS" if crs is None else ":".join(authority) if authority else "own CRS"
    size = f"{box.width_px:,} \u00d7 {box.height_px:,} px".replace(",", "\u202f")
    return " · ".join([size, *_pixel(box), place])


def _pixel(box: GeoBox) -> list[str]:
    """Return what a pixel measures, as people say it."""
    gsd_m = typical_gsd_m(box)
    if gsd_m is None:
        return []
    if box.crs is not None and box.crs.is_geographic and box.has_transform:
        return [f"{math.sqrt(abs(box.transform.determinant)) * math.degrees(box.crs.units_factor[1]):.3g}°"]
    return [f"{gsd_m / 1000:.3g} km" if gsd_m >= 1000 else f"{gsd_m:.3g} m"]
