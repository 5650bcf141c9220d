"""The verb `predict_many`: map scenes one after another with one engine, planning the next while one is mapped."""

from __future__ import annotations

import os
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from geoseg.atomic import make_folders, same_file
from geoseg.errors import GeosegError, OutsideError, UsageError, one_line
from geoseg.given import plain_arguments
from geoseg.inference.execution import (
    OutputOptions,
    add_item,
    check_targets,
    clear_finished,
    is_scheduled,
    item_place,
    provenance,
)
from geoseg.inference.plan import Plan, PlanOptions, plan
from geoseg.inference.predict import PredictOptions, taken
from geoseg.inference.scene_list import find_scenes, map_names, named
from geoseg.inference.scoring import Scoring
from geoseg.machine import available_memory_bytes
from geoseg.model import as_bundle
from geoseg.prefetch import prefetch
from geoseg.progress import Announce, Progress, announcer
from geoseg.raster import close_kept, fresh_tags, opened, shown
from geoseg.store import Key, is_store
from geoseg.typed import checked

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

Status = Literal["mapped", "partial", "finished", "outside", "failed"]
_PATH_OPTIONS = ("confidence", "probabilities", "polygons", "stac")
"""Options that hold one path per scene."""
_IGNORED_TAGS = ("GEOSEG_TILE", "GEOSEG_WARNINGS", "GEOSEG_SCENE_PATH", "GEOSEG_MODEL_ABOUT", "GEOSEG_MODEL_HUB")
"""Tags that may differ between two maps of equal runs."""

_AT_ONCE = 2
"""Small scenes processed at once; one more waits."""
_SMALL_PX = 2048**2


@dataclass(frozen=True, slots=True)
@checked
class SceneResult:
    """The outcome of one of several scenes."""

    scene: str
    """Name of the scene in messages."""
    labels: Path | str
    """Where its map is, or would be: a path, or the URL of a map in a store."""
    status: Status
    """mapped now; partial, since other shards are missing; finished by an earlier run with the same settings; outside
    the box or area; or failed."""
    error: GeosegError | None = None
    """Why it failed, or what it lies outside of."""
    pixels: int = 0
    """Number of pixels of its map."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values by name."""
        fault = {} if self.error is None else {"error": str(self.error)}
        return {
            "scene": self.scene,
            "status": self.status,
            "labels": str(self.labels),
            "pixels": self.pixels,
            "seconds": round(self.seconds, 3),
            **fault,
        }


_QuietResult = tuple[SceneResult, list[Callable[[], None]]]
"""A scene that was mapped in its own thread, and the deferred calls that report it."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One of the scenes, and the place of its map."""

    scene: SceneLike
    name: str
    labels: Path | str
    options: OutputOptions

    @property
    def shown(self) -> str:
        return shown(os.fspath(self.scene)) if isinstance(self.scene, str | os.PathLike) else self.name

    @property
    def inputs(self) -> list[Path]:
        """The scene's file, and the STAC item or collection that contains it."""
        if not isinstance(self.scene, str | os.PathLike):
            return []
        path = os.fspath(self.scene)
        return [Path(path), Path(path.rpartition("#")[0] or path)]


@plain_arguments(PredictOptions)
def predict_many(
    scenes: SceneLike | Iterable[SceneLike],
    out_dir: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    on_result: Callable[[SceneResult], None] | None = None,
    **options: Unpack[PredictOptions],
) -> list[SceneResult]:
    """Map many scenes with one model, each to its own file, and return the outcome of each.

    Parameters
    ----------
    scenes : path, or an iterable of what `predict` takes
        Files, URLs, folders of rasters, patterns such as `scenes/*.tif`.
    out_dir : path or URL
        The folder for the maps, created if missing, or one in a store (s3://bucket/maps). Maps are named after scenes.
    progress : callable, optional
        Called with a `Progress`, which names the scene, after every tile and every later step.
    announce : callable, optional
        Called with messages for the user.
    on_result : callable, optional
        Called with the `SceneResult` of each scene when it ends.
    **options
        As for `predict`. The paths `confidence`, `probabilities`, `polygons` and `stac` contain `{name}` instead of
        the scene's name.

    Returns
    -------
    list of SceneResult
        In the order of the scenes.

    Raises
    ------
    UsageError, ModelError
        Before the first scene: options that are invalid for every scene, a model that cannot be opened, two scenes
        whose maps would have the same name. An error of one scene is its result's `error`; the others are mapped.

    Notes
    -----
    Call it again to continue: finished maps are recognized by their tags (scene, model and settings), and an
    interrupted one resumes. A map made with other settings fails its scene, unless `overwrite` replaces it.

    Examples
    --------
    >>> results = geoseg.predict_many("scenes/*.tif", "maps/", confidence="sure/{name}.tif")  # doctest: +SKIP
    >>> [each.scene for each in results if each.status == "failed"]  # doctest: +SKIP

    """
    announce = announcer(announce)
    settings, jobs = _prepared(find_scenes(scenes), out_dir, options)
    make_folders(*(job.labels for job in jobs[:1]))
    close_kept()  # Windows replaces no open file, and another thread replaces the maps
    results: list[SceneResult] = []
    for result in _results_in_order(jobs, settings, progress, announce):
        _clear_frames(result.error)
        results.append(result)
        if on_result is not None:
            on_result(result)
        elif result.status == "failed":
            announce(f"{result.scene} failed: {result.error}")
    return results


