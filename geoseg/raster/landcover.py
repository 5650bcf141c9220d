"""The land-cover raster: finished tiles become parts, and all parts become one file under its final name.

Nothing is ever half-written at that name, and what stood there before stays until the new file is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.errors import OutputError
from geoseg.raster.cog import write_cog
from geoseg.raster.durable import (
    free_space_bytes,
    output_error,
    probe_writable,
    replace_durably,
    sync_file,
    write_durably,
)
from geoseg.raster.geobox import GeoBox
from geoseg.raster.mosaic import Mosaic
from geoseg.raster.part import part_path, write_part
from geoseg.raster.product import Product, confidence, labels, probabilities
from geoseg.raster.pyramid import overview_levels
from geoseg.raster.style import is_foreign_style, names_path, sidecars, style_path
from geoseg.raster.windows import Window

__all__ = [
    "LEGEND_TAG",
    "PRODUCT_TAG",
    "Product",
    "assemble",
    "confidence",
    "files_beside",
    "free_space_bytes",
    "is_foreign_style",
    "labels",
    "overview_levels",
    "part_path",
    "probabilities",
    "probe_writable",
    "style_path",
    "write_part",
]

LEGEND_TAG = "GEOSEG_LEGEND"
PRODUCT_TAG = "GEOSEG_PRODUCT"
_OF_THE_OLD_MAP = (".ovr", ".msk")


def files_beside(target: Path) -> list[Path]:
    """Return every path that `assemble` writes or removes beside the map."""
    return [names_path(target), style_path(target), *(_beside(target, suffix) for suffix in _OF_THE_OLD_MAP)]


def assemble(  # noqa: PLR0913, PLR0917 each is a noun the reader expects here
    folder: Path, product: Product, tiles: Sequence[Window], geobox: GeoBox, target: Path, tags: Mapping[str, str]
) -> None:
    """Make one COG of the parts in a folder, with its sidecars; `tiles[i]` is the place of part i in the map.

    Every tile starts at a multiple of 2**overview_levels. The folder is on the target's disk. Labels carry their legend
    in the colour table, the tag GEOSEG_LEGEND, `.aux.xml` and `.qml`. Raises OutputError (missing parts, full disk);
    then the target is as it was before, and the parts are still there.
    """
    mosaic = Mosaic(folder, product, tuple(tiles), geobox)
    missing = mosaic.missing()
    if missing:
        raise OutputError(
            f"{len(missing)} of {len(tiles)} tiles of the {product.name} are not in {folder}, the first is number "
            f"{missing[0]}; run the same command again"
        )
    whole = folder / f"{product.name}.cog.tif"
    try:
        write_cog(mosaic.write(_with_legend(tags, product)), whole)
        sync_file(whole)
        for path, content in sidecars(target, product):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_durably(path, content, folder)
        replace_durably(whole, target)
        for suffix in _OF_THE_OLD_MAP:
            _beside(target, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        mosaic.remove()
        whole.unlink(missing_ok=True)
        whole.with_name(f"{whole.name}.aux.xml").unlink(missing_ok=True)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _with_legend(tags: Mapping[str, str], product: Product) -> dict[str, str]:
    legend = {} if product.legend is None else {LEGEND_TAG: json.dumps(product.legend.to_json())}
    return {**tags, PRODUCT_TAG: product.name, **legend}
