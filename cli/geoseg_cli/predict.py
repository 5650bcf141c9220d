"""`geoseg predict`."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from geoseg_cli import options, values
from geoseg_cli.groups import GroupedCommand, grouped, path_argument
from geoseg_cli.interrupt import InterruptedRunError, termination_interrupts
from geoseg_cli.pretrained import complete_model
from geoseg_cli.progress import ProgressBar
from geoseg_cli.quick import quick_start
from geoseg_cli.say import say

_PRETRAINED = ("legend", "mean", "std")
"""Options that complete a folder written by save_pretrained."""


_READ, _MODEL, _WRITTEN, _RUN = "What is read", "The model", "What is written", "The run"


@click.command(cls=GroupedCommand, short_help="A land-cover map from a scene.")
@path_argument("scene")
@options.bands(
    _READ,
    "Bands for the model, by number from 1 or by name: 4,3,2. "
    "[default: by colour interpretation, then by name, else the first]",
)
@grouped(_READ)(
    "--bbox",
    type=values.box,
    metavar="W,S,E,N",
    help="Only the pixels that this box touches, in the scene's CRS: 400000,4999000,401000,5000000. The map is of that "
    "size, on the scene's pixels. [default: the whole scene]",
)
@grouped(_READ)("--bbox-crs", metavar="CRS", help="The CRS of --bbox, where it is another: EPSG:4326.")
@options.scale(
    _READ,
    "Stored values that mean black and white to the model: 0,3000. HIGH alone means 0,HIGH. "
    "[default: as the model was trained]",
)
@grouped(_READ)(
    "--resolution",
    type=values.resolution,
    metavar="WHICH",
    help="Pixels to work on and to write: scene, its own; model, as large as those the model was trained on; "
    "or metres: 2. [default: scene]",
)
@grouped(_READ)(
    "--network-resolution",
    type=values.network_resolution,
    metavar="WHICH",
    help="Pixels that the network sees: auto, means of the model's size where the map's are finer by more than a "
    "third; scene, the map's own; or metres: 1. The map keeps its pixels. [default: auto]",
)
@grouped(_MODEL)(
    "--model",
    "-m",
    metavar="PATH",
    help="A .safetensors bundle, or a folder written by save_pretrained. [default: what the environment variable "
    "GEOSEG_MODEL names, else the demo model]",
)
@options.window(_MODEL)
@options.overlap(_MODEL, "the model's; with --window, a quarter of it")
@options.blend(_MODEL, "How overlapping windows are weighted")
@options.tta(_MODEL)
@grouped(_MODEL)(
    "--legend",
    metavar="JSON",
    help='For a save_pretrained folder: a file with [{"code": 0, "name": "water", "color": [0, 0, 255]}, ...], '
    "in the order of the output channels.",
)
@grouped(_MODEL)(
    "--mean",
    type=values.numbers,
    metavar="N,N,N",
    help="For a save_pretrained folder: the mean of each band, of values 0 to 255 or 0 to 1.",
)
@grouped(_MODEL)(
    "--std",
    type=values.numbers,
    metavar="N,N,N",
    help="For a save_pretrained folder: the standard deviation of each band, likewise.",
)
@options.out(_WRITTEN, "The land-cover map: a cloud-optimized GeoTIFF.", metavar="TIF")
@grouped(_WRITTEN)("--confidence", metavar="TIF", help="Also write the probability of the class chosen, in percent.")
@grouped(_WRITTEN)(
    "--probabilities", metavar="TIF", help="Also write the probability of every class, a band each, in percent."
)
@grouped(_WRITTEN)(
    "--polygons",
    metavar="FILE",
    help="Then write the map's polygons, as geoseg vectorize does: .gpkg, .parquet, .fgb, .geojson or .geojsonl. "
    "With --confidence each gets its mean.",
)
@grouped(_WRITTEN)(
    "--layer",
    metavar="NAME",
    help="With --polygons: the layer to write in a GeoPackage; one that exists keeps its other layers. "
    "[default: the map's name]",
)
@grouped(_WRITTEN)(
    "--min-area",
    metavar="AREA",
    help="With --polygons: give regions smaller than this to a neighbour: 100 (m2), 0.5ha, 25px. [default: keep all]",
)
@grouped(_WRITTEN)(
    "--simplify",
    metavar="LENGTH",
    help="With --polygons: about how far borders may move to need fewer vertices: 1.5 (m), 1.5px. "
    "[default: every pixel's corner]",
)
@grouped(_WRITTEN)("--smooth", is_flag=True, help="With --polygons: round the staircase of the pixels.")
@grouped(_WRITTEN)(
    "--co",
    "creation_options",
    type=values.creation_option,
    multiple=True,
    metavar="KEY=VALUE",
    help="How the rasters are stored, as GDAL says it: COMPRESS, LEVEL, PREDICTOR, BLOCKSIZE, BIGTIFF, NUM_THREADS; "
    "may be given again. [default: COMPRESS=DEFLATE, BLOCKSIZE=512]",
)
@options.mkdir(_WRITTEN)
@options.overwrite(_WRITTEN, "Replace an existing map, and start an unfinished run with other settings over.")
@grouped(_RUN)(
    "--tile",
    type=int,
    metavar="PX",
    help="Side of the pieces worked on and kept on their own; the map does not depend on it. "
    "[default: from the file's layout and the cores]",
)
@options.batch_size(_RUN, "Windows the network sees at once. [default: 1 on a CPU, 16 on a GPU]")
@options.device(_RUN)
@grouped(_RUN)("--workers", type=int, metavar="N", help="Tiles worked on at once. [default: from cores and memory]")
@grouped(_RUN)("--dry-run", is_flag=True, help="Tell tiles, windows, memory, disk and time; write nothing.")
@options.as_json(_RUN, "Print what was written, or with --dry-run what would be done, as JSON.")
@options.progress(_RUN)
@options.quiet(_RUN)
def predict(scene: str, out: str, *, dry_run: bool, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Write a land-cover map of SCENE, anything GDAL reads: GeoTIFF, VRT, JPEG2000, https://, s3://.

    The map has the scene's own grid, unless --resolution says otherwise. A run that was stopped goes on where it was
    when the same command is given again.

    Example: geoseg predict scene.tif --out landcover.tif

    Example: geoseg predict scene.tif --out centre.tif --bbox 7.41,43.72,7.44,43.75 --bbox-crs EPSG:4326
    """
    knobs = {name: value for name, value in given.items() if value not in (None, ())}
    if "creation_options" in knobs:
        knobs["creation_options"] = dict(knobs["creation_options"])
    legend, mean, std = (knobs.pop(name, None) for name in _PRETRAINED)
    if legend or mean or std:
        knobs["model"] = complete_model(
            knobs.get("model") or os.environ.get("GEOSEG_MODEL"), legend, mean, std, knobs.get("bands")
        )
    knobs = {name: value for name, value in knobs.items() if name not in {"smooth", "mkdir"} or value}
    if dry_run:
        _tell_plan(scene, out, knobs, as_json=as_json, quiet=quiet)
        return
    figures = _run(scene, out, knobs, quiet=quiet)
    if as_json:
        click.echo(json.dumps({"labels": out} | _others(knobs) | figures, indent=2))


