"""The plan of a run, made before any pixel moves: windows, tiles, memory, disk, fingerprint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from geoseg.errors import UsageError, numbered
from geoseg.given import plain_arguments
from geoseg.inference.compatibility import check_bands, check_imagery, check_scale, warn_if_unlike
from geoseg.inference.estimate import (
    Estimate,
    capacity_of,
    estimate,
    readers_that_fit,
    scorers_bytes,
    stored_bytes,
    swept_bytes,
    worker_bytes,
)
from geoseg.inference.execution import OutputOptions, fingerprint
from geoseg.inference.pipeline import Capacity
from geoseg.inference.scoring import Scoring, ScoringOptions
from geoseg.inference.tile import SceneMapping
from geoseg.inference.view import (
    DEFAULT_NETWORK_RESOLUTION,
    DEFAULT_RESOLUTION,
    NetworkResolution,
    PartOptions,
    at_resolution,
    mapped_part,
    network_factor,
    with_pixel_size,
)
from geoseg.model import EXPORT_FORMAT, Engine, EngineChoice, ModelBundle, as_bundle
from geoseg.profile import Profile
from geoseg.progress import Progress, announcer
from geoseg.raster import (
    BLOCKS_PX,
    Scene,
    Tiling,
    Window,
    WindowGrid,
    as_scene,
    choose_tile,
    is_item,
    repeated_windows,
    round_tile,
    shown,
)
from geoseg.raster.landcover import Product, ProductName, confidence, labels, overview_levels, probabilities
from geoseg.typed import checked
from geoseg.version import VERSION

if TYPE_CHECKING:
    import dask.array
    import xarray

    from geoseg.raster.scene import SceneLike

_SWEPT_TILE_PX = 2048, 4096
"""Default where a device sweeps the scene, whatever its blocks: low tiles are written while the next are scored."""
_MANY_TIMES = 8
"""Print a note if the average window runs more often than this; with the smallest default tiles it runs twice."""


class PlanOptions(ScoringOptions, PartOptions, total=False):
    """Options that control how a scene is mapped; `plan`, `predict` and `labels` share them.

    Options that are omitted or None follow from the model, the scene and the machine.
    """

    model: str | os.PathLike[str] | ModelBundle | None
    """A bundle or its path. Default: the one that the environment variable GEOSEG_MODEL names, or the demo model."""
    network_resolution: NetworkResolution
    """Pixels that the network sees. auto (the default) averages pixels that are finer than the model's by more than a
    third, and interpolates the probabilities back; scene shows the map's own pixels; 1 shows pixels of 1 m."""
    data_gsd_m: float | None
    """Pixel size of the scene in meters, if the scene does not state it: a photo, a PNG without a world file."""
    tile: int | None
    """Edge of the tiles in pixels. Affects memory and how often a run can resume, never a label."""
    workers: int | None
    """Number of threads that score on a CPU, sharing its cores; for a GPU, number that read, and that write."""


