"""`geoseg predict` of several scenes."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import GeosegError, OutsideError
from geoseg_cli.output import complain, say
from geoseg_cli.process import InterruptedRunError, fast_start, termination_interrupts
from geoseg_cli.progress_bar import ProgressBar, pixels_text

if TYPE_CHECKING:
    from geoseg.inference import SceneResult
    from geoseg.inference.many import Status

_SHOWN = 3
_TOLD: dict[Status, str] = {
    "mapped": "mapped",
    "partial": "mapped in part",
    "finished": "finished before",
    "outside": "outside of the area",
    "failed": "failed",
}


def predict_all(scenes: list[Any], out_dir: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Map scenes into a folder; a line for each, and an error at the end where one has failed."""
    with fast_start():
        from geoseg.inference import predict_many

        if "polygons" in settings:
            from geoseg.vector import load_compiler

            load_compiler()
    results: list[SceneResult] = []
    lines: set[str] = set()
    with ProgressBar(quiet=quiet) as bar, termination_interrupts():

        def announce(line: str) -> None:
            """Print what the scenes have in common once."""
            if line not in lines:
                lines.add(line)
                bar.announce(line)

        def told(result: SceneResult) -> None:
            results.append(result)
            bar.leave()
            if as_json:
                click.echo(json.dumps(result.to_json()))
                sys.stdout.flush()
            _report(result, len(results), len(scenes), quiet=quiet)

        try:
            predict_many(scenes, out_dir, progress=bar.update, announce=announce, told=told, **settings)
        except KeyboardInterrupt:
            done = f"{len(results)} of {len(scenes)} scenes are done"
            raise InterruptedRunError(f"interrupted; {done}, the same command goes on") from None
    _finish(results, quiet=quiet)


def _report(result: SceneResult, number: int, total: int, *, quiet: bool) -> None:
    if result.status == "failed":
        complain("error", _named(result.scene, str(result.error)))
        return
    what = {
        "mapped": f"wrote {result.labels}: {pixels_text(result.pixels)} in {result.seconds:.1f} s",
        "partial": f"{result.scene}: this share is mapped; the shard that ends last puts the map together",
        "finished": f"{result.labels} is finished",
        "outside": f"{result.scene} lies outside of the area",
    }
    if not quiet:
        say(f"{number} of {total}: {what[result.status]}")


def _named(scene: str, error: str) -> str:
    return error if scene in error else f"{scene}: {error}"


def _finish(results: list[SceneResult], *, quiet: bool) -> None:
    counts = Counter(result.status for result in results)
    said = ", ".join(f"{counts[status]} {words}" for status, words in _TOLD.items() if counts[status])
    if not counts["failed"]:
        if not quiet:
            say(f"{len(results)} scene{'s' * (len(results) != 1)}: {said}")
        return
    names = [result.scene for result in results if result.status == "failed"]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise GeosegError(
        f"{len(names)} of {len(results)} scenes failed ({', '.join(names[:_SHOWN])}{more}); the same command tries "
        "them again and leaves finished maps alone"
    )


def plan_all(scenes: list[Any], out_dir: str, settings: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Print what would be done with each scene, and in all."""
    from geoseg.inference import each_plan

    seconds, disk_bytes, failed, planned = 0.0, 0, 0, 0
    for scene, made in each_plan(scenes, out_dir, announce=None if quiet else say, **settings):
        if isinstance(made, GeosegError):
            failed += not isinstance(made, OutsideError)
            complain("error", _named(scene, str(made)))
            continue
        figures = made.estimate()
        seconds, disk_bytes, planned = seconds + figures.seconds, disk_bytes + figures.disk_bytes, planned + 1
        size = f"{figures.width_px} x {figures.height_px} px, {figures.windows} windows"
        click.echo(json.dumps(figures.to_json()) if as_json else f"{figures.scene}: {size}, {figures.seconds:.2g} s")
    if not as_json:
        click.echo(
            f"{planned} scene{'s' * (planned != 1)}: about {disk_bytes / 1e6:.3g} MB on the disk, {seconds:.2g} s"
        )
    if failed:
        raise GeosegError(f"{failed} of {len(scenes)} scenes cannot be mapped so")
