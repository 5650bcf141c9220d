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
folder, bundle, before, after, how = sys.argv[1:]
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

wanted = VERBS[after]("wanted") if after in before.split(",") else None
for verb in before.split(","):
    VERBS[verb](f"parent-{verb}")

def child(number):
    made = VERBS[after](f"child-{number}")
    return wanted is None or bool(np.all(np.asarray(made == wanted)))

if how == "pool":
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(child, [1, 2], chunksize=1))
else:
    children = []
    for number in (1, 2):
        if not (process := os.fork()):
            sys.exit(0 if child(number) else 3)  # the interpreter ends as usual: what it destroys must not wait either
        children.append(process)
    assert all(child(3) for _ in "a")  # the parent goes on
    assert [os.waitpid(process, 0)[1] for process in children] == [0, 0]
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
    ("before", "after", "how"),
    [
        ("predict,labels", "predict", "fork"),
        ("torch", "torch", "fork"),
        ("labels", "labels", "pool"),
        ("vectorize", "vectorize", "pool"),
        ("predict,vectorize,evaluate,preview", "parquet", "fork"),
        ("predict,scene", "preview", "pool"),
    ],
)
def test_a_verb_works_in_a_fork(folder: Path, bundle: ModelBundle, before: str, after: str, how: str) -> None:
    arguments = [str(folder), str(bundle.weights_path), before, after, how]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    work = folder / f"{after}-{how}"
    work.mkdir()
    for name in ("scene.tif", "classes.tif"):
        (work / name).symlink_to(folder / name)
    arguments[0] = str(work)
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.stdout == "done\n", process.stderr[-2000:]
