"""Running a plan: map the missing tiles, then assemble the map under its final names."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from geoseg.atomic import free_space_bytes, make_folders
from geoseg.errors import GeosegError, LockedError, OutputError, SceneError, numbered
from geoseg.inference.execution.journal import (
    Journal,
    Shard,
    as_tags,
    clear_parts,
    fingerprint,
    finished_by_all,
    header,
    open_journal,
    open_shard,
    parts_going,
    unfinished,
)
from geoseg.inference.execution.map_item import is_item_of, is_map_item, write_item
from geoseg.inference.execution.outputs import OutputOptions, Outputs, PolygonsAfter, item_place
from geoseg.inference.execution.scheduler import is_scheduled, run_tasks, stoppable
from geoseg.inference.execution.stored import PartsStore, Staged, staged
from geoseg.inference.execution.tile_task import Needs, Parts, TileDone, TileTask
from geoseg.inference.pipeline import Job, TileWriter, run_pipeline
from geoseg.machine import size_text
from geoseg.profile import ASSEMBLE, MAP, UPLOAD, Profile
from geoseg.progress import Announce, Progress, announcer
from geoseg.raster import Version, Window, check_place, opened, public_name, shown
from geoseg.raster.landcover import (
    NextStage,
    PartFormat,
    Product,
    ProductName,
    begin_cog,
    build_cog,
    built_path,
    part_path,
    parts_in,
    place,
)
from geoseg.store import Key, check_free, is_store

if TYPE_CHECKING:
    from geoseg.inference.plan import Plan

Report = Callable[[Progress], None]
_ASSEMBLING = "another shard is assembling the map"


def run_staged(
    plan: Plan, place: Staged, *, progress: Report | None, announce: Announce | None, profile: Profile | None
) -> Path | str:
    """Run a plan, write the outputs that follow its map, and return the map's path or URL; see `Plan.run`."""
    outputs = Outputs.of(place.out, place.options)
    keep = tuple(reversed(outputs.by_product))
    plan = replace(plan, mapping=replace(plan.mapping, keep=keep))
    tiles = _with_tile_of(unfinished(outputs.labels), plan).tile_count
    if outputs.shard is not None and not outputs.shard.indexes(tiles, outputs.labels.name):
        announcer(announce)(f"shard {outputs.shard} has no tiles of this map")
        return place.labels
    outputs.check(plan.source, plan.aoi)
    listeners = _Listeners(progress or _silence, announcer(announce), profile or Profile())
    try:
        if outputs.shard is not None and not _map_shard(plan, outputs, outputs.shard, place, listeners):
            return place.labels
    except LockedError:
        if len(finished_by_all(outputs.labels)) < tiles:
            raise
        listeners.announce(_ASSEMBLING)
        return place.labels
    try:
        _write_all(plan, outputs, place, listeners)
    except LockedError:
        if outputs.shard is None:
            raise
        listeners.announce(_ASSEMBLING)
        return place.labels
    if place.parts is not None:
        with listeners.profile.stretch(UPLOAD):
            place.put(listeners.announce)
    return place.labels


def _write_polygons(polygons: PolygonsAfter, outputs: Outputs, place: Staged, listeners: _Listeners) -> None:
    """Write the polygons of a finished map; if that fails, keep its rasters, and say how to write them alone.

    The journal of a map on the disk is kept too, so that the same command resumes here.
    """
    try:
        polygons.write(outputs.labels, listeners.progress, listeners.announce, mkdir=outputs.mkdir)
        place.check_unchanged("polygons")
        place.put_one("polygons")
    except GeosegError as error:
        error = error.renamed(out="polygons")
        try:
            place.put(listeners.announce, without={"polygons"})
        except GeosegError as second:
            message = f"{error}; the rasters could not be uploaded either: {second}"
            raise type(error)(message, error.parameter) from second
        hint = polygons.way_on(outputs.labels, place.address, resumes=place.parts is None)
        raise type(error)(f"{error}; {hint}", error.parameter) from error


def check_targets(out: str | os.PathLike[str], options: OutputOptions) -> None:
    """Raise what a run would raise about its outputs for any scene; they may exist, and their folders may not."""
    with staged(out, options, finished=True) as place:
        Outputs.of(place.out, cast("OutputOptions", {**place.options, "mkdir": True}))


