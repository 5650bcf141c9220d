"""A map's name and origin as text: title, description, model, warnings, date of the imagery."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rasterio.crs import CRS

from geoseg.display.code_table import typical_gsd_m
from geoseg.errors import UsageError
from geoseg.raster import GeoBox, Scene, opened, shown, sources_of

_TITLE_LETTERS, _TEXT_LETTERS = 200, 10_000
_NAME_LETTERS, _SENTENCE_LETTERS, _MOST_SENTENCES = 100, 300, 8
"""Limits on the text shown from a file, which is not trusted."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a page or a picture, and the text below it. UsageError if either is invalid."""

    title: str | None = None
    """One line."""
    description: str | None = None
    """An empty line starts a paragraph."""

    def __post_init__(self) -> None:
        title, text = self.title, self.description
        if title is not None and not (0 < len(title.strip()) <= _TITLE_LETTERS and title.isprintable()):
            raise UsageError(
                f"`title` must be 1 to {_TITLE_LETTERS} characters on one line, got {title!r:.80}; "
                "put more into `description`",
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
        """The paragraphs of the description, each as one line."""
        parts = re.split(r"\n[ \t]*\n", (self.description or "").replace("\r\n", "\n"))
        return [" ".join(part.split()) for part in parts if part.strip()]


@dataclass(frozen=True, slots=True)
class Origin:
    """What `predict` recorded in a map; empty for maps from other programs."""

    model: str | None = None
    about: str | None = None
    """A sentence that describes the model."""
    cautions: tuple[str, ...] = ()
    """How the scene differs from the model's training imagery, in sentences."""
    scene: str | None = None
    """The name of the scene's file."""

    @property
    def model_text(self) -> str | None:
        """The model's name, with its description in parentheses."""
        return f"{self.model} ({self.about})" if self.model and self.about else self.model

    @classmethod
    def of(cls, landcover: Scene) -> Self:
        """Read the tags of a map."""
        with opened(landcover.path) as dataset:
            tags = dataset.tags()

        def tag_text(tag: str, letters: int) -> str | None:
            return " ".join(tags.get(f"GEOSEG_{tag}", "").split())[:letters] or None

        return cls(
            tag_text("MODEL_NAME", _NAME_LETTERS),
            tag_text("MODEL_ABOUT", _SENTENCE_LETTERS),
            _sentences(tags.get("GEOSEG_WARNINGS", "[]")),
            tag_text("SCENE_PATH", _NAME_LETTERS),
        )


def _sentences(text: str) -> tuple[str, ...]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    texts = [sentence for sentence in values if isinstance(sentence, str)] if isinstance(values, list) else []
    return tuple(
        " ".join(sentence.split())[:_SENTENCE_LETTERS] for sentence in texts[:_MOST_SENTENCES] if sentence.strip()
    )


def scene_line(scene: Scene) -> str:
    """Return a scene's file name, with its acquisition date if the file has it (GDAL's domain IMAGERY)."""
    with opened(scene.path) as dataset:
        day = _DATE.match(dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", ""))
    return f"Scene: {Path(shown(scene.path)).name}{f', taken on {day[0]}' if day else ''}"


def facts_of(landcover: Scene) -> str:
    """Return the size, pixel size and CRS of a map, on one line."""
    box = landcover.geobox
    crs = crs_text(box.crs if box.has_transform else box.gcp_crs)
    size = f"{grouped(box.width_px)} \u00d7 {grouped(box.height_px)} px"
    return " · ".join([size, *_pixel(box), crs])


def crs_text(crs: CRS | None) -> str:
    """Return the name of a CRS."""
    return "no CRS" if crs is None else ":".join(crs.to_authority() or ("own CRS",))


def grouped(number: float, decimals: int = 0) -> str:
    """Return a number with thin spaces between its thousands."""
    return f"{number:,.{decimals}f}".replace(",", "\u202f")


def name_of(landcover: Scene) -> str:
    """Return a map's default name: that of its file, or of the first of several."""
    first, *others = sources_of(landcover.path)
    stem = Path(shown(first)).stem or "Land cover"
    return f"{stem} and {len(others)} more" if others else stem


def _pixel(box: GeoBox) -> list[str]:
    gsd_m = typical_gsd_m(box)
    if gsd_m is None:
        return []
    if box.crs is not None and box.crs.is_geographic and box.has_grid:
        return [f"{math.sqrt(abs(box.transform.determinant)) * math.degrees(box.crs.units_factor[1]):.3g}°"]
    return [f"{gsd_m / 1000:.3g} km" if gsd_m >= 1000 else f"{gsd_m:.3g} m"]