@dataclass(frozen=True, slots=True, repr=False)
@checked
class Plan:
    """One scene, one model, and how the model maps the scene; made by `geoseg.plan`.

    `print(plan)` shows the same as `geoseg predict --dry-run`. A plan is a picklable value without open files.

    Examples
    --------
    >>> plan = geoseg.plan("scene.tif", resolution="model")  # doctest: +SKIP
    >>> plan.estimate().seconds  # doctest: +SKIP
    >>> plan.run("landcover.tif", confidence="confidence.tif")  # doctest: +SKIP
    >>> plan.to_xarray().sel(x=slice(4e5, 4.01e5)).compute()  # doctest: +SKIP

    """

    source: Scene
    """The original scene."""
    scoring: Scoring
    mapping: SceneMapping[Scene]
    """The windows of the scene as it is mapped, and the products to keep for each tile."""
    tile_height_px: int
    tile_width_px: int
    workers: int
    """Number of threads that score; for devices, number that read, and that write."""
    tile_is_given: bool = False
    """Whether the user gave the tile size; if not, the tile size of an unfinished run may replace it."""
    cautions: tuple[str, ...] = ()
    """Sentences on how the scene differs from the model's training imagery, stored in the map's file."""

    def __post_init__(self) -> None:
        for name in ("tile_height_px", "tile_width_px", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1, got {getattr(self, name)}", name)

    def __str__(self) -> str:
        """Return what `geoseg predict --dry-run` prints; a few windows are scored to measure the time."""
        return str(self.estimate())

    def __repr__(self) -> str:
        height_px, width_px = self.scene.shape
        tiles = numbered(self.tile_count, "tile")
        size = f"{width_px} x {height_px} px, {tiles}"
        return f"<geoseg.Plan of {shown(self.source.path)}: {size}, {self.bundle.name} on {self.engine.describe()}>"

    def estimate(self) -> Estimate:
        """Return the plan's tiles, windows, memory, disk space and time.

        A few windows are scored to measure the time. Nothing is written.
        """
        return estimate(self)

    @plain_arguments(OutputOptions)
    def run(
        self,
        out: str | os.PathLike[str],
        *,
        progress: Callable[[Progress], None] | None = None,
        announce: Callable[[str], None] | None = None,
        profile: Profile | None = None,
        **options: Unpack[OutputOptions],
    ) -> Path | str:
        """Carry the plan out and return the path of the map.

        Parameters
        ----------
        out : path or URL
            The land-cover map: a cloud-optimized GeoTIFF of class codes, uint8, 255 = nodata. A URL (s3://, gs://,
            az://) writes it to an object store, along with its unfinished parts.
        progress : callable, optional
            Called with a `Progress` after every tile and every later step.
        announce : callable, optional
            Called with messages for the user: the bands, the engine, a resumed run.
        profile : Profile, optional
            Records where the time goes: busy seconds of each stage, and what limited the run.
        **options
            Further outputs, and how they are written; see `OutputOptions`.

        Raises
        ------
        GeosegError
            A subclass says why: an output exists or cannot be written, an interrupted run had other options, the
            scene cannot be read. An existing file is replaced only by a finished one, and only with `overwrite`.

        Notes
        -----
        Run an interrupted plan again, with the same `out`, and it resumes. Tiles run on the current Dask client, or
        on threads. `options` alone select the products; those that the plan was made with are ignored.

        """
        from geoseg.inference.execution import run_staged, staged  # noqa: PLC0415 - they use Plan, as the next two do

        with staged(out, options) as place:
            return run_staged(self, place, progress=progress, announce=announce, profile=profile)

    def to_dask(self) -> dask.array.Array:
        """Return the map as a lazy Dask array: class codes (row, col), uint8, 255 = nodata, one chunk per tile.

        Nothing is computed until the array is. Its labels equal those of `run`.
        """
        from geoseg.inference.lazy_map import to_dask  # noqa: PLC0415 - see above

        return to_dask(self)

    def to_xarray(self) -> xarray.DataArray:
        """Return the map as a lazy DataArray (y, x) of class codes, uint8, 255 = nodata, one chunk per tile.

        Returns
        -------
        xarray.DataArray
            Has coordinates x and y of pixel centers in the scene's CRS (unless the grid is rotated or has no place),
            the CF grid mapping `spatial_ref` (WKT and GeoTransform), which rioxarray and odc-geo read, and in attrs
            `_FillValue`, the CF flags (`flag_values`, `flag_meanings`, `flag_colors`) and `legend` as JSON.

        Raises
        ------
        UsageError
            If xarray is not installed.

        """
        from geoseg.inference.lazy_map import to_xarray  # noqa: PLC0415 - see above

        return to_xarray(self)

    @property
    def bundle(self) -> ModelBundle:
        """The model."""
        return self.scoring.bundle

    @property
    def engine(self) -> EngineChoice:
        """The engine that runs the model, and its number of threads."""
        return self.scoring.engine

    @property
    def tta(self) -> int:
        """Number of symmetries in which each window is scored."""
        return self.scoring.tta

    @property
    def scene(self) -> Scene:
        """The scene as it is mapped: at the requested resolution, on the map's grid."""
        return self.mapping.scene

    @property
    def aoi(self) -> str | None:
        """The path of the area of interest, as given; None for the whole scene, or for shapes."""
        return None if self.mapping.area is None else self.mapping.area.given

    @property
    def is_resampled(self) -> bool:
        """Whether the map's grid differs from the scene's."""
        return self.scene != self.source

    def open_engine(self) -> Engine:
        """Return this process's engine, which scores every window in all symmetries."""
        return self.scoring.open()

    @property
    def network_factor(self) -> float:
        """Map pixels per network pixel, along one axis; 1 if the network sees the map's own pixels."""
        return self.scoring.network_factor

    @property
    def grid(self) -> WindowGrid:
        """The windows of the scene."""
        return self.mapping.grid

    @property
    def products(self) -> tuple[Product, ...]:
        """The rasters to write."""
        legend = self.bundle.legend
        names = tuple(legend.by_code(code).name for code in self.mapping.output_codes)
        every = (labels(legend), confidence(), probabilities(names))
        return tuple(product for product in every if product.name in self.mapping.keep)

    @property
    def overview_levels(self) -> int:
        """Number of overview levels, each half the size of the one before."""
        return overview_levels(self.grid.height_px, self.grid.width_px)

    @property
    def tiles(self) -> Tiling:
        """The tiles, row by row."""
        return Tiling(self.grid.height_px, self.grid.width_px, self.tile_height_px, self.tile_width_px)

    @property
    def tile_rows(self) -> int:
        """Number of rows of tiles."""
        return self.tiles.rows

    @property
    def tile_cols(self) -> int:
        """Number of columns of tiles."""
        return self.tiles.cols

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    @checked
    def tile(self, index: int) -> Window:
        """Return a tile by its index, row by row from 0; the last of a row or column may be smaller."""
        if not -self.tile_count <= index < self.tile_count:
            raise UsageError(f"`index` must be 0 to {self.tile_count - 1}, got {index}", "index")
        return self.tiles[index]

    @property
    def is_swept(self) -> bool:
        """Whether bands of the scene are swept from the top down, so that each window runs once, not tile by tile.

        Scenes of one tile, and those mapped by Dask workers in any order, are mapped tile by tile.
        """
        return self.scoring.feeds_devices or _is_swept(self.scoring, self.tile_count)

    @property
    def windows_run(self) -> int:
        """Number of windows that the network scores if every window holds a valid pixel.

        In a sweep, windows run once, those on the border of two bands twice; tile by tile, once for each tile touched.
        For an area of interest, the share of windows that touch it is estimated from a sample of points.
        """
        grid = self.grid
        height_px, width_px = self.tile_shape
        if self.is_swept:
            height_px, width_px = grid.height_px, self.capacity().cols * width_px
        rows = repeated_windows(grid.height_px, grid.window_px, grid.stride_px, height_px)
        cols = repeated_windows(grid.width_px, grid.window_px, grid.stride_px, width_px)
        if self.mapping.area is None:
            return rows * cols
        shape = len(grid.row_starts), len(grid.col_starts)
        return max(1, round(rows * cols * self.mapping.area.share_touched(grid.shape, shape)))

    @property
    def memory_bytes(self) -> int:
        """Estimate of the peak resident memory: a base and each worker's share. No term grows with the scene."""
        source, scoring, mapping = self.source, self.scoring, self.mapping
        if scoring.feeds_devices:
            return swept_bytes(source, scoring, mapping, self.capacity(), self.workers)
        if self.is_swept:
            return scoring.base_bytes + scorers_bytes(source, scoring, mapping, self.tile_shape, self.workers)
        return scoring.base_bytes + self.workers * worker_bytes(source, scoring, mapping, self.tile_shape)

    @property
    def device_bytes(self) -> int:
        """Estimate of the memory needed on each GPU; 0 without a GPU."""
        if not self.engine.total_bytes:
            return 0
        width_px = self.grid.span_px(self.capacity().cols * self.tile_width_px)
        bands = len(self.scene.band_indexes)
        return self.scoring.device_bytes(width_px, bands, self.scene.dtype, self.mapping.product_bands)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        return self.tile_height_px, self.tile_width_px

    def capacity(self) -> Capacity:
        """Return what each device holds in memory while it sweeps the scene; depends on the memory free now."""
        return capacity_of(self.source, self.scoring, self.mapping, self.tile_shape, self.workers)

    @property
    def disk_bytes(self) -> int:
        """Estimate of the disk space of parts and map together."""
        return stored_bytes(self.scene.shape, self.tile_shape, self.mapping.product_bands)

    @property
    def meaning(self) -> dict[str, object]:
        """Everything that can change a label, as plain values by name."""
        mapping = self.mapping
        area = {} if mapping.area is None else {"aoi": mapping.area.digest}
        return area | {
            "scene": self.source.fingerprint(),
            "model": self.bundle.hash,
            "engine": self._engine(),
            "geoseg": VERSION,
            "bands": list(self.source.band_indexes),
            "scale": list(self.engine.scale) if self.engine.scale else None,
            "window": mapping.grid.window_px,
            "overlap": mapping.grid.overlap_px,
            "blend": mapping.blend,
            "tta": self.tta,
            "resolution": self.scene.geobox.gsd_m if self.is_resampled else None,
            "network_window": self.engine.window_px,
            "tile": [self.tile_height_px, self.tile_width_px],
            "products": [product.name for product in self.products],
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 of `meaning` in hex: runs with equal fingerprints make equal maps."""
        return fingerprint(self.meaning)

    def _engine(self) -> str:
        """Return the engine settings that can change a bit: torch's sums depend on batch size and CPU threads."""
        kind = self.engine.describe_kind()
        if self.engine.device == "onnx":
            return f"{kind} format {EXPORT_FORMAT}"
        threads = f" threads {self.engine.threads}" if self.engine.device == "torch-cpu" else ""
        return f"{kind} batch {self.mapping.batch_size}{threads}"


@plain_arguments(PlanOptions, flags=("confidence", "probabilities"))
def plan(
    scene: SceneLike,
    *,
    confidence: bool = False,
    probabilities: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Plan the map of a scene, making every check that needs no pixel of the result. Nothing is written.

    Parameters
    ----------
    scene : path, Scene, rasterio dataset or xarray.DataArray
        Anything that GDAL reads: a file, a URL, a VRT; or what `Scene.open` takes.
    confidence, probabilities : bool
        Whether the estimates include these rasters; `Plan.run` writes those that its own options name.
    announce : callable, optional
        Called with messages for the user about slow steps.
    progress : callable, optional
        Called with a `Progress` before and after a network is exported.
    **options
        model, bands, bbox, bbox_crs, aoi, aoi_crs, zoom, scale, window, overlap, blend, tta, resolution,
        network_resolution, data_gsd_m, tile, batch_size, device, workers; see `PlanOptions`.

    Returns
    -------
    Plan
        Can be printed, estimated, run, or turned into a lazy array.

    Raises
    ------
    UsageError, SceneError, ModelError
        If the scene cannot be mapped with these options, or the run does not fit in memory.

    Warns
    -----
    UnlikeTrainingWarning
        If the scene looks unlike the imagery that the model was trained on.

    """
    scene = as_scene(scene)
    bundle = as_bundle(options.get("model"), options.get("window"))
    part, area = mapped_part(scene, options, bundle)
    is_chosen = isinstance(part, Scene) and part.item is not None and not isinstance(scene, Scene)
    source = _open_scene(part, None if is_chosen else options.get("bands"), bundle)
    source = with_pixel_size(source, options.get("data_gsd_m"))
    scale, tile, workers = options.get("scale"), options.get("tile"), options.get("workers")
    check_bands(source, bundle)
    check_scale(source, bundle, scale)
    view = at_resolution(source, bundle, options.get("resolution", DEFAULT_RESOLUTION))
    factor = network_factor(view, bundle, options.get("network_resolution", DEFAULT_NETWORK_RESOLUTION))
    scoring = Scoring.choose(bundle, options, factor)
    if scoring.has_room_for(view.shape):  # only an exported network shows whether it takes smaller windows
        scoring = scoring.exported(announcer(announce), progress).fitted(view.shape)
    mapping = scoring.mapping(view, view.shape, kept(confidence=confidence, probabilities=probabilities))
    if area is not None:
        mapping = replace(mapping, area=area.scaled(source.shape, view.shape))
    # the tile does not depend on the memory free now: a run could not be resumed with another tile
    shape = _tile(view, mapping.grid, tile, scoring, workers)
    if scoring.feeds_devices:
        busy = readers_that_fit(source, scoring, mapping, shape, workers)
    else:
        scoring, busy = _shared_out(source, scoring, mapping, shape, workers)
    cautions = warn_if_unlike(view, bundle, scale, factor)
    scoring = scoring.exported(announcer(announce), progress)
    result = Plan(source, scoring, mapping, *shape, busy, tile is not None, cautions)
    if result.windows_run > _MANY_TIMES * len(result.grid):
        times = result.windows_run / len(result.grid)
        announcer(announce)(
            f"with tiles of {max(shape)} px each window of {result.grid.window_px} px is scored {times:.0f} times; a "
            "larger `tile` gives the same map faster"
        )
    return result


def _is_swept(scoring: Scoring, tiles: int) -> bool:
    """Return whether threads of this machine sweep a scene of `tiles` tiles together."""
    from geoseg.inference.execution import is_scheduled  # noqa: PLC0415 - Dask takes long to import

    return scoring.shares_windows and tiles > 1 and not is_scheduled()


def _shared_out(
    source: Scene, scoring: Scoring, mapping: SceneMapping[Scene], tile: tuple[int, int], workers: int | None
) -> tuple[Scoring, int]:
    """Return the scoring with its share of the cores, and how many workers score at once."""
    tiles = len(Tiling(*mapping.grid.shape, *tile))
    if _is_swept(scoring, tiles):
        bytes_of = partial(scorers_bytes, source, scoring, mapping, tile)
        return scoring.share_out(len(mapping.grid), bytes_of, workers, tile=max(tile))
    bytes_per_worker = worker_bytes(source, scoring, mapping, tile)
    return scoring.share_out(tiles, lambda count: count * bytes_per_worker, workers, tile=max(tile))


def kept(*, confidence: bool, probabilities: bool) -> tuple[ProductName, ...]:
    """Return the products to keep for each tile; always includes the labels."""
    requested: dict[ProductName, bool] = {"labels": True, "confidence": confidence, "probabilities": probabilities}
    return tuple(name for name, keep in requested.items() if keep)


def _open_scene(scene: str | os.PathLike[str] | Scene, bands: Sequence[int | str] | None, bundle: ModelBundle) -> Scene:
    """Return the scene with the model's bands; unchanged if the caller chose its bands."""
    if isinstance(scene, Scene) and scene.chosen and bands is None:
        return scene
    path = scene.path if isinstance(scene, Scene) else os.fspath(scene)
    if os.path.exists(path):  # noqa: PTH110 - Path raises if the text of a VRT stands in for a name
        path = str(Path(path).absolute())  # a worker may run in another folder
    if bands is None and not is_item(path):
        check_imagery(path)
    opened = Scene.open(path, bands=bands, wanted_bands=bundle.bands)
    return replace(opened, item=scene.item) if isinstance(scene, Scene) else opened


def _tile(scene: Scene, grid: WindowGrid, tile: int | None, scoring: Scoring, workers: int | None) -> tuple[int, int]:
    # a tile aligned to the map's blocks has all overviews that a part holds; higher levels combine several parts
    align_px = min(2 ** overview_levels(grid.height_px, grid.width_px), BLOCKS_PX[-1])
    if tile is None and not scoring.feeds_devices:
        crew = scoring.crew if workers is None else workers
        return choose_tile(grid, scene.block_shape[1], crew, align_px)
    edges = _SWEPT_TILE_PX if tile is None else (tile,) * 2
    on_blocks_px = max(align_px, BLOCKS_PX[-1]) if min(edges) >= BLOCKS_PX[-1] else align_px
    height_px, width_px = (
        round_tile(length_px, align_px) if edge_px >= length_px else round_tile(edge_px, on_blocks_px)
        for edge_px, length_px in zip(edges, scene.shape, strict=True)
    )
    return height_px, width_px