def add_item(plan: Plan, out: str | os.PathLike[str], options: OutputOptions) -> None:
    """Write the STAC item of a finished map unless it exists. OutputError if another file is in its place."""
    address = item_place(out, options.get("stac"))
    if address is None or is_item_of(_content(address), _size(out)):
        return
    with staged(out, options, finished=True) as place:
        outputs = Outputs.of(place.out, place.options)
        outputs.check_item_free()
        if outputs.mkdir:
            make_folders(outputs.stac)
        for name, key in place.keys.items():
            if name == "stac":
                check_free(key, name, overwrite=outputs.overwrite or is_map_item(_content(address)))
            else:
                key.download(place.path(name))
        write_item(plan, outputs, place.address)
        if outputs.stac is not None and "stac" in place.keys:
            place.keys["stac"].upload(outputs.stac)


def clear_finished(plan: Plan, out: str | os.PathLike[str]) -> None:
    """Remove what an equal run left that ended before its polygons, which somebody has written since."""
    before = {} if is_store(out) else unfinished(Path(out))
    meaning = _with_tile_of(before, plan).meaning
    if before == meaning:
        with (
            suppress(LockedError),
            open_journal(Path(out), fingerprint(meaning), meaning, start_over=False) as journal,
        ):
            clear_parts(journal)


def _content(place: str) -> bytes:
    if is_store(place):
        return Key.of(place).read() or b""
    try:
        return Path(place).read_bytes()
    except OSError:
        return b""


def _size(place: str | os.PathLike[str]) -> int | None:
    return Key.of(place).size() if is_store(place) else Path(place).stat().st_size


@dataclass(frozen=True, slots=True)
class _Listeners:
    """The callbacks and the profile of a run."""

    progress: Report
    announce: Announce
    profile: Profile


def _write_all(plan: Plan, outputs: Outputs, staged_at: Staged, listeners: _Listeners) -> None:
    """Hold the output's lock, resume where an equal run ended, and replace a file only by a finished one.

    Raises LockedError, ResumeError, OutputError (no space, not writable) or SceneError; the finished tiles, or the
    journal that says which rasters are finished, are then kept next to the output.
    """
    _prepare(plan, outputs)
    parts = staged_at.parts
    plan = _with_tile_of(unfinished(outputs.labels), plan)
    meaning = plan.meaning
    version = plan.source.version(str(meaning["scene"]))
    shown_as = None if parts is None else str(parts.folder)
    with open_journal(
        outputs.labels, fingerprint(meaning), meaning, start_over=outputs.overwrite, shown=shown_as
    ) as journal:
        if parts is not None:
            parts.begin(header(fingerprint(meaning), meaning))
        outputs.check_free(_own(journal, outputs, meaning))
        waiting = _waiting(plan, journal, outputs, staged_at, meaning)
        if waiting:
            _forget_lost_parts(journal, waiting)
            _check_space(plan, journal)
            _announce(plan, journal, listeners.announce)
            begun = _begin_maps(plan, journal, outputs, waiting, parts)
            with listeners.profile.stretch(MAP):
                _map_missing(plan, journal, outputs, parts, listeners, begun=begun)
            _check_unchanged(plan, version)
            listeners.announce(f"assembling the map from {numbered(plan.tile_count, 'tile')}")
            with listeners.profile.stretch(ASSEMBLE):
                _assemble_maps(plan, outputs, journal, waiting, meaning, listeners.progress, begun, staged_at)
        if outputs.stac is not None or outputs.polygons is not None:
            staged_at.fetch(outputs.by_product)
        write_item(plan, replace(outputs, polygons=None), staged_at.address)  # not written yet
        staged_at.put_one("stac")
        if outputs.polygons is not None:
            _write_polygons(outputs.polygons, outputs, staged_at, listeners)
            write_item(plan, outputs, staged_at.address)
            staged_at.put_one("stac")
        clear_parts(journal)


