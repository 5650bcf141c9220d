"""All parts of a product as one virtual raster: the map and each overview is a VRT of rows, each row a VRT of parts.

Two storeys, because GDAL keeps some 15 kB for every source of an open VRT: 4000 parts in one storey took 600 MB. Of the
rows it keeps a few open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from geoseg.legend import NODATA, Legend
from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover.overviews import halved_px, overview_levels
from geoseg.raster.landcover.tile_file import BLOCK_PX, Product, level_windows, part_path
from geoseg.raster.views import metadata_lines, place_lines
from geoseg.raster.windows import Window

_VRT_BLOCK_PX = 512


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

    def missing(self) -> list[int]:
        """Return the tiles whose part is not there."""
        return [i for i in range(len(self.tiles)) if not part_path(self.folder, self.product, i).is_file()]

    def write(self, tags: Mapping[str, str]) -> Path:
        """Write all VRTs and return the one of the map. Raises OSError."""
        head = (*place_lines(self.geobox), *metadata_lines(tags))
        rows = self._rows()
        for level in range(self.levels, -1, -1):
            shape = halved_px(self.geobox.height_px, level), halved_px(self.geobox.width_px, level)
            sources = []
            for start, indexes in rows.items():
                row_shape = halved_px(self.tiles[indexes[0]].height, level), shape[1]
                name = f"{self._stem(level)}_{start}.vrt"
                self._write(name, _vrt_lines(row_shape, self.product, self._parts(level, indexes)))
                sources.append(_Source(name, row_shape, _VRT_BLOCK_PX, Window(0, 0, *row_shape), start >> level, 0))
            smaller = [f"{self._stem(other)}.vrt" for other in range(1, self.levels + 1)]
            whole = (head, smaller) if level == 0 else ((), ())
            self._write(f"{self._stem(level)}.vrt", _vrt_lines(shape, self.product, sources, *whole))
        return self.folder / f"{self._stem(0)}.vrt"

    def remove(self) -> None:
        """Remove the VRTs."""
        for path in self.folder.glob(f"{self.product.name}_level*.vrt"):
            path.unlink(missing_ok=True)

    def _stem(self, level: int) -> str:
        return f"{self.product.name}_level{level}"

    def _rows(self) -> dict[int, list[int]]:
        """Return first row -> the tiles that start there."""
        rows: dict[int, list[int]] = defaultdict(list)
        for index, tile in enumerate(self.tiles):
            rows[tile.row].append(index)
        return rows

    def _parts(self, level: int, indexes: Iterable[int]) -> Iterator[_Source]:
        for index in indexes:
            tile = self.tiles[index]
            windows = level_windows(tile.height, tile.width, self.levels)
            yield _Source(
                name=part_path(self.folder, self.product, index).name,
                shape=(windows[-1].row_stop, tile.width),
                block_px=BLOCK_PX,
                part=windows[level],
                row=0,
                col=tile.col >> level,
            )

    def _write(self, name: str, lines: Iterable[str]) -> None:
        with (self.folder / name).open("w", encoding="utf-8") as file:
            file.writelines(lines)


@dataclass(frozen=True, slots=True)
class _Source:
    """A rectangle of a file beside the VRT, and where its first pixel goes."""

    name: str
    shape: tuple[int, int]
    """(rows, cols) of the whole file."""
    block_px: int
    part: Window
    row: int
    col: int


def _vrt_lines(
    shape: tuple[int, int],
    product: Product,
    sources: Iterable[_Source],
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


def _simple_source(source: _Source, band: int) -> str:
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
