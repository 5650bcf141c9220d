"""The verb: a scene in, a land-cover map out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geoseg.atomic import make_folders
from geoseg.errors import UsageError
from geoseg.given import plain_arguments
from geoseg.inference.execute import execute
from geoseg.inference.journal import unfinished
from geoseg.inference.planning import Knobs, plan
from geoseg.inference.targets import Targets
from geoseg.progress import Progress
from geoseg.raster import Scene
from geoseg.raster.landcover import creation_options as checked

if TYPE_CHECKING:
    from geoseg.inference.polygons import PolygonsAfter


@plain_arguments(Knobs)
def predict(  # noqa: PLR0913 - what is written, how it is told, and the plan's knobs
    scene: str | os.PathLike[str] | Scene,
    out: str | os.PathLike[str],
    *,
    confidence: str | os.PathLike[str] | None = None,
    probabilities: str | os.PathLike[str] | None = None,
    polygons: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    min_area: float | str | None = None,
    simplify: float | str | None = None,
    smooth: bool = False,
    mkdir: bool = False,
    overwrite: bool = False,
    creation_options: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **knobs: Unpack[Knobs],
) -> Path:
    """Map a scene of any size and return the path of the map.

    ```python
    geoseg.predict("scene.tif", "landcover.tif")
    ```

    Writes a cloud-optimized GeoTIFF of class codes (255 = nodata) on the scene's own grid, or on that of `resolution`;
    at `confidence` the probability of that class, at `probabilities` that of every class, one band each, both in
    percent. The knobs are those of `geoseg.plan`: model, bands, bbox, bbox_crs, scale, window, overlap, blend, tta,
    resolution, tile, batch_size, device, workers.

    `polygons` are written when the map is there, as `geoseg.vectorize` does it, which says what `layer`, `min_area`,
    `simplify` and `smooth` are; with `confidence` each gets its mean. `mkdir` makes the folders that are not there.

    `creation_options` are GDAL's, and say how the rasters are stored: {"COMPRESS": "ZSTD", "BLOCKSIZE": "256"}; those
    that might change a label are refused.

    A run that was ended goes on when it is called again with the same arguments. `progress` is called after every tile
    and step of what follows, `announce` with a line on the bands, the engine, a resumed run. Raises a GeosegError; a
    file already at a path is replaced only by a finished one, and only with `overwrite`.
    """
    storage = checked(creation_options or {})
    targets = Targets.of(out, confidence, probabilities, mkdir=mkdir)
    knobs_after = {"layer": layer, "min_area": min_area, "simplify": simplify, "smooth": smooth}
    after = polygons_after(polygons, knobs_after, confidence, overwrite=overwrite)
    if after is not None:
        products = [os.fspath(path) for path in (out, confidence, probabilities) if path is not None]
        after.check(scene, products, mkdir=mkdir)
    targets.check_inputs([Path(scene.path if isinstance(scene, Scene) else scene)])
    targets.check(overwrite=overwrite, placing=targets.by_product if unfinished(targets.labels) else ())
    made = plan(
        scene,
        confidence=targets.confidence is not None,
        probabilities=targets.probabilities is not None,
        announce=announce,
        progress=progress,
        **knobs,
    )
    written = execute(made, targets, overwrite=overwrite, storage=storage, progress=progress, announce=announce)
    if after is not None:
        if mkdir:
            make_folders(polygons)
        after.write(written, progress, announce)
    return written


def polygons_after(
    polygons: str | os.PathLike[str] | None,
    knobs: dict[str, Any],
    confidence: str | os.PathLike[str] | None,
    *,
    overwrite: bool,
) -> PolygonsAfter | None:
    """Return what follows the map; UsageError for what is about polygons where there are none."""
    if polygons is None:
        name = next((name for name, value in knobs.items() if value not in (None, False)), None)
        if name is not None:
            raise UsageError(f"{name} is about polygons; add polygons, such as landcover.gpkg, or leave it out")
        return None
    from geoseg.inference.polygons import PolygonsAfter  # noqa: PLC0415 - a map alone needs no compiler

    return PolygonsAfter.of(polygons, knobs, confidence, overwrite=overwrite)
