"""Bands: their statistics, and the choice of those a model needs, by color interpretation, description or order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError, UsageError, numbered
from geoseg.typed import checked

_LOW_PERCENT, _HIGH_PERCENT = 2.0, 98.0
_COUNTED_BYTES = 2
"""Integers up to this size are counted for percentiles: sorting them takes ten times as long."""
_UNSPECIFIED = {"gray", "undefined", "palette", ""}
_PLACEHOLDER = re.compile(r"band_\d+")
"""What `Scene.band_names` calls a band without a name."""
_SYNONYMS = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "n": "nir",
    "near_infrared": "nir",
    "nearinfrared": "nir",
    "near_ir": "nir",
    "infrared": "nir",
    "red_edge": "rededge",
    "panchromatic": "pan",
}


@dataclass(frozen=True, slots=True)
@checked
class BandStatistics:
    """Per band, in the order of the bands used, in stored units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    """The 2nd percentile."""
    high: tuple[float, ...]
    """The 98th percentile."""


@dataclass(frozen=True, slots=True)
class BandNames:
    """What a file says about its bands, in order; "" where it says nothing."""

    colors: tuple[str, ...]
    """GDAL's color interpretation in lower case: red, nir, alpha, undefined..."""
    descriptions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.colors)

    def listed(self) -> str:
        """List all bands on one line, for an error message."""
        return ", ".join(
            f"{index} {color}{f' {text!r}' if text else ''}"
            for index, (color, text) in enumerate(zip(self.colors, self.descriptions, strict=True), start=1)
        )


@dataclass(frozen=True, slots=True)
class BandChoice:
    """The bands to read, 1-based, and one line that explains the choice."""

    indexes: tuple[int, ...]
    line: str


def name_of(color: str, description: str) -> str:
    """Return the name of a band: its color interpretation if that is informative, else its description, maybe ""."""
    return description if color in _UNSPECIFIED else color


def choose_bands(
    names: BandNames, bands: Sequence[int | str] | None = None, wanted: Sequence[str] | None = None
) -> BandChoice:
    """Choose the bands for a model that needs `wanted`, unless the user chose them with `bands`.

    A band is recognized by its color interpretation, else by its description. A wanted band that is not recognized
    takes the next band the file says nothing about; one without a name, such as band_4, else any other. Alpha is used
    only if `bands` gives its number. Raises UsageError if a band the user chose is not in the file, SceneError if the
    file lacks a wanted band.
    """
    if bands is not None:
        return _chosen_by_user(names, bands, wanted)
    if wanted is not None and not wanted:
        raise UsageError("`wanted_bands` is empty; name the model's bands, or leave it out", "wanted_bands")
    candidates = [index for index, color in enumerate(names.colors, start=1) if color != "alpha"]
    if not candidates:
        raise SceneError(f"the only band is alpha; bands: {names.listed()}; give a scene with image bands")
    if wanted is None:
        which = "all" if len(candidates) == len(names) else "all but alpha"
        return BandChoice(tuple(candidates), f"bands {_commas(candidates)} ({which})")
    if names.colors[0] == "palette" and len(wanted) > 1:
        raise SceneError(
            f"the scene is paletted (one band of palette indexes), the model needs {numbered(len(wanted), 'band')} "
            f"({', '.join(wanted)}); expand it first, with PCT to RGB in QGIS or gdal_translate -expand rgb"
        )
    if len(candidates) < len(wanted):
        raise SceneError(
            f"the model needs {numbered(len(wanted), 'band')} ({', '.join(wanted)}), the scene has {len(candidates)}: "
            f"{names.listed()}; {_too_few_bands_hint(names, candidates, len(wanted))}",
            "bands",
        )
    return _matched(names, candidates, wanted)


def _too_few_bands_hint(names: BandNames, candidates: Sequence[int], count: int) -> str:
    """Return advice for a scene with too few bands: many programs mark any fourth band as alpha."""
    if len(names) < count or len(names) == len(candidates):
        return f"give another model, or repeat a band with `bands=({_commas([candidates[0]] * count)})`"
    all_indexes = _commas(range(1, count + 1))
    return f"if the band marked as alpha is image data (near infrared), say so with `bands=({all_indexes})`"


def _chosen_by_user(names: BandNames, bands: Sequence[int | str], wanted: Sequence[str] | None) -> BandChoice:
    indexes = tuple(_index(names, band) for band in bands)
    if not indexes:
        raise UsageError("`bands` is empty; give band numbers from 1, such as 3,2,1, or names", "bands")
    if wanted is not None and len(indexes) != len(wanted):
        raise UsageError(
            f"the model needs {numbered(len(wanted), 'band')} ({', '.join(wanted)}), `bands` gives {len(indexes)}",
            "bands",
        )
    alphas = [index for index in dict.fromkeys(indexes) if names.colors[index - 1] == "alpha"]
    more = f"; band {_commas(alphas)}, marked as alpha, is used as image data and masks no pixel" if alphas else ""
    return BandChoice(indexes, f"bands {_commas(indexes)} (as given{more})")


