"""A plan carried out: what is missing is mapped, tile by tile, then put together under the final names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError, SceneError, UsageError
from geoseg.inference.journal import Journal, clear_parts, open_journal
from geoseg.inference.plan import Plan
from geoseg.inference.progress import Progress
from geoseg.inference.run import check_shared_folder, run_tasks, stoppable
from geoseg.inference.task import TileDone, TileTask
from geoseg.raster.environment import is_remote
from geoseg.raster.landcover import (
    assemble,
    files_beside,
    free_space_bytes,
    is_foreign_style,
    part_path,
    probe_writable,
    style_path,
)
from geoseg.raster.product import ProductName
from geoseg.raster.scene import Scene

Report = Callable[[Progress], None]
Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Targets:
    """Where each product of a run goes; None = not wanted."""

    labels: Path
    confidence: Path | None = None
    probabilities: Path | None = None

    @property
    def by_product(self) -> dict[ProductName, Path]:
        """The paths wanted; the land-cover map last: when it stands at its place, all is done."""
        paths: dict[ProductName, Path | None] = {
            "probabilities": self.probabilities,
            "confidence": self.confidence,
            "labels": self.labels,
        }
        return {name: path for name, path in paths.items() if path is not None}

    def check(self, *, overwrite: bool) -> None:
        """Raise UsageError for two products at one path, OutputError for a path that exists or cannot be written."""
        paths = list(self.by_product.values())
        for path in paths:
            probe_writable(path)
        claimed = [beside.resolve() for path in paths for beside in (path, *files_beside(path))]
        if len(set(claimed)) < len(claimed):
            raise UsageError(
                f"each product needs a path of its own, also without its suffix, got {', '.join(map(str, paths))}"
            )
        for path in paths:
            if path.exists() and not overwrite:
                raise OutputError(f"{path} exists; add --overwrite to replace it, or choose another --out")
            if is_foreign_style(style_path(path)) and not overwrite:
                raise OutputError(
                    f"{style_path(path)} is a style that geoseg has not written; choose another --out, "
                    "or add --overwrite to replace it"
                )

    def check_inputs(self, scene: Scene, model: Path | None) -> None:
        """Raise UsageError when a product would replace a file that the run reads."""
        read = {*scene.local_files(), *([model.resolve()] if model else [])}
        for path in self.by_product.values():
            for claimed in (path, *files_beside(path)):
                if claimed.resolve() in read:
                    raise UsageError(
                        f"{claimed} is read by this run and would be replaced by its output; choose another --out"
                    )


def execute(
    plan: Plan,
    targets: Targets,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    announce: Announce | None = None,
) -> Path:
    """Carry a plan out and return the path of the map.

    Holds the output's lock; goes on where an equal run ended; replaces a file only by a finished one. Raises
    LockedError, ResumeError, OutputError (no space, not writable) or SceneError; the finished tiles are then kept
    beside the output.
    """
    targets.check_inputs(plan.scene, plan.bundle.weights_path)
    for path in targets.by_product.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    meaning = plan.meaning
    with open_journal(targets.labels, plan.fingerprint(), meaning, start_over=overwrite) as journal:
        targets.check(overwrite=overwrite)
        _forget_lost_parts(plan, journal)
        _check_space(plan, journal)
        say = announce or _silence
        _announce(plan, journal, say)
        _map_missing(plan, journal, progress or _silence)
        _check_unchanged(plan, meaning)
        say(f"putting {plan.tile_count} tiles together")
        _assemble(plan, targets, journal, _tags(plan, meaning))
        clear_parts(journal)
    return targets.labels


def _silence(_: object) -> None:
    return


def _forget_lost_parts(plan: Plan, journal: Journal) -> None:
    """Make again what somebody removed from the parts, or a run that was killed while it cleaned up."""
    journal.finished = {
        index
        for index in journal.finished
        if all(part_path(journal.folder, product, index).is_file() for product in plan.products)
    }


def _check_unchanged(plan: Plan, meaning: Mapping[str, object]) -> None:
    """Raise SceneError when a local scene was replaced under the run: its map would be half old, half new."""
    if not is_remote(plan.scene.path) and plan.scene.fingerprint() != meaning["scene"]:
        raise SceneError(
            f"{plan.scene.path} has changed since the run began; run again with --overwrite when it is complete"
        )


def _check_space(plan: Plan, journal: Journal) -> None:
    left = plan.disk_bytes * (1 - len(journal.finished) / plan.tile_count / 2)  # parts are half of it
    free = free_space_bytes(journal.folder)
    if left > free:
        raise OutputError(
            f"this map needs about {left / 1e9:.2f} GB beside its --out, {free / 1e9:.2f} GB are free; "
            "free some space or choose another disk"
        )


def _announce(plan: Plan, journal: Journal, announce: Announce) -> None:
    announce(f"reading {plan.scene.band_choice}")
    announce(f"scoring with {plan.bundle.name} on {plan.engine.describe()}")
    if not plan.scene.geobox.has_place:
        announce("the scene has no place on Earth; the map will have none either")
    if journal.finished:
        announce(f"going on with an unfinished map: {len(journal.finished)} of {plan.tile_count} tiles are there")


def _map_missing(plan: Plan, journal: Journal, progress: Report) -> None:
    """Run the tiles that the journal lacks; each is recorded and reported as it comes."""
    check_shared_folder(journal.folder)
    began = time.monotonic()
    pixels_before = sum(plan.tile(index).size for index in journal.finished)
    pixels_now = 0

    def report() -> None:
        done, seconds = len(journal.finished), time.monotonic() - began
        total = plan.grid.height_px * plan.grid.width_px
        progress(Progress(done, plan.tile_count, pixels_before + pixels_now, total, pixels_now, seconds))

    def finished(tile: TileDone) -> None:
        nonlocal pixels_now
        journal.add(tile.index)
        pixels_now += tile.pixels
        report()

    report()
    missing = [index for index in range(plan.tile_count) if index not in journal.finished]
    with stoppable() as run:
        run_tasks(TileTask(plan, journal.folder, run), missing, plan.workers, finished)


def _assemble(plan: Plan, targets: Targets, journal: Journal, tags: Mapping[str, str]) -> None:
    """Put the parts of each product together; the land-cover map comes last."""
    tiles = [plan.tile(index) for index in range(plan.tile_count)]
    products = {product.name: product for product in plan.products}
    for name, path in targets.by_product.items():
        assemble(journal.folder, products[name], tiles, plan.scene.geobox, path, tags)


def _tags(plan: Plan, meaning: Mapping[str, object]) -> dict[str, str]:
    """Return where the map comes from, as it stands in the file."""
    tags: dict[str, Any] = {f"GEOSEG_{key.upper()}": value for key, value in meaning.items() if key != "products"}
    tags["GEOSEG_VERSION"] = tags.pop("GEOSEG_GEOSEG")
    tags["GEOSEG_MODEL_NAME"] = plan.bundle.name
    tags["GEOSEG_MODEL_SHA256"] = tags.pop("GEOSEG_MODEL")
    tags["GEOSEG_SCENE_PATH"] = plan.scene.path
    tags["GEOSEG_SCENE_FINGERPRINT"] = tags.pop("GEOSEG_SCENE")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in tags.items()}
