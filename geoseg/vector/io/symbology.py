"""How QGIS draws a layer of polygons: each class in its color, under its name."""

from __future__ import annotations

from collections.abc import Collection
from xml.etree import ElementTree as ET

from geoseg.raster.landcover import QGIS_DOCTYPE
from geoseg.vector.polygons import PolygonLayer

_ALIASES = {
    "code": "Code",
    "name": "Class",
    "area_m2": "Area (m²)",
    "area_px": "Area (pixels)",
    "perimeter_m": "Perimeter (m)",
    "perimeter_px": "Perimeter (pixels)",
    "confidence": "Mean confidence",
}
"""How QGIS heads the columns."""
MOST_CATEGORIES = 4096
"""More, as a raster of parcel or segment numbers has them, no one tells apart: QGIS opens slowly, memory goes."""


def categorized_style(layer: PolygonLayer, codes: Collection[int]) -> str | None:
    """Return a QML document: a category for each class of the legend, and for whichever of the codes the legend lacks.

    Where these are more than MOST_CATEGORIES, only for the codes; None where they alone are more. Categories go by
    code: two classes may share a name.
    """
    shown = {*codes, *(named.code for named in layer.legend)}
    if len(shown) > MOST_CATEGORIES:
        shown = set(codes)
    if len(shown) > MOST_CATEGORIES:
        return None
    root = ET.Element("qgis", version="3.16.0", styleCategories="Symbology|Fields")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="code", symbollevels="0", enableorderby="0", forceraster="0"
    )
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, named in enumerate(layer.legend.completed(shown)):
        value, label = str(named.code), named.name
        ET.SubElement(
            categories, "category", value=value, label=label, symbol=str(number), render="true", type="integer"
        )
        symbols.append(_fill(number, named.color))
    ET.SubElement(root, "blendMode").text = "0"
    ET.SubElement(root, "layerGeometryType").text = "2"
    aliases = ET.SubElement(root, "aliases")
    for index, field in enumerate(("code", "name", *layer.numbers)):
        ET.SubElement(aliases, "alias", index=str(index), field=field, name=_ALIASES[field])
    ET.indent(root)
    return f"{QGIS_DOCTYPE}{ET.tostring(root, encoding='unicode')}\n"


def _fill(number: int, color: tuple[int, int, int]) -> ET.Element:
    symbol = ET.Element("symbol", name=str(number), type="fill", alpha="1", clip_to_extent="1", force_rhr="0")
    fill = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    text = "{},{},{},255".format(*color)
    # A hairline of the same color: without one, the background shows through between neighbors.
    properties = {
        "color": text,
        "style": "solid",
        "outline_color": text,
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    options = ET.SubElement(fill, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
    for key, value in properties.items():  # QGIS before 3.26 reads these
        ET.SubElement(fill, "prop", k=key, v=value)
    return symbol