def _index(names: BandNames, band: int | str) -> int:
    if isinstance(band, str) and band.strip().isdecimal():
        band = int(band)
    if isinstance(band, int):
        if not 1 <= band <= len(names):
            raise UsageError(
                f"band {band} does not exist; the scene has {len(names)}, numbered from 1: {names.listed()}", "bands"
            )
        return band
    for texts in (names.colors, names.descriptions):
        matching = [index for index, text in enumerate(texts, start=1) if _normalized(text) == _normalized(band)]
        if len(matching) == 1 and names.colors[matching[0] - 1] != "alpha":
            return matching[0]
    raise UsageError(f"no band is called {band!r}; the scene has {names.listed()}", "bands")


def _matched(names: BandNames, candidates: Sequence[int], wanted: Sequence[str]) -> BandChoice:
    by_color = {_normalized(names.colors[index - 1]): index for index in reversed(candidates)}
    unspecified = [index for index in candidates if names.colors[index - 1] in _UNSPECIFIED]
    by_text = {_normalized(names.descriptions[index - 1]): index for index in reversed(unspecified)}
    index_by_name = {name: by_color.get(_normalized(name)) or by_text.get(_normalized(name)) for name in wanted}
    taken = {index for index in index_by_name.values() if index is not None}
    if not taken:
        first = candidates[: len(wanted)]
        return BandChoice(
            tuple(first),
            f"bands {_commas(first)} (the first {len(wanted)}; the file does not name them {', '.join(wanted)})",
        )
    free = [index for index in candidates if index not in taken]
    indexes = tuple(index_by_name[name] or _next_free(names, free, name) for name in wanted)
    if 0 in indexes:
        missing = [name for name, index in zip(wanted, indexes, strict=True) if index == 0]
        raise SceneError(
            f"no band is recognized as {', '.join(missing)}; the scene has {names.listed()}; "
            f"choose with `bands`, in the order {', '.join(wanted)}",
            "bands",
        )
    return BandChoice(
        indexes, f"bands {_commas(indexes)} ({', '.join(wanted)} by {_reason(wanted, index_by_name, by_color)})"
    )


def _reason(wanted: Sequence[str], index_by_name: dict[str, int | None], by_color: dict[str, int]) -> str:
    ways = [
        ("color interpretation", any(_normalized(name) in by_color for name in wanted)),
        ("description", any(index_by_name[name] and _normalized(name) not in by_color for name in wanted)),
        ("order", any(index_by_name[name] is None for name in wanted)),
    ]
    return " and ".join(way for way, used in ways if used)


def _next_free(names: BandNames, free: list[int], name: str) -> int:
    """Take the first free band that the file does not name; 0 if there is none.

    A wanted band without a name, such as band_4, may also be one that the file names.
    """
    nameless = [index for index in free if _is_nameless(names, index)]
    chosen = next(iter(nameless or (free if _PLACEHOLDER.fullmatch(name) else ())), 0)
    if chosen:
        free.remove(chosen)
    return chosen


def _is_nameless(names: BandNames, index: int) -> bool:
    return (
        names.colors[index - 1] in _UNSPECIFIED and _normalized(names.descriptions[index - 1]) not in _SYNONYMS.values()
    )


def _normalized(name: str) -> str:
    lowered = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
    return _SYNONYMS.get(lowered, lowered)


def _commas(indexes: Sequence[int]) -> str:
    return ",".join(map(str, indexes))


def band_statistics(pixels: NDArray[np.generic]) -> BandStatistics | None:
    """Measure pixels (band, n), all valid; None if there are none."""
    if pixels.shape[1] == 0:
        return None
    is_counted = pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= _COUNTED_BYTES
    of_band = map(_counted_statistics if is_counted else _sorted_statistics, pixels)  # a scene may have 200 bands
    return BandStatistics(*map(tuple, zip(*of_band, strict=True)))


def _sorted_statistics(values: NDArray[Any]) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, low and high of any numbers."""
    values = values.astype(np.float64)
    low, high = np.percentile(values, (_LOW_PERCENT, _HIGH_PERCENT))
    return float(values.mean()), float(values.std()), float(low), float(high)


def _counted_statistics(values: NDArray[Any]) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, low and high of small integers, from the count of each value."""
    least = int(np.iinfo(values.dtype).min)
    counts = np.bincount(values.astype(np.intp) - least)
    numbers, up_to = np.arange(least, least + len(counts), dtype=np.float64), np.cumsum(counts)
    mean = float(counts @ numbers) / values.size
    std = (float(counts @ (numbers - mean) ** 2) / values.size) ** 0.5
    places = (values.size - 1) * np.array((_LOW_PERCENT, _HIGH_PERCENT)) / 100
    below, above = (numbers[np.searchsorted(up_to, around(places), "right")] for around in (np.floor, np.ceil))
    low, high = below + (above - below) * (places - np.floor(places))
    return mean, std, float(low), float(high)


def natural_colors(data: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return imagery (band, row, col) as red, green and blue (3, row, col), with one stretch that keeps colors true.

    These are its first three bands, or its first as gray if there are fewer. `low` and `high` are the stored values
    that become 0 and 255.
    """
    bands = data[:3] if len(data) >= 3 else data[[0, 0, 0]]
    light = np.clip((bands.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1)
    colors: NDArray[np.uint8] = (light * 255 + 0.5).astype(np.uint8)
    return colors
