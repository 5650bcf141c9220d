"""In a fork of a process in which geoseg was used every verb works: it waits for no thread of the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoseg.model import ModelBundle
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
folder, bundle, before, children = sys.argv[1:]
os.chdir(folder)
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
    "preview": lambda out: len(geoseg.preview("classes.tif", "scene.tif", out=f"{out}.html").path.read_bytes()),
    "scene": lambda out: geoseg.Scene.open("scene.tif").read(geoseg.Window(40, 0, 60, 150)).data,
}

made = {verb: VERBS[verb](f"parent-{verb}") for verb in before.split(",")}

class Child:
    def __init__(self, verb):
        self.verb = verb

    def __call__(self, number):
        found = VERBS[self.verb](f"child-{self.verb}-{number}")
        return self.verb not in made or bool(np.all(np.asarray(found == made[self.verb])))

def in_a_pool(child):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(child, [1, 2], chunksize=1))

def in_forks(child):
    children = []
    for number in (1, 2):
        if not (process := os.fork()):
            sys.exit(0 if child(number) else 3)  # the interpreter ends as usual: what it destroys must not wait either
        children.append(process)
    assert child(3)  # the parent goes on
    assert [os.waitpid(process, 0)[1] for process in children] == [0, 0]

for verb, how in (each.split(":") for each in children.split(",")):
    {"pool": in_a_pool, "fork": in_forks}[how](Child(verb))
print("done")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("forks")
    write_scene(made / "scene.tif", random_pixels(150, 150, 3, 0.2), tiled=True, blockxsize=64, blockysize=64)
    codes = (np.indices((600, 700)).sum(0) // 9 % 4).astype(np.uint8)
    codes[np.random.default_rng(1).random(codes.shape) < 0.2] = 1  # enough vertices for kernels side by side
    write_scene(made / "classes.tif", codes[None], nodata=255)
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.mark.parametrize(
    ("before", "children"),
    [
        (
            "predict,labels,vectorize,evaluate,scene",
            "predict:fork,parquet:fork,labels:pool,vectorize:pool,preview:pool,evaluate:fork",
        ),
        ("torch", "torch:fork"),
    ],
    ids=["without torch", "torch"],
)
def test_a_verb_works_in_a_fork(folder: Path, bundle: ModelBundle, tmp_path: Path, before: str, children: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for name in ("scene.tif", "classes.tif"):
        (tmp_path / name).symlink_to(folder / name)
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(bundle.weights_path), before, children],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.stdout == "done\n", process.stderr[-2000:]