def _map_shard(plan: Plan, outputs: Outputs, shard: Shard, place: Staged, listeners: _Listeners) -> bool:
    """Map one share of the tiles; return whether all tiles are now finished and the map can be assembled.

    Raises what `_write_all` raises.
    """
    _prepare(plan, outputs)
    plan = _with_tile_of(unfinished(outputs.labels), plan)
    meaning = plan.meaning
    version = plan.source.version(str(meaning["scene"]))
    with open_shard(outputs.labels, fingerprint(meaning), meaning, shard, start_over=outputs.overwrite) as journal:
        outputs.check_free(_own(journal, outputs, meaning))
        _forget_lost_parts(journal, _waiting(plan, journal, outputs, place, meaning))
        _check_space(plan, journal)
        _announce(plan, journal, listeners.announce)
        _map_missing(plan, journal, outputs, None, listeners, shard.indexes(plan.tile_count, outputs.labels.name))
        _check_unchanged(plan, version)
    finished_count = len(finished_by_all(outputs.labels))
    if finished_count < plan.tile_count:
        listeners.announce(
            f"shard {shard} is finished, {finished_count} of {plan.tile_count} tiles are done; the last shard to "
            "finish assembles the map"
        )
    return finished_count == plan.tile_count


def _prepare(plan: Plan, outputs: Outputs) -> None:
    outputs.check_inputs([*plan.source.local_files(), *plan.bundle.files])
    check_place(plan.scene.geobox)
    if outputs.mkdir:
        make_folders(*outputs.by_product.values(), outputs.stac)


def _silence(_: object) -> None:
    return


def _with_tile_of(before: Mapping[str, object], plan: Plan) -> Plan:
    """Return the plan with the tile size of an unfinished run that differs in nothing else.

    Labels do not depend on the tile size, but parts do. Its default follows the number of workers, which may change on
    a second machine, or after running out of memory.
    """
    match before.get("tile"):
        case [int(height_px), int(width_px)] if not plan.tile_is_given:
            other = replace(plan, tile_height_px=height_px, tile_width_px=width_px)
            return other if other.meaning == before else plan
    return plan


def _waiting(
    plan: Plan, journal: Journal, outputs: Outputs, staged_at: Staged, meaning: Mapping[str, object]
) -> tuple[Product, ...]:
    """Return the products that no interrupted run has put in their place."""
    return tuple(each for each in plan.products if not _is_placed(journal, each, outputs, staged_at, meaning))


def _is_placed(
    journal: Journal, product: Product, outputs: Outputs, staged_at: Staged, meaning: Mapping[str, object]
) -> bool:
    """Return whether an interrupted run has uploaded a product, or was about to move it and nothing is left to move."""
    if product.name in staged_at.keys:
        return journal.has_placed(staged_at.uploaded(product.name), outputs.storage)
    is_left = built_path(journal.parts, product).exists()
    return (
        journal.has_placed(product.name, outputs.storage)
        and not is_left
        and _is_of_run(outputs.by_product[product.name], meaning)
    )


def _own(journal: Journal, outputs: Outputs, meaning: Mapping[str, object]) -> list[ProductName]:
    """Return the products that a run was about to move, if nothing else is in their place."""
    return [
        name
        for name, path in outputs.by_product.items()
        if name in journal.placing and (not path.exists() or _is_of_run(path, meaning))
    ]


def _is_of_run(path: Path, meaning: Mapping[str, object]) -> bool:
    """Return whether a file is a raster of the run with that meaning: others may write there after an interruption."""
    try:
        with opened(str(path)) as dataset:
            return all(dataset.tags().get(tag) == text for tag, text in as_tags(meaning).items())
    except GeosegError:
        return False


def _forget_lost_parts(journal: Journal, products: Sequence[Product]) -> None:
    """Mark tiles as unfinished if somebody removed their parts."""
    for product in products:
        if not built_path(journal.parts, product).exists():
            journal.finished &= parts_in(journal.parts, product)


def _check_unchanged(plan: Plan, version: Version) -> None:
    """Raise SceneError if the scene changed during the run: its map would be half old, half new."""
    if plan.source.is_changed(version):
        raise SceneError(
            f"{shown(plan.source.path)} has changed since the run began; once it is complete, "
            "run again with `overwrite=True`"
        )


