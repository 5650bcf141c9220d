"""Make the demo model that geoseg ships, from nothing but this repository and a few NAIP chips.

    python tools/demo_model.py WORK --naip NAIP [--deepglobe DEEPGLOBE] [--out FOLDER] [--pictures FOLDER]

Five stages: the data set (tools/demo_dataset.py), the training (recipe `demo`), the exams, the bundle with what the
exams found, the card with its pictures. What is done is kept in WORK, so a stopped run goes on with the same command.
The training begins with the first demo model, which lies in this repository's history, as does the program that made
it from random weights; `--start` takes another. DeepGlobe is an exam only: the training does not see it. `--model`
takes a finished training instead of the first two stages, with `--data` its data set. `--quick` runs all stages on a
toy, to try the program.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from demo_card import FIRST_NAME, measure_window_s, write_card
from demo_dataset import COUNTS, SIZE_PX, make_dataset
from demo_exam import examine_as

import geoseg
from geoseg.dataset.dataset import open_dataset
from geoseg.machine import available_cores
from geoseg.model.bundle import ModelBundle
from geoseg.model.export import export_onnx
from geoseg.model.exported import find_export
from geoseg.training.recipes import recipe_named

WINDOW_PX, OVERLAP_PX = 512, 128
PROGRAM = "tools/demo_model.py"
FIRST = "0b76a5684d02cfe024258e8768757b7ae4035a02"
"""The first demo model by git's name for its content, which is the same in every clone."""
TOY_COUNTS = {"train": 8, "valid": 2, "test": 3}
TOY_SIZE_PX = 320
TOY_KNOBS = {"epochs": 1, "batches": 4, "valid_every": 1, "batch_size": 2, "crop_px": 96}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    work: Path
    naip: Path | None
    deepglobe: Path | None
    model: Path | None
    start: Path | None
    data: Path
    out: Path
    pictures: Path
    note: str
    quick: bool


