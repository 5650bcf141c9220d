"""The verbs that turn a scene into a land-cover map: `predict` to a file, `labels` to a lazy array."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from geoseg.given import plain_arguments
from geoseg.inference.execution import OutputOptions, Outputs, run_staged, staged
from geoseg.inference.plan import PlanOptions, plan
from geoseg.profile import Profile
from geoseg.progress import Progress
from geoseg.raster import as_scene

if TYPE_CHECKING:
    import dask.array

    from geoseg.raster.scene import SceneLike


class PredictOptions(PlanOptions, OutputOptions, total=False):
    """Options of a prediction: how the scene is mapped, and what is written besides the map."""


@plain_arguments(PredictOptions)
def predict(
    scene: SceneLike,
    out: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    profile: Profile | None = None,
    **options: Unpack[PredictOptions],
) -> Path | str:
    """Map a scene of any size and return the path of the map.

    Parameters
    ----------
    scene : path, Scene, rasterio dataset or xarray.DataArray
        Anything that GDAL reads: a file, a URL, a VRT; or what `Scene.open` takes.
    out : path or URL
        The land-cover map: a cloud-optimized GeoTIFF of class codes, uint8, 255 = nodata, on the scene's own grid, or
        on that of `resolution`. A URL (s3://, gs://, az://) writes it to an object store, with its unfinished parts.
    progress : callable, optional
        Called with a `Progress` after every tile and every later step.
    announce : callable, optional
        Called with messages for the user: the bands, the engine, a resumed run. The logger `geoseg` gets them too.
    profile : Profile, optional
        Records where the time goes: busy seconds of each stage, and what limited the run.
    **options
        How the scene is mapped, see `PlanOptions`: model, bands, bbox, bbox_crs, aoi, aoi_crs, zoom, scale, window,
        overlap, blend, tta, resolution, network_resolution, data_gsd_m, tile, batch_size, device, workers. Further
        outputs and how they are written, see `OutputOptions`: confidence, probabilities, polygons, layer, min_area,
        simplify, smooth, stac, mkdir, overwrite, shard, creation_options.

    Returns
    -------
    Path or str
        Absolute path of the map, or its URL in a store.

    Raises
    ------
    GeosegError
        A subclass says what is wrong. An existing file is replaced only by a finished one, and only with `overwrite`.

    Warns
    -----
    UnlikeTrainingWarning
        If the scene looks unlike the imagery that the model was trained on.

    Notes
    -----
    Equivalent to `plan(scene, ...).run(out, ...)`, with the outputs checked first. Call it again with the same
    arguments and an interrupted run resumes.

    Examples
    --------
    >>> geoseg.predict("scene.tif", "landcover.tif", polygons="landcover.gpkg", min_area="100")  # doctest: +SKIP

    """
    output_options, rest = taken(OutputOptions, options)
    with staged(out, cast("OutputOptions", output_options)) as place:
        outputs = Outputs.of(place.out, place.options)
        scene = as_scene(scene)
        if outputs.shard is None:  # a shard's outputs are checked once its plan shows whether it has any work
            outputs.check(scene, rest.get("aoi"))
        scene_plan = plan(
            scene,
            confidence=outputs.confidence is not None,
            probabilities=outputs.probabilities is not None,
            announce=announce,
            progress=progress,
            **cast("PlanOptions", rest),
        )
        return run_staged(scene_plan, place, progress=progress, announce=announce, profile=profile)


@plain_arguments(PlanOptions)
def labels(scene: SceneLike, **options: Unpack[PlanOptions]) -> dask.array.Array:
    """Return the class codes of a scene as a lazy Dask array; equivalent to `plan(scene, ...).to_dask()`.

    Parameters
    ----------
    scene : path, Scene, rasterio dataset or xarray.DataArray
        Anything that GDAL reads: a file, a URL, a VRT; or what `Scene.open` takes.
    **options
        Those of `geoseg.plan`.

    Returns
    -------
    dask.array.Array
        (row, col), uint8, 255 = nodata, one chunk per tile. Nothing is computed until the array is.

    """
    return plan(scene, **options).to_dask()


def taken(kind: type, options: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 - of a TypedDict
    """Return the options that a TypedDict names, and the rest."""
    names = kind.__annotations__
    return (
        {name: value for name, value in options.items() if name in names},
        {name: value for name, value in options.items() if name not in names},
    )
