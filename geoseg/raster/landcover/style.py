"""What stands beside a map: class names and colors for GDAL (`.aux.xml`) and a style for QGIS (`.qml`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from geoseg.legend import Legend
from geoseg.raster.landcover.product import Product

_DOCTYPE = "<!DOCTYPE qgis>\n"  # QGIS itself writes a longer one
_OURS = _DOCTYPE.encode()
_OUR_NAMES = "geoseg"
_CONFIDENCE_RAMP = ((0, "#d7191c"), (25, "#fdae61"), (50, "#ffffbf"), (75, "#a6d96a"), (100, "#1a9641"))
_INTEGER, _TEXT = 0, 2
_COLUMNS = (
    ("Value", _INTEGER, 5),
    ("Class", _TEXT, 2),
    ("Red", _INTEGER, 6),
    ("Green", _INTEGER, 7),
    ("Blue", _INTEGER, 8),
)
"""Title, GDALRATFieldType, GDALRATFieldUsage (GFU_MinMax, GFU_Name, GFU_Red ...) of the attribute table."""


def names_path(target: Path) -> Path:
    """Return where GDAL looks for class names: `landcover.tif.aux.xml`."""
    return target.with_name(f"{target.name}.aux.xml")


def style_path(target: Path) -> Path:
    """Return where QGIS looks for a style: `landcover.qml`."""
    return target.with_suffix(".qml")


def is_foreign_style(path: Path) -> bool:
    """Say whether a `.qml` was written by somebody else: QGIS gives one name to the styles of `a.tif` and `a.gpkg`."""
    try:
        with path.open("rb") as file:
            return not file.read(len(_OURS)).startswith(_OURS)
    except FileNotFoundError:
        return False


def is_foreign_names(path: Path) -> bool:
    """Say whether an `.aux.xml` was written by somebody else; GDAL writes one with the statistics it has measured."""
    try:
        with path.open("rb") as file:
            return not file.read(100).startswith(f"<PAMDataset>\n  <!--{_OUR_NAMES}-->".encode())
    except FileNotFoundError:
        return False


def sidecars(target: Path, product: Product, place: Sequence[ET.Element] = ()) -> Iterator[tuple[Path, bytes | None]]:
    """Yield each sidecar of a map and what stands in it; None where the product has none.

    `place` are the elements of GDAL's `.aux.xml` for a CRS that a GeoTIFF cannot hold.
    """
    legend = product.legend
    yield names_path(target), _names(legend, place) if legend or place else None
    yield style_path(target), _palette(legend) if legend else _composite() if product.count >= 3 else _ramp()


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
    band.append(_attribute_table(legend))
    return _bytes(root)


def _attribute_table(legend: Legend) -> ET.Element:
    """Return names and colors as QGIS 3.30, terra and GeoServer look for them.

    https://gdal.org/user/raster_data_model.html#raster-attribute-table
    """
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    for number, (title, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(number))
        for name, value in (("Name", title), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(column, name).text = value
    for number, land_cover in enumerate(legend):
        row = ET.SubElement(table, "Row", index=str(number))
        for cell in (land_cover.code, land_cover.name, *land_cover.color):
            ET.SubElement(row, "F").text = str(cell)
    return table


def _palette(legend: Legend) -> bytes:
    """Return a paletted renderer with exactly the classes; without it QGIS lists all 256 values."""
    root, pipe = _qgis()
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    ET.SubElement(renderer, "rasterTransparency")
    entries = ET.SubElement(renderer, "colorPalette")
    for land_cover in legend:
        ET.SubElement(
            entries,
            "paletteEntry",
            value=str(land_cover.code),
            color="#{:02x}{:02x}{:02x}".format(*land_cover.color),
            alpha="255",
            label=land_cover.name,
        )
    return _bytes(_finished(root, pipe))


def _ramp() -> bytes:
    root, pipe = _qgis()
    renderer = ET.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band="1",
        opacity="1",
        alphaBand="-1",
        nodataColor="",
        classificationMin="0",
        classificationMax="100",
    )
    ET.SubElement(renderer, "rasterTransparency")
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
    return _bytes(_finished(root, pipe))


def _composite() -> bytes:
    """Return the first three bands as red, green and blue from 0 to 100 percent: of 255 they would be nearly black."""
    root, pipe = _qgis()
    renderer = ET.SubElement(
        pipe,
        "rasterrenderer",
        type="multibandcolor",
        redBand="1",
        greenBand="2",
        blueBand="3",
        opacity="1",
        alphaBand="-1",
        nodataColor="",
    )
    ET.SubElement(renderer, "rasterTransparency")
    ET.SubElement(ET.SubElement(renderer, "minMaxOrigin"), "limits").text = "None"
    for color in ("red", "green", "blue"):
        stretch = ET.SubElement(renderer, f"{color}ContrastEnhancement")
        for name, value in (("minValue", "0"), ("maxValue", "100"), ("algorithm", "StretchToMinimumMaximum")):
            ET.SubElement(stretch, name).text = value
    return _bytes(_finished(root, pipe))


def _qgis() -> tuple[ET.Element, ET.Element]:
    root = ET.Element("qgis", version="3.16.0", styleCategories="Symbology", hasScaleBasedVisibilityFlag="0")
    return root, ET.SubElement(root, "pipe")


def _finished(root: ET.Element, pipe: ET.Element) -> ET.Element:
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(root, "blendMode").text = "0"
    return root


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    doctype = _DOCTYPE if root.tag == "qgis" else ""
    return f"{doctype}{ET.tostring(root, encoding='unicode')}\n".encode()