def _check_space(plan: Plan, journal: Journal) -> None:
    left = plan.disk_bytes * (1 - len(journal.finished) / plan.tile_count / 2)  # half of it is parts
    free = free_space_bytes(journal.folder)
    if left > free:
        raise OutputError(
            f"this map needs about {size_text(left)} on the disk of its `out`, but only {size_text(free)} is free; "
            "free some space or choose another disk"
        )


def _announce(plan: Plan, journal: Journal, announce: Announce) -> None:
    announce(f"reading {plan.source.band_choice}")
    if plan.is_resampled:
        gsd_m, own_gsd_m = plan.scene.geobox.gsd_m, plan.source.geobox.gsd_m
        announce(f"mapping at {gsd_m:.3g} m per pixel, resampled from {own_gsd_m:.3g} m")
    if plan.network_factor > 1 and (gsd_m := plan.scene.geobox.gsd_m) is not None:
        announce(
            f"the network sees pixels of {gsd_m * plan.network_factor:.3g} m, as in training; "
            f"the map keeps {gsd_m:.3g} m"
        )
    announce(f"scoring with {plan.bundle.name} on {plan.engine.describe()}")
    for note in plan.bundle.notes:
        announce(note)
    if fault := plan.source.geobox.gcp_fault:
        announce(f"the map will not be georeferenced, as the scene is not: its {fault}")
    elif not plan.scene.geobox.has_place:
        announce("the scene is not georeferenced; the map will not be either")
    if plan.source.geobox.gsd_m is None and (gsd_m := plan.bundle.gsd_m) is not None:
        announce(f"the scene does not state its pixel size; {gsd_m:g} m is assumed, unless `data_gsd_m` states another")
    if journal.finished:
        announce(f"resuming an unfinished map: {len(journal.finished)} of {plan.tile_count} tiles are done")


def _map_missing(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    plan: Plan,
    journal: Journal,
    outputs: Outputs,
    store: PartsStore | None,
    listeners: _Listeners,
    within: range | None = None,
    begun: Mapping[str, NextStage] | None = None,
) -> None:
    """Run the tiles missing from the journal, of all or of `within`; record and report each as it finishes.

    Maps in `begun` are extended with each tile. On return all parts are on this machine, including those that workers
    put into the `store`.
    """
    began = time.monotonic()
    pixels_before = sum(plan.tile(index).size for index in journal.finished)
    pixels_now = 0

    def report() -> None:
        done, seconds = len(journal.finished), time.monotonic() - began
        total = plan.grid.height_px * plan.grid.width_px
        listeners.progress(Progress(done, plan.tile_count, pixels_before + pixels_now, total, pixels_now, seconds))

    def finished(index: int) -> None:
        nonlocal pixels_now
        journal.add(index)
        pixels_now += plan.tile(index).size
        report()
        for stage in (begun or {}).values():
            stage.go_on(journal.finished)

    report()
    requested = range(plan.tile_count) if within is None else within
    missing = [index for index in requested if index not in journal.finished]
    form = PartFormat.of(plan.scene.shape, plan.tile_shape, outputs.storage)
    parts = Parts(plan.products, journal.parts, form, store)
    if plan.is_swept and not is_scheduled():
        run_sweep(plan, missing, parts.begin, finished, listeners.profile, parts.form.rows_at_once)
    else:
        _map_as_tasks(plan, missing, parts, finished, listeners)


def _map_as_tasks(
    plan: Plan, missing: Sequence[int], parts: Parts, finished: Callable[[int], None], listeners: _Listeners
) -> None:
    """Map tile by tile, each as a task on Dask workers or threads."""
    plan.scoring.on_one_device("a map by Dask's workers")
    listeners.profile.workers = None if is_scheduled() else plan.workers
    fetching = nullcontext(_silence) if parts.store is None else parts.store.fetching()
    with stoppable() as run, fetching as fetch:

        def done(tile: TileDone) -> None:
            for stage, seconds in tile.seconds.items():
                listeners.profile.add(stage, seconds, tile.cpu_seconds.get(stage, 0.0))
            fetch([part_path(parts.folder, product, tile.index) for product in plan.products])
            finished(tile.index)

        unfit = Needs.of(plan, parts).missing if is_scheduled() else None
        run_tasks(TileTask(plan, parts, run), missing, plan.workers, done, listeners.announce, unfit)


