"""The land-cover raster: finished tiles become parts, and all parts become one file under its final name.

Nothing is ever half-written at that name, and a previous file stays until the new one is whole.

Blocks are copied from the parts, and from the parts of later stages, which hold the smaller overviews.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from geoseg.atomic import output_error, replace_durably, sync_file, write_durably
from geoseg.errors import OutputError, numbered
from geoseg.raster.dataset_cache import close_kept, root_message
from geoseg.raster.environment import GDAL_ERRORS
from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover.cog import Blocks, CogHead, CogLayout, check_whole
from geoseg.raster.landcover.overviews import halved_px
from geoseg.raster.landcover.product import DEFAULTS, Product
from geoseg.raster.landcover.sidecars import is_foreign_names, is_foreign_style, names_path, sidecars, style_path
from geoseg.raster.landcover.stages import NextStage, Stage
from geoseg.raster.landcover.tile_file import PartFormat
from geoseg.raster.windows import Tiling, Window

LEGEND_TAG = "GEOSEG_LEGEND"
PRODUCT_TAG = "GEOSEG_PRODUCT"
_OLD_MAP_SUFFIXES = (".ovr", ".msk")
_LEVELS_AHEAD = 2
"""If parts hold the blocks of at least this many levels, the other levels are made while parts arrive."""


def files_beside(target: Path) -> list[Path]:
    """Return every path that `place` writes or removes next to the map."""
    return [names_path(target), style_path(target), *(_with_suffix(target, suffix) for suffix in _OLD_MAP_SUFFIXES)]


def foreign_beside(target: Path) -> list[Path]:
    """Return the files that `place` would replace or remove but geoseg did not write. Raises OutputError."""
    companions = [_with_suffix(target, suffix) for suffix in _OLD_MAP_SUFFIXES]
    try:
        foreign = [path for path in companions if path.exists()]
        if is_foreign_names(names_path(target)):
            foreign.append(names_path(target))
        if is_foreign_style(style_path(target)):
            foreign.append(style_path(target))
    except OSError as error:
        raise output_error(target, error) from error
    return foreign


def built_path(folder: Path, product: Product) -> Path:
    """Return where `build_cog` puts the finished COG of a product; a file there is whole."""
    return folder / f"{product.name}.cog.tif"


def begin_cog(
    folder: Path, product: Product, tiles: Sequence[Window], shape: tuple[int, int], storage: Mapping[str, str]
) -> NextStage | None:
    """Start the overviews of a COG that can be made while its parts arrive, in their folder; None if there are none.

    `tiles[i]` is the place of part i in a map of `shape`. If parts hold fewer than two levels, the rest is too much
    work to do alongside. Leftovers of an earlier run are removed. Raises OutputError.
    """
    stage = Stage(folder, product, shape, 0, tiles, PartFormat.of(shape, _tile_shape(tiles, shape), storage))
    begun = _begun(folder, product)
    try:
        shutil.rmtree(begun, ignore_errors=True)
        return None if stage.is_last or stage.form.final_levels < _LEVELS_AHEAD else NextStage(stage, begun)
    except OSError as error:
        raise output_error(begun, error) from error


def build_cog(  # noqa: PLR0913, PLR0917 - each is a noun the reader expects here
    folder: Path,
    product: Product,
    tiles: Sequence[Window],
    geobox: GeoBox,
    tags: Mapping[str, str],
    storage: Mapping[str, str] = DEFAULTS,
    begun: NextStage | None = None,
) -> Path:
    """Build one COG from the parts in a folder, and return its path; `tiles[i]` is the place of part i in the map.

    The COG is written and checked in the folder under another name, and renamed to `built_path` when it is whole on the
    disk; an existing one is built again. Labels carry their legend in the color table and the tag GEOSEG_LEGEND.
    `storage` is the result of `creation_options`; parts stored differently are read and compressed again. `begun` is
    the result of `begin_cog` for the same map. Raises OutputError (missing or damaged parts, full disk); the parts stay
    in any case.
    """
    form = PartFormat.of(geobox.shape, _tile_shape(tiles, geobox.shape), storage)
    stage = Stage(folder, product, geobox.shape, 0, tiles, form)
    missing = stage.missing()
    if missing:
        raise OutputError(
            f"{folder} lacks {len(missing)} of {numbered(len(tiles), 'tile')} of the {product.name}, the first is "
            f"number {missing[0]}; run the same command again"
        )
    built = built_path(folder, product)
    with _unfinished(built, product) as (unfinished, scratch):
        small_map = scratch / "small.tif"
        head = CogHead.of(product, geobox, _with_legend(tags, product), storage, small_map)
        layout = write_map(stage, head, unfinished, scratch, begun)
        with ThreadPoolExecutor(1, "geoseg-sync") as disk:  # syncs while GDAL checks the file
            synced = disk.submit(sync_file, unfinished)
            check_whole(unfinished, layout)
            synced.result()
        if names_path(small_map).exists():
            replace_durably(names_path(small_map), names_path(built))
        replace_durably(unfinished, built)
    return built


@contextmanager
def _unfinished(built: Path, product: Product) -> Iterator[tuple[Path, Path]]:
    """Yield the path of an unfinished COG and an empty folder; neither is left behind. Errors become OutputError."""
    unfinished, scratch = (built.with_name(f"{product.name}.{name}") for name in ("unfinished.tif", "scratch"))
    try:
        for path in (built, names_path(built), unfinished):
            path.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield unfinished, scratch
    except OSError as error:
        raise output_error(built, error) from error
    except GDAL_ERRORS as error:
        raise output_error(built, OSError(root_message(error))) from error
    finally:
        for folder in (scratch, _begun(built.parent, product)):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _begun(folder: Path, product: Product) -> Path:
    return folder / f"{product.name}.begun"


def _tile_shape(tiles: Sequence[Window], shape: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns whose multiples tiles start at; the map's if no tile starts after the first."""
    if isinstance(tiles, Tiling):
        return tiles.tile_height_px, tiles.tile_width_px
    return (math.gcd(*(tile.row for tile in tiles)) or shape[0], math.gcd(*(tile.col for tile in tiles)) or shape[1])


