"""Facts of a raster: its grid, place, bands and statistics."""

from __future__ import annotations

from geoseg.inspection.facts import Facts
from geoseg.raster import BandStatistics, GeoBox, Scene, shown

STRETCHED = 1.02
"""From here on both sides of a pixel are told."""


def scene_facts(scene: Scene) -> Facts:
    """Return the facts of a scene; its statistics come from overviews or a sample. SceneError if it cannot be read."""
    statistics = scene.statistics()
    values = grid_values(scene) | _band_values(scene, statistics)
    return Facts("scene", shown(scene.path), values, (*grid_lines(scene), *_band_lines(scene, statistics)))


def grid_values(scene: Scene) -> dict[str, object]:
    """Return size, storage and place as plain values."""
    box = scene.geobox
    return {
        "driver": scene.driver,
        "rows": box.height_px,
        "columns": box.width_px,
        "dtype": scene.dtype,
        "block": list(scene.block_shape),
        "nodata": scene.nodata,
        "crs": box.crs.to_string() if box.crs else None,
        "transform": list(box.transform)[:6] if box.has_transform else None,
        "gcps": len(box.gcps),
        "rpcs": box.rpcs is not None,
        "gsd_m": box.gsd_m,
        "pixel_m": None if box.pixel_m is None else list(box.pixel_m),
    }


def grid_lines(scene: Scene) -> tuple[tuple[str, str], ...]:
    """Return size, storage and place in words."""
    box = scene.geobox
    rows, cols = scene.block_shape
    fault = box.gcp_fault
    return (
        ("size", f"{_count(box.height_px, 'row')} x {_count(box.width_px, 'column')}, {_pixels(box)}"),
        ("stored", f"{scene.driver}, {scene.dtype}, blocks of {rows} x {cols}"),
        ("nodata", "none" if scene.nodata is None else f"{scene.nodata:g}"),
        ("place", _place(box)),
        *([("", fault)] if fault else []),
    )


def _place(box: GeoBox) -> str:
    if not (box.has_place or box.gcps):
        return "unknown: no CRS, ground control points or RPCs"
    ways = []
    if box.crs is not None:
        name = box.crs.to_string()
        kind = "projected CRS" if box.crs.is_projected else "geographic CRS"
        ways.append(name if name.startswith("EPSG:") else kind)
    if box.gcps:
        ways.append(f"{len(box.gcps)} ground control point{'s' * (len(box.gcps) != 1)}")
    if box.rpcs is not None:
        ways.append("RPCs")
    return f"{', '.join(ways)}; {_pixel_size(box)}"


def _pixel_size(box: GeoBox) -> str:
    if box.gsd_m is None or box.pixel_m is None:
        return "unknown pixel size"
    said = f"{_length(box.gsd_m)} a pixel"
    if box.stretch < STRETCHED:
        return said
    height_m, width_m = box.pixel_m
    return f"{said}, not square on the ground: {_length(height_m)} high, {_length(width_m)} wide"


def _length(length_m: float) -> str:
    return f"{length_m / 1000:.4g} km" if length_m >= 1000 else f"{length_m:.4g} m"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _pixels(box: GeoBox) -> str:
    pixels = box.height_px * box.width_px
    return f"{pixels / 1e6:.1f} Mpx" if pixels >= 100_000 else f"{pixels} px"


def _band_values(scene: Scene, statistics: BandStatistics | None) -> dict[str, object]:
    return {
        "bands": [
            {"index": index, "color": color, "description": description}
            for index, (color, description) in enumerate(zip(scene.colors, scene.descriptions, strict=True), start=1)
        ],
        "statistics": None if statistics is None else _statistics(scene, statistics),
    }


def _statistics(scene: Scene, statistics: BandStatistics) -> list[dict[str, object]]:
    columns = zip(scene.band_indexes, statistics.mean, statistics.std, statistics.low, statistics.high, strict=True)
    return [
        {"band": band, "mean": mean, "std": std, "low": low, "high": high} for band, mean, std, low, high in columns
    ]


def _band_lines(scene: Scene, statistics: BandStatistics | None) -> tuple[tuple[str, str], ...]:
    measured = {} if statistics is None else dict(zip(scene.band_indexes, _measured(statistics), strict=True))
    lines = []
    for index, (color, description) in enumerate(zip(scene.colors, scene.descriptions, strict=True), start=1):
        said = " ".join(word for word in (color, f'"{description}"' if description else "") if word)
        lines.append((f"band {index}", f"{said}{measured.get(index, '')}"))
    if statistics is None:
        lines.append(("pixels", "none valid"))
    return tuple(lines)


def _measured(statistics: BandStatistics) -> list[str]:
    columns = zip(statistics.mean, statistics.std, statistics.low, statistics.high, strict=True)
    return [f": about {mean:.4g} ± {std:.4g}, most from {low:.4g} to {high:.4g}" for mean, std, low, high in columns]
