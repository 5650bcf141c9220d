"""All parts of a product as one GDAL virtual raster (VRT), with one more for each overview level. Text only, no pixels.

Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from geoseg.legend import NODATA, Legend
from geoseg.raster.geobox import GeoBox
from geoseg.raster.part import part_path
from geoseg.raster.product import Product
from geoseg.raster.pyramid import BLOCK_PX, halved_px, level_windows, overview_levels
from geoseg.raster.windows import Window


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The parts of one product in a folder: `tiles[i]` is the place of part i."""

    folder: Path
    product: Product
    tiles: tuple[Window, ...]
    geobox: GeoBox

    @property
    def levels(self) -> int:
        """Number of overviews."""
        return overview_levels(*self.geobox.shape)

    def path(self, level: int = 0) -> Path:
        """Return the VRT of a level; 0 is the map itself."""
        return self.folder / f"{self.product.name}_{level}.vrt"

    def missing(self) -> list[int]:
        """Return the tiles whose part is not there."""
        return [i for i in range(len(self.tiles)) if not part_path(self.folder, self.product, i).is_file()]

    def write(self, tags: Mapping[str, str]) -> Path:
        """Write all VRTs and return the one of the map. Raises OSError."""
        for level in range(self.levels, -1, -1):
            with self.path(level).open("w", encoding="utf-8") as file:
                file.writelines(self._lines(level, tags))
        return self.path()

    def remove(self) -> None:
        """Remove the VRTs."""
        for level in range(self.levels + 1):
            self.path(level).unlink(missing_ok=True)

    def _lines(self, level: int, tags: Mapping[str, str]) -> Iterator[str]:
        height, width = (halved_px(length, level) for length in self.geobox.shape)
        yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">\n'
        if level == 0:
            yield from _place(self.geobox)
            yield from _metadata(tags)
        for band, description in enumerate(self.product.bands, start=1):
            yield f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="512" blockYSize="512">\n'
            yield f"<Description>{escape(description)}</Description>\n<NoDataValue>{NODATA}</NoDataValue>\n"
            yield from _colors(self.product.legend)
            yield from self._sources(level, band)
            if level == 0:
                for smaller in range(1, self.levels + 1):
                    yield (
                        f'<Overview><SourceFilename relativeToVRT="1">{self.path(smaller).name}</SourceFilename>'
                        f"<SourceBand>{band}</SourceBand></Overview>\n"
                    )
            yield "</VRTRasterBand>\n"
        yield "</VRTDataset>\n"

    def _sources(self, level: int, band: int) -> Iterator[str]:
        for index, tile in enumerate(self.tiles):
            windows = level_windows(tile.height, tile.width, self.levels)
            source = windows[level]
            # The properties save opening every part before the first pixel is read.
            yield (
                f'<SimpleSource><SourceFilename relativeToVRT="1">{part_path(self.folder, self.product, index).name}'
                f"</SourceFilename><SourceBand>{band}</SourceBand>"
                f'<SourceProperties RasterXSize="{tile.width}" RasterYSize="{windows[-1].row_stop}" DataType="Byte" '
                f'BlockXSize="{BLOCK_PX}" BlockYSize="{BLOCK_PX}"/>'
                f'<SrcRect xOff="0" yOff="{source.row}" xSize="{source.width}" ySize="{source.height}"/>'
                f'<DstRect xOff="{tile.col >> level}" yOff="{tile.row >> level}" xSize="{source.width}" '
                f'ySize="{source.height}"/></SimpleSource>\n'
            )


def _place(geobox: GeoBox) -> Iterator[str]:
    if geobox.crs is not None:
        yield f"<SRS>{escape(geobox.crs.to_wkt())}</SRS>\n"
    if geobox.has_transform:
        yield f"<GeoTransform>{', '.join(map(repr, geobox.transform.to_gdal()))}</GeoTransform>\n"
    elif geobox.gcps:
        crs = "" if geobox.gcp_crs is None else geobox.gcp_crs.to_wkt()
        yield f"<GCPList Projection={quoteattr(crs)}>\n"
        for number, point in enumerate(geobox.gcps):
            yield (
                f'<GCP Id="{number}" Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}" '
                f'Z="{point.z or 0.0!r}"/>\n'
            )
        yield "</GCPList>\n"
    if geobox.rpcs is not None:
        yield from _metadata(geobox.rpcs.to_gdal(), ' domain="RPC"')


def _metadata(tags: Mapping[str, str], domain: str = "") -> Iterator[str]:
    yield f"<Metadata{domain}>\n"
    for key, value in tags.items():
        yield f"<MDI key={quoteattr(key)}>{escape(str(value))}</MDI>\n"
    yield "</Metadata>\n"


def _colors(legend: Legend | None) -> Sequence[str]:
    if legend is None:
        return ("<ColorInterp>Gray</ColorInterp>\n",)
    table = [(0, 0, 0, 0)] * (NODATA + 1)
    for land_cover in legend:
        table[land_cover.code] = (*land_cover.color, 255)
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in table)
    return ("<ColorInterp>Palette</ColorInterp>\n", f"<ColorTable>{entries}</ColorTable>\n")