def place(built: Path, product: Product, target: Path) -> None:
    """Move the result of `build_cog` to its final name: the sidecars `.aux.xml` and `.qml` first, the map last.

    If the target is on a different disk, the map is first copied to a temporary name next to the target, which
    needs the same space there, and then renamed. Sidecars of an old map are kept in the folder of `built`, and put back
    if the target cannot be replaced (on Windows, with the old map open in QGIS). Raises OutputError; then target and
    sidecars are as before, and `built` can be placed again.
    """
    backups = {
        path: built.with_name(f"{product.name}.aside{number}") for number, path in enumerate(files_beside(target))
    }
    moved: list[Path] = []
    close_kept()  # the old map may be open
    try:
        for path, old in backups.items():
            _move_aside(path, old)
            moved.append(path)
        for path, content in sidecars(target, product, _georeferencing_in_sidecar(built)):
            if content is not None:
                write_durably(path, content, built.parent)
        replace_durably(built, target)
    except BaseException as error:
        if built.exists():  # else the new map is in place, and only syncing its folder failed
            _put_back(backups, moved)
        if isinstance(error, OSError):
            raise output_error(target, error) from error
        raise
    for leftover in (*backups.values(), names_path(built)):
        with suppress(OSError):  # harmless in the folder of parts
            leftover.unlink(missing_ok=True)


def _move_aside(path: Path, old: Path) -> None:
    if old.exists():  # an attempt that was killed moved it, and may have written a new one
        path.unlink(missing_ok=True)
    elif path.exists():
        replace_durably(path, old)


def _put_back(backups: Mapping[Path, Path], moved: Iterable[Path]) -> None:
    for path in moved:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for path, old in backups.items():
        with suppress(OSError):
            if old.exists():
                replace_durably(old, path)


def _georeferencing_in_sidecar(built: Path) -> list[ET.Element]:
    """Return what GDAL stores next to a GeoTIFF that cannot hold its CRS, such as a rotated pole."""
    try:
        root = ET.fromstring(names_path(built).read_bytes())  # noqa: S314 GDAL has just written it
    except FileNotFoundError:
        return []
    return [element for element in root if element.tag in {"SRS", "GeoTransform"}]


def _with_suffix(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _with_legend(tags: Mapping[str, str], product: Product) -> dict[str, str]:
    legend = {} if product.legend is None else {LEGEND_TAG: json.dumps(product.legend.to_json())}
    return {**tags, PRODUCT_TAG: product.name, **legend}


def write_map(stage: Stage, head: CogHead, target: Path, scratch: Path, begun: NextStage | None = None) -> CogLayout:
    """Write the map of a first stage to `target`, an unfinished name; return its layout.

    `scratch` is an empty folder, `begun` the next stage if it was started.

    Raises OSError, OutputError or one of rasterio's errors; then the caller removes `target` if it exists.
    """
    stored, sizes = head.stored(stage.form.block_px), _no_sizes(stage)
    if not stage.note_sizes(sizes, stored):
        stage = replace(stage, form=replace(stage.form, final_levels=0))
    stages = [stage]
    while not stages[-1].is_last:
        following = begun if begun is not None and begun.stage == stages[-1] else NextStage(stages[-1], scratch)
        stages.append(following.finish())
        stages[-1].note_sizes(sizes, stored)
    layout = head.laid_out(stage.shape, stage.form.block_px, sizes, stage.form.storage["BIGTIFF"])
    with target.open("wb") as file:
        layout.write_head(file)
        for written in stages:
            written.copy_blocks(layout, file)
    return layout


def _no_sizes(first: Stage) -> list[Blocks]:
    """Return zeros for the size of every block of a map, by level, each (row, col)."""
    return [
        np.zeros([math.ceil(halved_px(px, level) / first.form.block_px) for px in first.shape], np.uint32)
        for level in range(first.form.levels + 1)
    ]