def run_sweep(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    plan: Plan,
    missing: Sequence[int],
    begin: Callable[[int, Window], TileWriter],
    finished: Callable[[int], None],
    profile: Profile,
    rows_at_once: int | None = None,
) -> None:
    """Sweep the scene with the plan's devices, or with threads that score windows on this machine's cores.

    `begin` starts to write a tile, given its index and place; `finished` is called for each tile written. Writers get
    `rows_at_once` rows of a tile, or the whole tile.
    """
    fed = plan.scoring.feeds_devices
    profile.workers, profile.devices = plan.workers, len(plan.engine.each) if fed else 0
    job = Job(plan.mapping, plan.tile, plan.tile_cols, begin, profile, rows_at_once)
    engines = [replace(plan.scoring, engine=choice).open for choice in plan.engine.each]
    run_pipeline(job, missing, engines, plan.capacity(), plan.workers, finished, 0 if fed else plan.workers)


def _begin_maps(
    plan: Plan, journal: Journal, outputs: Outputs, products: Sequence[Product], store: PartsStore | None
) -> dict[str, NextStage]:
    """Start assembling each product while its tiles are written, if they are on this machine's disk."""
    if store is not None or is_scheduled():
        return {}
    begun = {
        product.name: begin_cog(journal.parts, product, plan.tiles, plan.scene.shape, outputs.storage)
        for product in products
        if not built_path(journal.parts, product).exists()
    }
    return {name: stage for name, stage in begun.items() if stage is not None}


def _assemble_maps(  # noqa: PLR0913, PLR0917 - the arguments are distinct
    plan: Plan,
    outputs: Outputs,
    journal: Journal,
    products: Sequence[Product],
    meaning: Mapping[str, object],
    progress: Report,
    begun: Mapping[str, NextStage],
    staged_at: Staged,
) -> None:
    """Build every product, then move all of them to their places, so that a run's outputs appear together.

    Those of a map on the disk that go to a store are uploaded first, while their parts are there to build them again.
    """
    began, pixels = time.monotonic(), plan.grid.height_px * plan.grid.width_px
    tags = provenance(plan, meaning)

    def report(built: int, placed: int) -> None:
        """Report how many products are built and placed; placing takes almost no time."""
        done, total = built * pixels, len(products) * pixels
        seconds = time.monotonic() - began
        progress(Progress(built + placed, 2 * len(products), done, total, done, seconds, stage="assemble"))

    report(0, 0)
    for number, product in enumerate(products, start=1):
        if not built_path(journal.parts, product).exists():
            begun_with = begun.get(product.name)
            build_cog(journal.parts, product, plan.tiles, plan.scene.geobox, tags, outputs.storage, begun_with)
        report(number, 0)
    outputs.check_free(_own(journal, outputs, meaning))  # a run may take days, in which others write files
    by_name = {product.name: product for product in products}
    places = {name: path for name, path in outputs.by_product.items() if name in by_name}
    staged_at.begin_placing(places)
    for name in [name for name in places if staged_at.parts is None and name in staged_at.keys]:
        journal.place(str(staged_at.keys[name]), outputs.storage)
        place(built_path(journal.parts, by_name[name]), by_name[name], places.pop(name))
        staged_at.put_one(name)
        journal.place(staged_at.uploaded(name), outputs.storage)
    with parts_going(journal):
        for name, path in places.items():
            journal.place(name, outputs.storage)
            place(built_path(journal.parts, by_name[name]), by_name[name], path)
    report(len(products), len(products))


def provenance(plan: Plan, meaning: Mapping[str, object]) -> dict[str, str]:
    """Return the map's provenance, as tags of its file."""
    tags = as_tags(meaning)
    tags["GEOSEG_MODEL_NAME"] = plan.bundle.name
    tags["GEOSEG_MODEL_ABOUT"] = plan.bundle.sentence
    if "hub" in plan.bundle.provenance:
        tags["GEOSEG_MODEL_HUB"] = str(plan.bundle.provenance["hub"])
    tags["GEOSEG_SCENE_PATH"] = public_name(plan.source.path)
    tags["GEOSEG_WARNINGS"] = json.dumps(plan.cautions)
    return tags