def _clear_frames(error: BaseException | None) -> None:
    """Drop the local variables that an error's traceback keeps: the pixels of a scene, for as long as its result."""
    seen: set[int] = set()  # a user's errors may cause each other
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@plain_arguments(PredictOptions)
def each_plan(
    scenes: SceneLike | Iterable[SceneLike],
    out_dir: str | os.PathLike[str],
    announce: Callable[[str], None] | None = None,
    **options: Unpack[PredictOptions],
) -> Iterator[tuple[str, Plan | GeosegError]]:
    """Yield each scene's name with the plan that `predict_many` would run, or with its error.

    Raises what `predict_many` raises before the first scene.
    """
    settings, jobs = _prepared(find_scenes(scenes), out_dir, options)
    for job in jobs:
        try:
            yield job.shown, _plan(job, settings, announce)
        except GeosegError as error:
            yield job.shown, error


def _prepared(
    scenes: list[SceneLike], folder: str | os.PathLike[str], options: PredictOptions
) -> tuple[PlanOptions, list[_Job]]:
    """Check everything that does not depend on a scene; return the plans' options, and a job for each scene."""
    if not scenes:
        raise UsageError("no scene was given; name files, a folder or a pattern", "scenes")
    output_options, rest = taken(OutputOptions, options)
    names = map_names(scenes)
    jobs = [
        _Job(scene, name, _in_folder(folder, f"{name}.tif"), cast("OutputOptions", _of_scene(output_options, name)))
        for scene, name in zip(scenes, names, strict=True)
    ]
    _check_no_scene_is_replaced(jobs, folder)
    check_targets(jobs[0].labels, jobs[0].options)
    bundle = as_bundle(rest.get("model"), rest.get("window"))
    Scoring.choose(bundle, cast("PlanOptions", rest))
    return cast("PlanOptions", rest | {"model": bundle}), jobs


def _in_folder(folder: str | os.PathLike[str], name: str) -> Path | str:
    """Return a path in a folder, or a URL in a folder of a store; UsageError for an invalid URL."""
    if not is_store(folder):
        return Path(folder) / name
    return str(Key.of(f"{os.fspath(folder).rstrip('/')}/{name}", "out_dir"))


def _check_no_scene_is_replaced(jobs: list[_Job], folder: str | os.PathLike[str]) -> None:
    files = defaultdict[str, list[Path]](list)
    for file in (file for job in jobs for file in job.inputs):
        files[file.name].append(file)
    for job in jobs:
        for target, kind in ((job.labels, "map"), (item_place(job.labels, job.options.get("stac")), "STAC item")):
            if target is None or is_store(target):
                continue
            path = Path(target)
            if any(same_file(path, file) for file in files.get(path.name, ())):
                raise UsageError(
                    f"the {kind} of {job.shown} would replace a scene; choose an `out_dir` other than "
                    f"{os.fspath(folder)}",
                    "out_dir",
                )


def _of_scene(options: dict[str, Any], name: str) -> dict[str, Any]:
    scene_paths = {
        option: named(options[option], name, option)
        for option in _PATH_OPTIONS
        if isinstance(options.get(option), str | os.PathLike)
    }
    return options | scene_paths | {"mkdir": True}


def _results_in_order(
    jobs: list[_Job], settings: PlanOptions, progress: Callable[[Progress], None] | None, announce: Announce | None
) -> Iterator[SceneResult]:
    """Map the scenes, and yield their results in order.

    A small scene is checked and its map written while the network scores another scene. Its messages and progress are
    reported in order, in this thread.
    """
    at_once = min(_AT_ONCE, settings.get("workers") or _AT_ONCE)
    pool = ThreadPoolExecutor(at_once, "geoseg-scenes")
    pending: deque[Future[_QuietResult]] = deque()
    try:
        for number, (job, scene_plan) in enumerate(prefetch(_planned(jobs, settings, announce)), start=1):
            report = None if progress is None else _reporting(progress, job.shown, number, len(jobs))
            if scene_plan is not None and at_once > 1 and _is_small(scene_plan):
                pending.append(pool.submit(_mapped_quietly, job, scene_plan, settings, report, announce))
            else:
                yield from _reported(pending, 0)
                yield _mapped(job, scene_plan, settings, report, announce)
            yield from _reported(pending, at_once)
        yield from _reported(pending, 0)
    finally:
        pool.shutdown(cancel_futures=True)


