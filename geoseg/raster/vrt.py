"""The text of GDAL virtual rasters (VRT): no pixels, no files.

Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from rasterio._path import _parse_path, _vsi_path
from rasterio.crs import CRS
from rasterio.enums import WktVersion

from geoseg.errors import SceneError
from geoseg.legend import NODATA, Legend
from geoseg.raster.environment import GDAL_ERRORS
from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover import Product
from geoseg.raster.windows import Window

TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}
"""GDAL's names of numpy's types."""


@dataclass(frozen=True, slots=True)
class Source:
    """A rectangle of a file beside the VRT, and where its first pixel goes."""

    name: str
    shape: tuple[int, int]
    """(rows, cols) of the whole file."""
    block_px: int
    part: Window
    row: int
    col: int


def vrt_lines(
    shape: tuple[int, int],
    product: Product,
    sources: Iterable[Source],
    head: Iterable[str] = (),
    overviews: Iterable[str] = (),
) -> Iterator[str]:
    """Yield a VRT of `shape` (rows, cols) with the product's bands, each made of the same sources.

    `head` is text from `place_lines` and `metadata_lines`, `overviews` the names of VRTs beside it, largest first.
    """
    sources, overviews = tuple(sources), tuple(overviews)
    yield f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}">\n'
    yield from head
    for band, description in enumerate(product.bands, start=1):
        yield f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="512" blockYSize="512">\n'
        yield f"<Description>{escape(description)}</Description>\n<NoDataValue>{NODATA}</NoDataValue>\n"
        yield _colors(product.legend)
        for source in sources:
            yield _simple_source(source, band)
        for name in overviews:
            yield f"<Overview>{_file(name, band)}</Overview>\n"
        yield "</VRTRasterBand>\n"
    yield "</VRTDataset>\n"


def check_place(geobox: GeoBox) -> None:
    """Raise SceneError for a place that a map cannot keep: said before the work, and not when all tiles are done."""
    try:
        for _ in place_lines(geobox):
            pass
    except GDAL_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SceneError(
            f"the CRS of the scene cannot be written into a map: {reason}; give it another (rio warp --dst-crs)"
        ) from error


def place_lines(geobox: GeoBox) -> Iterator[str]:
    """Yield CRS, transform or ground control points, and RPCs of a VRT."""
    if geobox.crs is not None:
        yield f"<SRS>{escape(_wkt(geobox.crs))}</SRS>\n"
    if geobox.has_transform:
        yield f"<GeoTransform>{', '.join(map(repr, geobox.transform.to_gdal()))}</GeoTransform>\n"
    elif geobox.gcps:
        crs = "" if geobox.gcp_crs is None else _wkt(geobox.gcp_crs)
        yield f"<GCPList Projection={quoteattr(crs)}>\n"
        for number, point in enumerate(geobox.gcps):
            yield (
                f'<GCP Id="{number}" Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}" '
                f'Z="{point.z or 0.0!r}"/>\n'
            )
        yield "</GCPList>\n"
    if geobox.rpcs is not None:
        yield from metadata_lines(geobox.rpcs.to_gdal(), "RPC")


def metadata_lines(tags: Mapping[str, str], domain: str = "") -> Iterator[str]:
    """Yield the tags of a VRT."""
    yield f"<Metadata domain={quoteattr(domain)}>\n" if domain else "<Metadata>\n"
    for key, value in tags.items():
        yield f"<MDI key={quoteattr(key)}>{escape(str(value))}</MDI>\n"
    yield "</Metadata>\n"


def file_name(path: str) -> str:
    """Return GDAL's name of what rasterio opens by that path, whatever folder the reader runs in."""
    name: str = _vsi_path(_parse_path(path))
    return os.path.abspath(name) if os.path.exists(name) else name  # noqa: PTH100, PTH110 Path raises for VRT texts


def color_name(name: str) -> str:
    """Return GDAL's word for the colour of a band as a scene names it."""
    return {"": "Undefined", "nir": "NIR", "rededge": "RedEdge"}.get(name, name.capitalize())


def data_color(name: str) -> str:
    """Return GDAL's word for the colour of a band that is image data, and so hides nothing."""
    return color_name("" if name == "alpha" else name)


def _wkt(crs: CRS) -> str:
    """Return WKT 2 (ISO 19162:2019): WKT 1 has no words for some CRSs. In a VRT x is east in both."""
    text: str = crs.to_wkt(version=WktVersion.WKT2_2019)
    return text


def _simple_source(source: Source, band: int) -> str:
    part = source.part
    # The properties save opening every file before the first pixel is read.
    return (
        f"<SimpleSource>{_file(source.name, band)}"
        f'<SourceProperties RasterXSize="{source.shape[1]}" RasterYSize="{source.shape[0]}" DataType="Byte" '
        f'BlockXSize="{source.block_px}" BlockYSize="{source.block_px}"/>'
        f'<SrcRect xOff="{part.col}" yOff="{part.row}" xSize="{part.width}" ySize="{part.height}"/>'
        f'<DstRect xOff="{source.col}" yOff="{source.row}" xSize="{part.width}" ySize="{part.height}"/>'
        "</SimpleSource>\n"
    )


def _file(name: str, band: int) -> str:
    return f'<SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename><SourceBand>{band}</SourceBand>'


def _colors(legend: Legend | None) -> str:
    if legend is None:
        return "<ColorInterp>Gray</ColorInterp>\n"
    table = [(0, 0, 0, 0)] * (NODATA + 1)
    for land_cover in legend:
        table[land_cover.code] = (*land_cover.color, 255)
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in table)
    return f"<ColorInterp>Palette</ColorInterp>\n<ColorTable>{entries}</ColorTable>\n"
