"""Every verb works in a fork of a process that has used geoseg; it never waits for a thread of the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
bundle, *steps = sys.argv[1:]
import numpy as np
import geoseg

def written(made):
    import rasterio
    with rasterio.open(made) as dataset:
        return dataset.read()

def predict(device):
    return lambda out: written(geoseg.predict(
        "scene.tif", f"{out}.tif", model=bundle, device=device, tile=64, tta=2,
        creation_options={"COMPRESS": "ZSTD"}))

VERBS = {
    "predict": predict("onnx"),
    "torch": predict("torch-cpu"),
    "labels": lambda out: geoseg.labels("scene.tif", model=bundle, tile=64, device="onnx").compute(),
    "vectorize": lambda out: geoseg.vectorize(
        "classes.tif", simplify=1.5, min_area="3px").geometry.to_wkb().sum(),
    "parquet": lambda out: len(geoseg.vectorize("classes.tif", f"{out}.parquet").read_bytes()),
    "evaluate": lambda out: geoseg.evaluate("classes.tif", "classes.tif").matrix.counts,
    "preview": lambda out: len(geoseg.preview("few.tif", "scene.tif", out=f"{out}.html").path.read_bytes()),
    "scene": lambda out: geoseg.Scene.open("scene.tif").read(geoseg.Window(40, 0, 60, 150)).data,
}

made = {}

class Child:
    def __init__(self, verbs):
        self.verbs = verbs

    def __call__(self, number):
        return all(map(self.is_same, self.verbs, [number] * len(self.verbs)))

    def is_same(self, verb, number):
        found = VERBS[verb](f"child-{verb}-{number}")
        return verb not in made or bool(np.all(np.asarray(found == made[verb])))

def in_a_pool(child):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(child, [1, 2], chunksize=1))

def in_a_fork(child):
    if not (process := os.fork()):
        sys.exit(0 if child(1) else 3)  # the interpreter ends as usual: what it destroys must not wait either
    assert child(2)  # the parent goes on
    assert os.waitpid(process, 0)[1] == 0

for how, verbs in (step.split(":") for step in steps):
    verbs = verbs.split(",")
    if how == "before":
        made |= {verb: VERBS[verb](f"parent-{verb}") for verb in verbs}
    else:
        {"pool": in_a_pool, "fork": in_a_fork}[how](Child(verbs))
    assert ("torch" in sys.modules) == ("torch" in made)
print("done", flush=True)
os._exit(0)  # how the children end is what matters; torch takes more than a second to end
"""


STEPS = (
    "before:predict,labels,vectorize,evaluate,scene",
    "fork:predict,parquet,evaluate",
    "pool:labels,vectorize,preview",
    "before:torch",
    "fork:torch",
)


def test_every_verb_works_in_a_fork(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", random_pixels(150, 150, 3, 0.2), tiled=True, blockxsize=64, blockysize=64)
    codes = (np.indices((600, 700)).sum(0) // 9 % 4).astype(np.uint8)
    write_scene(tmp_path / "few.tif", codes[None, :150, :150], nodata=255)
    codes[np.random.default_rng(1).random(codes.shape) < 0.2] = 1  # enough vertices for parallel kernels
    write_scene(tmp_path / "classes.tif", codes[None], nodata=255)
    bundle = tiny_bundle(tmp_path, window_px=64)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle.weights_path), *STEPS],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.stdout == "done\n", process.stderr[-2000:]