def _mapped_quietly(
    job: _Job,
    scene_plan: Plan,
    settings: PlanOptions,
    progress: Callable[[Progress], None] | None,
    announce: Announce | None,
) -> _QuietResult:
    calls: list[Callable[[], None]] = []

    def later(call: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
        return None if call is None else lambda argument: calls.append(partial(call, argument))

    return _mapped(job, scene_plan, settings, later(progress), later(announce)), calls


def _reported(pending: deque[Future[_QuietResult]], most: int) -> Iterator[SceneResult]:
    """Yield results in order, each after its messages and progress, until `most` are left."""
    while len(pending) > most:
        result, calls = pending.popleft().result()
        for call in calls:
            call()
        yield result


def _is_small(scene_plan: Plan) -> bool:
    """Return whether a map is so small that time other than scoring matters, and a second one fits in memory."""
    is_small = scene_plan.grid.height_px * scene_plan.grid.width_px <= _SMALL_PX
    runs_here = not is_scheduled() and not scene_plan.scoring.feeds_devices
    return is_small and runs_here and 2 * scene_plan.memory_bytes < available_memory_bytes()


def _planned(jobs: list[_Job], settings: PlanOptions, announce: Announce | None) -> Iterator[tuple[_Job, Plan | None]]:
    """Yield each job with its plan, made ahead; None if planning fails, so that its turn plans again and raises.

    A scene of several tiles is planned again in its turn too, when the previous scene's memory is free.
    """
    for index, job in enumerate(jobs):
        try:
            scene_plan = _plan(job, settings, None if index else announce)
        except Exception:  # noqa: BLE001 - planning again raises it again
            yield job, None
            continue
        yield job, (scene_plan if scene_plan.tile_count == 1 else None)


def _plan(job: _Job, settings: PlanOptions, announce: Announce | None) -> Plan:
    confidence, probabilities = (job.options.get(name) is not None for name in ("confidence", "probabilities"))
    return plan(job.scene, confidence=confidence, probabilities=probabilities, announce=announce, **settings)


def _mapped(
    job: _Job,
    scene_plan: Plan | None,
    settings: PlanOptions,
    progress: Callable[[Progress], None] | None,
    announce: Announce | None,
) -> SceneResult:
    began = time.monotonic()
    pixels = 0
    result = partial(SceneResult, job.shown, job.labels.absolute() if isinstance(job.labels, Path) else job.labels)
    try:
        ready = scene_plan or _plan(job, settings, announce)
        pixels = ready.grid.height_px * ready.grid.width_px
        if is_finished(ready, job.labels, job.options):
            add_item(ready, job.labels, job.options)
            clear_finished(ready, job.labels)
            return result("finished", pixels=pixels)
        ready.run(job.labels, progress=progress, announce=announce, **job.options)
    except OutsideError as error:
        return result("outside", error)
    except GeosegError as error:
        return result("failed", error.renamed(out="out_dir"), pixels, time.monotonic() - began)
    except Exception as error:  # noqa: BLE001 - the other scenes are still mapped
        fault = GeosegError(f"unexpected {type(error).__name__}: {one_line(error, None)}")
        fault.__cause__ = error
        return result("failed", fault, pixels, time.monotonic() - began)
    is_whole = job.options.get("shard") is None or is_finished(ready, job.labels, job.options)
    return result("mapped" if is_whole else "partial", None, pixels, time.monotonic() - began)


def is_finished(scene_plan: Plan, labels: Path | str, options: OutputOptions) -> bool:
    """Return whether every file of a run exists, and its rasters are those that the plan would write."""
    others = options.get("confidence"), options.get("probabilities")
    rasters = [os.fspath(path) for path in (labels, *others) if path is not None]
    polygons = options.get("polygons")
    if not all(_exists(path) for path in (*rasters, polygons) if path is not None):
        return False
    plan_tags = provenance(scene_plan, scene_plan.meaning)
    expected = {name: text for name, text in plan_tags.items() if name not in _IGNORED_TAGS}
    for path in rasters:
        try:
            tags = _tags(path)
        except GeosegError:
            return False
        if any(tags.get(name) != text for name, text in expected.items()) or "GEOSEG_AOI" in tags.keys() - plan_tags:
            return False
    return True


def _exists(path: str | os.PathLike[str]) -> bool:
    return Key.of(path).exists() if is_store(path) else Path(path).is_file()


def _tags(path: str) -> dict[str, str]:
    """Return a raster's tags; for one in a store its current tags, not those that GDAL has cached."""
    if is_store(path):
        return fresh_tags(str(Key.of(path)))
    with opened(path) as dataset:
        tags: dict[str, str] = dataset.tags()
        return tags


def _reporting(progress: Callable[[Progress], None], scene: str, number: int, total: int) -> Callable[[Progress], None]:
    return lambda state: progress(replace(state, scene=scene, scene_number=number, scenes_total=total))