def main() -> None:
    """Run every stage that has not been run."""
    asked = read_request()
    for folder in (asked.work, asked.out, asked.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    trained = ModelBundle.open(asked.model) if asked.model else train(asked)
    metrics = examine(asked, trained)
    bundle = finish(asked, trained, metrics)
    window_s = measure_window_s(bundle)
    card = write_card(bundle, asked.data, asked.out / "demo.md", asked.pictures, window_s=window_s, note=asked.note)
    print(f"wrote {bundle.weights_path} and {card}", flush=True)


def read_request() -> Request:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make geoseg's demo model.")
    parser.add_argument("work", type=Path, help="folder for data, checkpoints and exams; outside the repository")
    parser.add_argument("--naip", type=Path, help="folder with chesapeake_wv; to make the data set")
    parser.add_argument("--deepglobe", type=Path, help="folder of NNN_sat.jpg and NNN_mask.png, for the exam only")
    parser.add_argument("--model", type=Path, help="a finished training of the recipe demo, instead of a new one")
    parser.add_argument("--start", type=Path, help="the bundle to begin with [default: the first demo model]")
    parser.add_argument("--data", type=Path, help="the data set [default: WORK/data]")
    parser.add_argument("--out", type=Path, help="folder of the finished model and card [default: WORK/model]")
    parser.add_argument("--pictures", type=Path, help="folder of the card's pictures [default: WORK/pictures]")
    parser.add_argument("--note", default="", help="a sentence for the card, about this very run")
    parser.add_argument("--quick", action="store_true", help="a toy of every stage")
    given = vars(parser.parse_args())
    work = given["work"]
    for name, default in (("data", "data"), ("out", "model"), ("pictures", "pictures")):
        given[name] = given[name] or work / default
    if given["naip"] is None and not (given["model"] and (given["data"] / "split.csv").exists()):
        parser.error("--naip is wanted to make the data set")
    return Request(**given)


# --- the data set and the training -----------------------------------------------------------------------------------


def train(asked: Request) -> ModelBundle:
    """Return the trained network, which is made now unless it is there."""
    target = asked.work / "trained.safetensors"
    if target.exists():
        return ModelBundle.open(target)
    if asked.naip is not None:
        counts, size_px = (TOY_COUNTS, TOY_SIZE_PX) if asked.quick else (COUNTS, SIZE_PX)
        make_dataset(asked.data, asked.naip, counts, size_px, available_cores())
    recipe = recipe_named("demo").changed(init=str(asked.start or first_demo(asked.work)))
    return geoseg.train(
        asked.data,
        target,
        asked.work / "report",
        recipe=recipe.changed(**TOY_KNOBS) if asked.quick else recipe,
        split_rule=str(asked.data / "split.csv"),
        cache=asked.work / "cache",
        announce=say,
    )


def first_demo(work: Path) -> Path:
    """Return the first demo model, taken from the repository's history."""
    target = work / FIRST_NAME
    if not target.exists():
        found = subprocess.run(
            ["git", "cat-file", "blob", FIRST],  # noqa: S607 - the git of whoever cloned the repository
            cwd=Path(__file__).parent, capture_output=True, check=False,
        )  # fmt: skip
        if found.returncode:
            raise SystemExit(
                f"the first demo model is not in this folder's history ({found.stderr.decode().strip()}); clone the "
                "repository whole, or say what to begin with: --start BUNDLE"
            )
        target.write_bytes(found.stdout)
    return target


# --- the exams -------------------------------------------------------------------------------------------------------


def examine(asked: Request, trained: ModelBundle) -> dict[str, Any]:
    """Return the figures of every exam by its name; they stand in a file once they are known."""
    found = {}
    for name, folder, rule in exams(asked):
        kept = asked.work / "exams" / f"{name}-{trained.hash[:16]}.json"
        if not kept.exists():
            say(f"exam {name}")
            figures = examine_as(trained, open_dataset(folder), rule, asked.work / "cache", say)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        found[name] = json.loads(kept.read_text(encoding="utf-8"))
        say(f"{name}: mIoU {found[name]['mean_iou']}, accuracy {found[name]['accuracy']}")
    return found


def exams(asked: Request) -> Iterator[tuple[str, Path, Path | None]]:
    """Yield name, data set and the file that says which of its scenes; None for all."""
    yield "synthetic", asked.data, asked.data / "test_synthetic.csv"
    yield "chesapeake", asked.data, asked.data / "test_naip.csv"
    if asked.deepglobe is not None:
        yield "deepglobe", asked.deepglobe, None


# --- the bundle ------------------------------------------------------------------------------------------------------


def finish(asked: Request, trained: ModelBundle, metrics: dict[str, Any]) -> ModelBundle:
    """Write demo.safetensors, the trained weights with what the exams found, and demo.onnx; unless they are there."""
    target = asked.out / "demo.safetensors"
    metrics = {**trained.metrics, **metrics}
    provenance = provenance_of(trained)
    bundle = ModelBundle.open(target) if target.exists() else None
    if bundle is None or (bundle.metrics, bundle.provenance) != (metrics, provenance):
        bundle = geoseg.save_bundle(
            target,
            safetensors.torch.load_file(trained.weights_path),
            architecture=trained.architecture,
            arguments=trained.arguments,
            legend=trained.legend,
            output_codes=trained.output_codes,
            bands=trained.bands,
            dtype=trained.dtype,
            normalization=trained.normalization,
            statistics=trained.statistics,
            gsd_m=trained.gsd_m,
            window_px=WINDOW_PX,
            overlap_px=OVERLAP_PX,
            temperature=trained.temperature,
            name="demo",
            provenance=provenance,
            metrics=metrics,
        )
    if find_export(bundle, WINDOW_PX) != target.resolve().with_suffix(".onnx"):
        export_onnx(bundle, WINDOW_PX, target.with_suffix(".onnx"))
    return bundle


def provenance_of(trained: ModelBundle) -> dict[str, Any]:
    """Return what training recorded, and by what program; no folder of this machine is named."""
    recipe, data = dict(trained.provenance["recipe"]), dict(trained.provenance.get("data", {}))
    if recipe["init"] is not None:
        recipe["init"] = Path(recipe["init"]).name
    if "split" in data:
        data["split"] = {**data["split"], "name": Path(data["split"]["name"]).name}
    return {
        **trained.provenance,
        "recipe": recipe,
        "data": data,
        "program": PROGRAM,
        "trained": trained.hash,
        "never_trained_on": ["DeepGlobe 2018"],
    }


def say(line: str) -> None:
    """Print a line now."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