def _tell_plan(scene: str, out: str, knobs: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Print what would be done, or fail where the run itself would."""
    from geoseg.inference import Targets, estimate, plan, polygons_after
    from geoseg.raster.landcover import creation_options

    overwrite, mkdir = knobs.pop("overwrite"), knobs.pop("mkdir", False)
    creation_options(knobs.pop("creation_options", {}))
    products = {name: knobs.pop(name, None) for name in ("confidence", "probabilities")}
    targets = Targets.of(out, **products, mkdir=mkdir)
    targets.check(overwrite=overwrite)
    after = polygons_after(
        knobs.pop("polygons", None), _about_polygons(knobs), products["confidence"], overwrite=overwrite
    )
    if after is not None:
        after.check(scene, [out, *(path for path in products.values() if path is not None)], mkdir=mkdir)
    wanted = {name: path is not None for name, path in products.items()}
    made = plan(scene, announce=None if quiet else say, **(knobs | wanted))
    targets.check_inputs([*made.source.local_files(), made.bundle.weights_path])
    figures = estimate(made)
    click.echo(json.dumps(figures.to_json(), indent=2) if as_json else str(figures))


def _run(scene: str, out: str, knobs: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Predict with a progress bar, and return its figures; an interruption says what is kept."""
    from geoseg.inference import predict as predict_scene

    polygons = knobs.get("polygons")
    if polygons is not None:
        with quick_start():
            from geoseg.vector import load_compiler

            load_compiler()
    with ProgressBar(quiet=quiet) as bar, termination_interrupts():
        try:
            predict_scene(scene, out, progress=bar.update, announce=bar.announce, **knobs)
        except KeyboardInterrupt:
            raise InterruptedRunError(_kept(bar, out, polygons)) from None
    if not quiet:
        say(f"wrote {' and '.join([out, *_others(knobs).values()])}{bar.summary_of('map')}")
    if polygons is None:
        return bar.figures_of("map")
    if not quiet:
        say(f"wrote {polygons}{bar.summary_of('polygons')}")
    made = bar.figures_of("polygons")
    return bar.figures_of("map") | {"polygons": polygons, "polygon_count": made.get("polygons")}


def _about_polygons(knobs: dict[str, Any]) -> dict[str, Any]:
    """Take out the options that are about polygons."""
    return {name: knobs.pop(name, None) for name in ("layer", "min_area", "simplify", "smooth")}


def _others(knobs: dict[str, Any]) -> dict[str, str]:
    """Return the rasters that are written beside the map."""
    return {name: knobs[name] for name in ("confidence", "probabilities") if name in knobs}


def _kept(bar: ProgressBar, out: str, polygons: str | None) -> str:
    if "polygons" in bar.by_stage:
        return f"interrupted; {out} is finished, nothing was written at {polygons}; go on by geoseg vectorize"
    last = bar.by_stage.get("map")
    count = f"{last.pieces_done} of {last.pieces_total} tiles" if last else "the tiles so far"
    return f"interrupted; {count} are finished and kept, the same command goes on from there"
