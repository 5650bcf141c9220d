"""What will be done, in integers, before a pixel moves: tiles, windows, memory, disk, fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from geoseg.inference.symmetries import symmetric
from geoseg.inference.tile import Mapping
from geoseg.inference.tiling import repeated_windows
from geoseg.interpreter import in_every_fork
from geoseg.model import EXPORT_FORMAT, Engine, EngineChoice, ModelBundle
from geoseg.raster import Scene, Window, WindowGrid
from geoseg.raster.landcover import Product, confidence, labels, overview_levels, probabilities
from geoseg.version import VERSION

_BASELINE_BYTES = 180 << 20  # the interpreter, GDAL with its cache, ONNX Runtime; measured
_BYTES_A_LABEL = 0.5  # parts and map together, overviews included; measured on land-cover maps, noisy ones included
_BYTES_A_PERCENT = 1.7  # the same for confidence and probabilities


@dataclass(frozen=True, slots=True)
class Plan:
    """One scene, one model, and how the one is brought through the other."""

    source: Scene
    """The scene as it is given."""
    bundle: ModelBundle
    engine: EngineChoice
    mapping: Mapping[Scene]
    tile_height_px: int
    tile_width_px: int
    workers: int
    tta: int = 1
    """In how many ways each window is turned and mirrored."""
    tile_was_asked: bool = False
    """The user gave the tile; otherwise an unfinished run's is as good."""

    @property
    def scene(self) -> Scene:
        """The scene as it is mapped: at the resolution asked for, on the map's own grid."""
        return self.mapping.scene

    @property
    def is_resampled(self) -> bool:
        """Whether the map has another grid than the scene."""
        return self.scene != self.source

    def open_engine(self) -> Engine:
        """Return this process's engine, which asks the network for every window in all the ways wanted."""
        if self.tta == 1 and self.network_factor == 1:
            return self.engine.open()
        return _open_around(self.engine, self.grid.window_px, self.tta)

    @property
    def network_factor(self) -> float:
        """How many of the map's pixels lie along one that the network sees; 1 where it sees the map's own."""
        return self.grid.window_px / self.engine.window_px

    @property
    def grid(self) -> WindowGrid:
        """The windows of the scene."""
        return self.mapping.grid

    @property
    def products(self) -> tuple[Product, ...]:
        """The rasters that are written."""
        legend = self.bundle.legend
        names = tuple(legend.by_code(code).name for code in self.mapping.output_codes)
        every = (labels(legend), confidence(), probabilities(names))
        return tuple(product for product in every if product.name in self.mapping.keep)

    @property
    def overview_levels(self) -> int:
        """How often the map is halved in its overviews."""
        return overview_levels(self.grid.height_px, self.grid.width_px)

    @property
    def tile_rows(self) -> int:
        """Number of rows of tiles."""
        return math.ceil(self.grid.height_px / self.tile_height_px)

    @property
    def tile_cols(self) -> int:
        """Number of columns of tiles."""
        return math.ceil(self.grid.width_px / self.tile_width_px)

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        return self.tile_rows * self.tile_cols

    def tile(self, index: int) -> Window:
        """Return a tile by its place, row by row from 0; the last of a row or column may be smaller."""
        row = index // self.tile_cols * self.tile_height_px
        col = index % self.tile_cols * self.tile_width_px
        return Window(
            row,
            col,
            min(self.tile_height_px, self.grid.height_px - row),
            min(self.tile_width_px, self.grid.width_px - col),
        )

    @property
    def windows_run(self) -> int:
        """How often the network runs if every window holds a valid pixel; those along tile edges run once a tile."""
        grid = self.grid
        rows = repeated_windows(grid.height_px, grid.window_px, grid.stride_px, self.tile_height_px)
        cols = repeated_windows(grid.width_px, grid.window_px, grid.stride_px, self.tile_width_px)
        return rows * cols

    @property
    def memory_bytes(self) -> int:
        """Estimate of the peak resident memory: a base, and what each worker holds; no term grows with the scene."""
        return _BASELINE_BYTES + self.workers * self._worker_bytes()

    @property
    def disk_bytes(self) -> int:
        """Estimate of the disk that parts and map take together."""
        percents = sum(product.count for product in self.products) - 1
        pixels = self.grid.height_px * self.grid.width_px
        return int(pixels * (_BYTES_A_LABEL + _BYTES_A_PERCENT * percents)) + (1 << 20)

    @property
    def meaning(self) -> dict[str, object]:
        """All that can change a label, as plain values by name."""
        mapping = self.mapping
        return {
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
        """Return the sha256 of `meaning`, hex: two runs with the same one make the same map."""
        return fingerprint(self.meaning)

    def _engine(self) -> str:
        """Return what of the engine can change a bit: torch's sums depend on the batch, and on a CPU on the threads."""
        kind = self.engine.describe_kind()
        if self.engine.device == "onnx":
            return f"{kind} format {EXPORT_FORMAT}"
        threads = f" threads {self.engine.threads}" if self.engine.on_cpu else ""
        return f"{kind} batch {self.mapping.batch_size}{threads}"

    def _worker_bytes(self) -> int:
        grid, classes = self.grid, len(self.mapping.output_codes)
        footprint_px = grid.window_px * (self.tile_width_px + 2 * grid.window_px)
        overlaps = 4 * classes * (2 * grid.overlap_px * self.tile_width_px + 3 * grid.window_px**2)
        bytes_a_pixel = len(self.scene.band_indexes) * np.dtype(self.scene.dtype).itemsize + 1
        patch = footprint_px * bytes_a_pixel
        products = sum(product.count for product in self.products)
        result = self.tile_height_px * self.tile_width_px * (2 * products + 1)  # as it is, encoded, and its overviews
        resampling = self._source_px_a_block() * (bytes_a_pixel + 8)  # as stored, and its weights
        scoring = self.engine.memory_bytes(self.mapping.batch_size)
        if self.network_factor > 1:  # the means that the network sees, and what it says of them interpolated
            bands = len(self.scene.band_indexes)
            seen = 5 * bands * self.engine.window_px**2 + 4 * classes * grid.window_px**2
            scoring += self.mapping.batch_size * seen
        if self.tta > 1:
            turned = 4 * classes * self.mapping.batch_size * grid.window_px**2  # a sum, and one more way turned back
            scoring += 2 * turned + self.tta * patch
        return overlaps + 2 * patch + result + resampling + scoring

    def _source_px_a_block(self) -> int:
        """Return how many of the scene's own pixels are held to resample one block."""
        if not self.is_resampled:
            return 0
        shrunk = math.prod(self.source.shape) / math.prod(self.scene.shape)
        return math.ceil(math.prod(self.scene.block_shape) * shrunk)


@lru_cache(maxsize=4)
def _open_around(choice: EngineChoice, window_px: int, tta: int) -> Engine:
    """Return the same engine each time: what was learned of its memory need not be learned again for every tile."""
    engine = choice.open()
    if window_px != choice.window_px:
        from geoseg.inference.coarse import CoarseEngine  # noqa: PLC0415 - its kernels take half a second to load

        engine = CoarseEngine(engine, window_px, choice.window_px)
    return symmetric(engine, tta)


in_every_fork(_open_around.cache_clear)


def fingerprint(meaning: Map[str, object]) -> str:
    """Return the sha256 of a plan's meaning, hex."""
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
