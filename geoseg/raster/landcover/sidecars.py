"""Sidecars of a map: class names and colors for GDAL (`.aux.xml`), a style for QGIS (`.qml`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from geoseg.legend import Legend, attribute_table_of, color_palette
from geoseg.raster.landcover.product import Product

QGIS_DOCTYPE = "<!DOCTYPE qgis>\n"
"""QGIS itself writes a longer one, so this identifies ours."""
_OUR_NAMES = "geoseg"
_CONFIDENCE_RAMP = ((0, "#d7191c"), (25, "#fdae61"), (50, "#ffffbf"), (75, "#a6d96a"), (100, "#1a9641"))


def names_path(target: Path) -> Path:
    """Return where GDAL looks for class names: `landcover.tif.aux.xml`."""
    return target.with_name(f"{target.name}.aux.xml")


def style_path(target: Path) -> Path:
    """Return where QGIS looks for a style: `landcover.qml`."""
    return target.with_suffix(".qml")


def is_foreign_style(path: Path) -> bool:
    """Return whether another program wrote a `.qml`: QGIS uses one name for the styles of `a.tif` and `a.gpkg`."""
    return _is_foreign(path, QGIS_DOCTYPE.encode())


def is_foreign_names(path: Path) -> bool:
    """Return whether another program wrote an `.aux.xml`; GDAL stores computed statistics in one."""
    return _is_foreign(path, f"<PAMDataset>\n  <!--{_OUR_NAMES}-->".encode())


def _is_foreign(path: Path, our_start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(our_start)) != our_start
    except FileNotFoundError:
        return False


def sidecars(target: Path, product: Product, place: Sequence[ET.Element] = ()) -> Iterator[tuple[Path, bytes | None]]:
    """Yield each sidecar of a map and its content; None if the product has none.

    `place` are the elements of GDAL's `.aux.xml` for a CRS that a GeoTIFF cannot hold.
    """
    legend = product.legend
    yield names_path(target), _names(legend, place) if legend or place else None
    yield style_path(target), _style(_palette(legend) if legend else _composite() if product.count >= 3 else _ramp())


def _names(legend: Legend | None, place: Sequence[ET.Element]) -> bytes:
    """Return category names by pixel value and an attribute table: GDAL 3.10 cannot keep them inside a GeoTIFF."""
    root = ET.Element("PAMDataset")
    root.append(ET.Comment(_OUR_NAMES))
    root.extend(place)
    if legend is None:
        return _bytes(root)
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    by_code = {land_cover.code: land_cover.name for land_cover in legend}
    for code in range(max(by_code) + 1):
        ET.SubElement(categories, "Category").text = by_code.get(code, "")
    band.append(attribute_table_of(legend))
    return _bytes(root)


def _ramp() -> ET.Element:
    renderer = _renderer("singlebandpseudocolor", band="1", classificationMin="0", classificationMax="100")
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue="0",
        maximumValue="100",
    )
    for percent, color in _CONFIDENCE_RAMP:
        ET.SubElement(shader, "item", value=str(percent), label=f"{percent} %", color=color, alpha="255")
    return renderer


def _composite() -> ET.Element:
    """Return the first three bands as red, green and blue from 0 to 100 percent: up to 255 would be nearly black."""
    renderer = _renderer("multibandcolor", redBand="1", greenBand="2", blueBand="3")
    ET.SubElement(ET.SubElement(renderer, "minMaxOrigin"), "limits").text = "None"
    for color in ("red", "green", "blue"):
        stretch = ET.SubElement(renderer, f"{color}ContrastEnhancement")
        for name, value in (("minValue", "0"), ("maxValue", "100"), ("algorithm", "StretchToMinimumMaximum")):
            ET.SubElement(stretch, name).text = value
    return renderer


def _palette(legend: Legend) -> ET.Element:
    """Return a palette of exactly the classes; without one QGIS lists all 256 values."""
    renderer = _renderer("paletted", band="1")
    renderer.append(color_palette(legend))
    return renderer


def _renderer(kind: str, **attributes: str) -> ET.Element:
    usual = {"type": kind, "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    renderer = ET.Element("rasterrenderer", usual | attributes)
    ET.SubElement(renderer, "rasterTransparency")
    return renderer


def _style(renderer: ET.Element) -> bytes:
    root = ET.Element("qgis", version="3.16.0", styleCategories="Symbology", hasScaleBasedVisibilityFlag="0")
    pipe = ET.SubElement(root, "pipe")
    pipe.append(renderer)
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(root, "blendMode").text = "0"
    return QGIS_DOCTYPE.encode() + _bytes(root)


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    return f"{ET.tostring(root, encoding='unicode')}\n".encode()
