"""All parts of a product as one virtual raster: the map and each overview is a VRT of rows, each row a VRT of parts.

Two storeys, because GDAL keeps some 15 kB for every source of an open VRT: 4000 parts in one storey took 600 MB. Of the
rows it keeps a few open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover.part import part_path
from geoseg.raster.landcover.product import Product
from geoseg.raster.landcover.pyramid import BLOCK_PX, halved_px, level_windows, overview_levels
from geoseg.raster.vrt import Source, metadata_lines, place_lines, vrt_lines
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
                self._write(name, vrt_lines(row_shape, self.product, self._parts(level, indexes)))
                sources.append(Source(name, row_shape, _VRT_BLOCK_PX, Window(0, 0, *row_shape), start >> level, 0))
            smaller = [f"{self._stem(other)}.vrt" for other in range(1, self.levels + 1)]
            whole = (head, smaller) if level == 0 else ((), ())
            self._write(f"{self._stem(level)}.vrt", vrt_lines(shape, self.product, sources, *whole))
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

    def _parts(self, level: int, indexes: Iterable[int]) -> Iterator[Source]:
        for index in indexes:
            tile = self.tiles[index]
            windows = level_windows(tile.height, tile.width, self.levels)
            yield Source(
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
