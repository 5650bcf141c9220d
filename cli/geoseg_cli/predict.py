"""`geoseg predict`, for one scene or several."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import GeosegError, OutsideError, UsageError, enumerated, numbered, spelled
from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.exchange import complete_model, foreign_options
from geoseg_cli.options import GroupedCommand, grouped, names_output, path_argument
from geoseg_cli.output import as_option, complain, say, with_options
from geoseg_cli.process import InterruptedRunError, fast_start
from geoseg_cli.progress_bar import ProgressBar, pixels_text

if TYPE_CHECKING:
    from geoseg.inference import Outputs, SceneResult
    from geoseg.inference.many import Status

_INPUT, _MODEL, _OUTPUT, _POLYGONS, _RUN = "Input", "Model", "Output", "Polygons", "Run"
_SHOWN_FAILURES = 3
_STATUS_WORDS: dict[Status, str] = {
    "mapped": "mapped",
    "partial": "mapped in part",
    "finished": "finished before",
    "outside": "outside the area",
    "failed": "failed",
}


@click.command(cls=GroupedCommand, short_help="Map the land cover of a scene.")
@path_argument("scenes", nargs=-1, metavar="SCENE...")
@grouped(_INPUT)(
    "--list", "list_file", metavar="FILE",
    help="Also map the scenes that this text file names, one per line, or those in the column scene of this CSV; "
    "- means standard input.",
)  # fmt: skip
@options.bands(
    _INPUT,
    "Bands for the model, by number from 1 or by name: 4,3,2. "
    "[default: by color interpretation, then by name, else the first]",
)
@grouped(_INPUT)(
    "--bbox", type=types.box, metavar="W,S,E,N",
    help="Map only this box, in the scene's CRS: 400000,4999000,401000,5000000. The map has the scene's pixels. "
    "[default: the whole scene]",
)  # fmt: skip
@grouped(_INPUT)("--bbox-crs", metavar="CRS", help="CRS of --bbox: EPSG:4326. [default: the scene's]")
@options.aoi(_INPUT, "Map only this area: polygons in any file and CRS. A pixel counts if its center lies inside.")
@grouped(_INPUT)(
    "--zoom", type=int, metavar="N",
    help="Zoom of a map server's tiles, https://.../{z}/{x}/{y}.png. [default: nearest to the model's pixels]",
)  # fmt: skip
@options.scale(_INPUT, "Stored values of black and white: 0,3000. HIGH alone means 0,HIGH. [default: as in training]")
@grouped(_INPUT)(
    "--resolution", type=types.word_or_meters("scene", "model", "0.5"), metavar="WHICH",
    help="Pixel size of the map: scene, model (that of the training imagery) or meters: 2. [default: scene]",
)  # fmt: skip
@grouped(_INPUT)(
    "--network-resolution", type=types.word_or_meters("auto", "scene", "1"), metavar="WHICH",
    help="Pixel size the network sees: auto (the model's, where the map's pixels are finer by more than a third), "
    "scene (the map's) or meters: 1. The map keeps its pixels. [default: auto]",
)  # fmt: skip
@grouped(_INPUT)(
    "--data-gsd",
    "data_gsd_m",
    type=float,
    metavar="M",
    help="Pixel size in meters, for a scene that does not state it.",
)
@grouped(_MODEL)(
    "--model", "-m", metavar="PATH",
    help="A .safetensors bundle, an .onnx file, a folder written by save_pretrained, or hf://owner/name. "
    "[default: the environment variable GEOSEG_MODEL, else the demo model]",
)  # fmt: skip
@options.network(_MODEL, "the model's; with --window, a quarter of it", "1 on a CPU, up to 32 on a GPU")
@foreign_options(_MODEL)
@options.out(_OUTPUT, "The land-cover map of one scene, a cloud-optimized GeoTIFF.", metavar="TIF", required=False)
@grouped(_OUTPUT)(
    "--out-dir", metavar="FOLDER",
    help="Folder for the maps of several scenes, on a disk or s3://; each has its scene's name. Finished maps are left "
    "alone.",
)  # fmt: skip
@grouped(_INPUT)(
    "--mosaic", is_flag=True,
    help="Map all scenes as one, without seams: they need one CRS. Where they overlap the last one counts.",
)  # fmt: skip
@grouped(_OUTPUT)("--confidence", metavar="TIF", help="Also write the probability of the chosen class, in percent.")
@grouped(_OUTPUT)(
    "--probabilities", metavar="TIF", help="Also write the probability of each class, one band per class, in percent."
)
@grouped(_OUTPUT)(
    "--co", "creation_options", type=types.creation_option, multiple=True, metavar="KEY=VALUE",
    help="GDAL creation option of the rasters: COMPRESS, LEVEL, PREDICTOR, BLOCKSIZE, BIGTIFF or NUM_THREADS; "
    "repeat it for several. [default: COMPRESS=DEFLATE, BLOCKSIZE=512]",
)  # fmt: skip
@grouped(_OUTPUT)(
    "--stac", is_flag=True,
    help="Also write a STAC item beside the map, landcover.json: its place, classes, checksums and origin.",
)  # fmt: skip
@options.replacing(_OUTPUT, "Replace an existing map, or restart an unfinished run that had other settings.")
@grouped(_POLYGONS)(
    "--polygons", metavar="FILE",
    help="Also write polygons, as geoseg vectorize does: .gpkg, .parquet, .fgb, .geojson or .geojsonl. "
    "With --confidence each polygon has its mean confidence.",
)  # fmt: skip
@options.new_layer(_POLYGONS)
@options.borders(_POLYGONS)
@grouped(_RUN)(
    "--tile", type=int, metavar="PX",
    help="Tile size in pixels. Affects memory and how often a run can resume, never the result. "
    "[default: from the file's blocks and the cores]",
)  # fmt: skip
@grouped(_RUN)(
    "--workers", type=int, metavar="N",
    help="Windows scored at once on a CPU; on a GPU, threads that read, and threads that write. "
    "[default: from cores and memory]",
)  # fmt: skip
@grouped(_RUN)(
    "--cluster", metavar="WHERE",
    help="Dask workers that do the work: the address of a scheduler (tcp://host:8786), its scheduler file, or a number "
    "of processes on this machine. [default: threads of this process]",
)  # fmt: skip
@grouped(_RUN)(
    "--shard", metavar="I/N",
    help="Map the I-th of N shares of the tiles, for job arrays on a shared disk; the last job to finish assembles the "
    "map.",
)  # fmt: skip
@grouped(_RUN)("--dry-run", is_flag=True, help="Print tiles, windows, memory, disk and time; write nothing.")
@grouped(_RUN)("--profile", is_flag=True, help="Report where the time went, what limited the run, and what to change.")
@options.telling(_RUN, "Print what was written (with --dry-run, the plan) as JSON.")
def predict(
    scenes: tuple[str, ...],
    *,
    dry_run: bool,
    profile: bool,
    as_json: bool,
    quiet: bool,
    **arguments: Any,  # noqa: ANN401
) -> None:
    """Write a land-cover map of SCENE, any raster that GDAL reads: GeoTIFF, VRT, JPEG2000, https://, s3://.

    The map has the scene's grid unless --resolution says otherwise. Run the same command again and an interrupted run
    resumes.

    Several scenes, folders of them and patterns go to --out-dir with one model; --confidence, --probabilities and
    --polygons then hold {name} where the scene's name goes. A scene that fails is reported, and the others are mapped.

    Example: geoseg predict scene.tif --out landcover.tif

    Example: geoseg predict scenes/*.tif --out-dir maps/

    Example: geoseg predict scene.tif --out center.tif --bbox 7.41,43.72,7.44,43.75 --bbox-crs EPSG:4326
    """
    out, out_dir, list_file = (arguments.pop(name) for name in ("out", "out_dir", "list_file"))
    settings = options.used(arguments)
    if "creation_options" in settings:
        settings["creation_options"] = dict(settings["creation_options"])
    settings = complete_model(settings)
    _check_no_surplus_path(scenes, settings)
    inputs: list[Any] = _scenes(scenes, list_file)
    if settings.pop("mosaic", False):
        from geoseg.raster import mosaic

        inputs = [mosaic(inputs)]
    if profile and (dry_run or out_dir is not None):
        raise click.UsageError(
            "--profile measures the map of one scene: give --out, and no --dry-run", click.get_current_context()
        )
    cluster = _workers(settings.pop("cluster", None))
    if out_dir is not None:
        if out is not None:
            raise click.UsageError("give --out or --out-dir, not both", click.get_current_context())
        click.get_current_context().with_resource(cluster)
        predict_each = _plan_all if dry_run else _predict_all
        predict_each(inputs, out_dir, settings, as_json=as_json, quiet=quiet)
        return
    from geoseg.profile import Profile

    scene, out = _only_scene(inputs, out), str(out)
    if not isinstance(cluster, nullcontext) and "shard" not in settings:
        _outputs(scene, out, settings)  # now: a scheduler may keep us waiting
        _check_scene(scene, settings)
    click.get_current_context().with_resource(cluster)
    if dry_run:
        _print_plan(scene, out, settings, as_json=as_json, quiet=quiet)
        return
    run_profile = Profile() if profile else None
    figures = _run(scene, out, settings if run_profile is None else settings | {"profile": run_profile}, quiet=quiet)
    if as_json:
        figures |= {} if run_profile is None else {"profile": run_profile.to_json()}
        click.echo(json.dumps(with_options({"labels": out} | _other_outputs(out, settings) | figures), indent=2))
    elif run_profile is not None:
        click.echo(spelled(str(run_profile), as_option))


def _workers(cluster: str | None) -> AbstractContextManager[None]:
    """Return a context in which a cluster's workers do the work, if one is named."""
    if cluster is None:
        return nullcontext()
    from geoseg.inference import connected

    return connected(cluster)


def _scenes(scenes: tuple[str, ...], list_file: str | None) -> list[str]:
    """Return all scenes given by paths, folders, patterns and a list; a single name is not checked."""
    if list_file is None and len(scenes) == 1 and not Path(scenes[0]).is_dir() and not set("*?[") & set(scenes[0]):
        return [*scenes]
    if list_file is None and not scenes:
        raise click.UsageError("give a scene, a folder of scenes, or --list FILE", click.get_current_context())
    from geoseg.inference import find_scenes, read_list

    listed = [] if list_file is None else read_list(list_file)
    return [str(scene) for scene in find_scenes([*scenes, *listed])]


def _check_no_surplus_path(scenes: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Reject a path after --stac, which would be taken for another scene, unless it is an existing item."""
    if "stac" not in settings or len(scenes) < 2:
        return
    for scene in scenes:
        if scene.lower().endswith((".json", ".geojson")) and "://" not in scene and not Path(scene).exists():
            raise click.UsageError(
                f"--stac takes no path, got {scene}: the item is written next to the map under its name, "
                "landcover.json next to landcover.tif",
                click.get_current_context(),
            )


def _only_scene(scenes: list[Any], out: str | None) -> Any:  # noqa: ANN401 - a path, or a Scene, which would load GDAL
    """Return the only scene, for --out; UsageError if there are several, or no --out."""
    if len(scenes) == 2 and out is None and names_output(str(scenes[1])):
        raise click.UsageError(f"missing option --out (did you mean --out {scenes[1]}?)", click.get_current_context())
    if len(scenes) > 1:
        raise click.UsageError(
            f"{len(scenes)} scenes ({scenes[0]}, {scenes[1]}{', ...' if len(scenes) > 2 else ''}) need a "
            "folder: give --out-dir FOLDER, or map them as one with --mosaic",
            click.get_current_context(),
        )
    if out is None:
        raise click.UsageError("missing option '--out' / '-o'", click.get_current_context())
    return scenes[0]


def _outputs(scene: Any, out: str, settings: dict[str, Any]) -> Outputs:  # noqa: ANN401 - as above
    """Return the outputs of a run, or fail with the error that the run would have."""
    from geoseg.inference import OutputOptions, Outputs, staged

    output_options: Any = {name: settings[name] for name in OutputOptions.__annotations__ if name in settings}
    with staged(out, output_options, dry=True) as place:
        outputs = Outputs.of(place.out, place.options)
        outputs.check(scene, settings.get("aoi"))
    return outputs


def _check_scene(scene: Any, settings: dict[str, Any]) -> None:  # noqa: ANN401 - as above
    """Fail with the error that the run would have about a scene on this machine, or about its box."""
    from geoseg.raster import Scene, crop, is_item, is_layer, is_remote, is_tile_address

    is_path = not isinstance(scene, Scene)
    if is_path and any(is_served(scene) for is_served in (is_remote, is_tile_address, is_item, is_layer)):
        return
    if is_path:
        Scene.open(scene, settings.get("bands", (1,)))  # the model's own may share one type where all do not
    if "bbox" in settings:
        try:
            crop(scene, settings["bbox"], settings.get("bbox_crs"))
        except UsageError as error:
            raise error.renamed(crs="bbox_crs") from error.__cause__


def _print_plan(scene: str, out: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Print what would be done, or fail with the error that the run would have."""
    from geoseg.inference import OutputOptions, plan

    outputs = _outputs(scene, out, settings)
    extras = {name: name in settings for name in ("confidence", "probabilities")}
    others = {name: value for name, value in settings.items() if name not in OutputOptions.__annotations__}
    planned = plan(scene, announce=None if quiet else say, **(others | extras))
    outputs.check_inputs([*planned.source.local_files(), *planned.bundle.files])
    figures = planned.estimate()
    click.echo(json.dumps(figures.to_json(), indent=2) if as_json else str(figures))


def _run(scene: str, out: str, settings: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Predict with a progress bar and return the figures; if interrupted, report what is kept."""
    polygons = settings.get("polygons")
    with fast_start():
        from geoseg.compiled import load_compiler, load_within
        from geoseg.inference import predict as predict_scene

        load_within(fast_start)  # when needed, which depends on the scene's pixels
        if polygons is not None:
            load_compiler()
    with ProgressBar(quiet=quiet) as bar:
        try:
            predict_scene(scene, out, progress=bar.update, announce=bar.announce, **settings)
        except KeyboardInterrupt:
            raise InterruptedRunError(_interruption_message(bar, out, polygons)) from None
    if "shard" in settings and not Path(out).exists():
        return {"shard": settings["shard"], "finished": False}
    if not quiet:
        say(f"wrote {enumerated([out, *_other_outputs(out, settings).values()])}{bar.summary_of('map')}")
    if polygons is None:
        return bar.figures_of("map")
    if not quiet:
        say(f"wrote {polygons}{bar.summary_of('polygons')}")
    polygon_figures = bar.figures_of("polygons")
    return bar.figures_of("map") | {"polygons": polygons, "polygon_count": polygon_figures.get("polygons")}


def _other_outputs(out: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the other rasters and the STAC item that are written with the map."""
    from geoseg.inference import item_place

    others: dict[str, str] = {name: settings[name] for name in ("confidence", "probabilities") if name in settings}
    item = item_place(out, settings.get("stac"))
    return others if item is None else others | {"stac": item}


def _interruption_message(bar: ProgressBar, out: str, polygons: str | None) -> str:
    if "polygons" in bar.by_stage:
        from geoseg.store import is_store

        finished = f"{polygons} is not finished" if is_store(out) else f"{out} is finished, {polygons} is not"
        return f"interrupted; {finished}; the same command resumes"
    last = bar.by_stage.get("map")
    if last is None:
        return "interrupted; no tile was mapped this time, run the same command again"
    return (
        f"interrupted; {last.pieces_done} of {last.pieces_total} tiles are finished and kept, the same command resumes"
    )


def _predict_all(scenes: list[Any], out_dir: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Map scenes into a folder, printing a line for each; raise an error at the end if any failed."""
    with fast_start():
        from geoseg.compiled import load_compiler, load_within
        from geoseg.inference import predict_many

        load_within(fast_start)
        if "polygons" in settings:
            load_compiler()
    results: list[SceneResult] = []
    lines: set[str] = set()
    with ProgressBar(quiet=quiet) as bar:

        def announce(line: str) -> None:
            """Print lines that several scenes share only once."""
            if line not in lines:
                lines.add(line)
                bar.announce(line)

        def on_result(result: SceneResult) -> None:
            results.append(result)
            bar.reset()
            if as_json:
                click.echo(json.dumps(with_options(result.to_json())))
                sys.stdout.flush()
            _report_scene(result, len(results), len(scenes), quiet=quiet)

        try:
            predict_many(scenes, out_dir, progress=bar.update, announce=announce, on_result=on_result, **settings)
        except KeyboardInterrupt:
            done = f"{len(results)} of {numbered(len(scenes), 'scene')} done"
            raise InterruptedRunError(f"interrupted; {done}, the same command resumes") from None
    _sum_up(results, quiet=quiet)


def _report_scene(result: SceneResult, number: int, total: int, *, quiet: bool) -> None:
    if result.status == "failed":
        complain("error", _error_text(result.scene, str(result.error)))
        return
    messages = {
        "mapped": f"wrote {result.labels}: {pixels_text(result.pixels)} in {result.seconds:.1f} s",
        "partial": f"{result.scene}: this share is mapped; the last shard to finish assembles the map",
        "finished": f"{result.labels} is finished",
        "outside": f"{result.scene} lies outside the area",
    }
    if not quiet:
        say(f"{number} of {total}: {messages[result.status]}")


def _error_text(scene: str, error: str) -> str:
    return error if scene in error else f"{scene}: {error}"


def _sum_up(results: list[SceneResult], *, quiet: bool) -> None:
    counts = Counter(result.status for result in results)
    summary = ", ".join(f"{counts[status]} {words}" for status, words in _STATUS_WORDS.items() if counts[status])
    if not counts["failed"]:
        if not quiet:
            say(f"{numbered(len(results), 'scene')}: {summary}")
        return
    names = [result.scene for result in results if result.status == "failed"]
    more = f" and {len(names) - _SHOWN_FAILURES} more" if len(names) > _SHOWN_FAILURES else ""
    raise GeosegError(
        f"{len(names)} of {numbered(len(results), 'scene')} failed ({', '.join(names[:_SHOWN_FAILURES])}{more}); the "
        "same command tries them again and leaves finished maps alone"
    )


def _plan_all(scenes: list[Any], out_dir: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Print what would be done for each scene, and the totals."""
    from geoseg.inference import each_plan

    seconds, disk_bytes, failed, planned = 0.0, 0, 0, 0
    for scene, scene_plan in each_plan(scenes, out_dir, announce=None if quiet else say, **settings):
        if isinstance(scene_plan, GeosegError):
            failed += not isinstance(scene_plan, OutsideError)
            complain("error", _error_text(scene, str(scene_plan)))
            continue
        figures = scene_plan.estimate()
        seconds, disk_bytes, planned = seconds + figures.seconds, disk_bytes + figures.disk_bytes, planned + 1
        size = f"{figures.width_px} x {figures.height_px} px, {numbered(figures.windows, 'window')}"
        click.echo(json.dumps(figures.to_json()) if as_json else f"{figures.scene}: {size}, {figures.seconds:.2g} s")
    if not as_json:
        click.echo(f"{numbered(planned, 'scene')}: about {disk_bytes / 1e6:.3g} MB on the disk, {seconds:.2g} s")
    if failed:
        raise GeosegError(f"{failed} of {numbered(len(scenes), 'scene')} cannot be mapped with these options")
