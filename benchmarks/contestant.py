# ruff: noqa: ANN401 - torch and numpy are not both there to name their types
"""One run of the comparison with other tools (peers.py): read a scene, map it, and report how long that took.

    python benchmarks/contestant.py NAME SCENE BUNDLE LABELS

Runs under the Python of the contestant; tools are imported late, because no interpreter has all of them. The last line
printed is JSON. LABELS is the output path for the labels, a .npy file or a raster.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import ARGUMENTS, MEAN, OVERLAP_PX, STD, WINDOW_PX
from report import cores

BATCH = 4
THREADS = cores()


def eager(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Call the network in eager torch on prepared windows; no labels."""
    import torch

    del labels
    network, windows = _network(bundle), _cut(_image(scene))
    inputs = [torch.stack(windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)]
    with torch.inference_mode():
        network(inputs[0])
        return _timed(lambda: [network(batch) for batch in inputs])


def onnx(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Call the network, exported for other programs, in ONNX Runtime, with its own options, on prepared windows."""
    import numpy as np
    import onnxruntime

    from geoseg.model import ModelBundle
    from geoseg.model.engines import export_alone

    del labels
    path = scene.with_name("bare.onnx")
    export_alone(ModelBundle.open(bundle), WINDOW_PX, path, {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    windows = [window.numpy() for window in _cut(_image(scene))]
    inputs = [np.stack(windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)]

    def score(image: Any) -> Any:
        return session.run(None, {"image": image})

    score(inputs[0])
    return _timed(lambda: list(map(score, inputs)))


def monai(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Map the scene with MONAI, from the file to labels in memory."""
    import numpy as np
    import torch
    from monai.inferers import sliding_window_inference

    network = _network(bundle)
    result: dict[str, Any] = {}
    with torch.inference_mode():
        network(torch.zeros(BATCH, 3, WINDOW_PX, WINDOW_PX))

        def work() -> None:
            blended = sliding_window_inference(
                _image(scene)[None], WINDOW_PX, BATCH, network, overlap=OVERLAP_PX / WINDOW_PX, mode="constant"
            )
            result["labels"] = blended[0].argmax(0).to(torch.uint8).numpy()

        times = _timed(work)
    np.save(labels, result["labels"])
    return times


def geoai(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Map the scene with geoai, from file to file."""
    import numpy as np
    import torch
    from geoai.inference import predict_geotiff

    network = _network(bundle)
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (MEAN, STD))
    with torch.inference_mode():
        network(torch.zeros(BATCH, 3, WINDOW_PX, WINDOW_PX))
    return _timed(
        lambda: predict_geotiff(
            network,
            str(scene),
            str(labels),
            tile_size=WINDOW_PX,
            overlap=OVERLAP_PX,
            batch_size=BATCH,
            num_classes=ARGUMENTS["peers"][1]["classes"],
            output_dtype="uint8",
            output_nodata=255,
            preprocess_fn=lambda pixels: (pixels - mean) / std,
            postprocess_fn=lambda blended: blended.argmax(0).astype(np.uint8),
            device="cpu",
            verbose=False,
        )
    )


def stage(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Map the scene with geoseg, from the file to labels in memory."""
    import numpy as np
    from stage import stage as labels_of

    from geoseg.inference import plan

    made = plan(scene, model=bundle, overlap=OVERLAP_PX, batch_size=BATCH, blend="mean", device="cpu")
    made.open_engine()
    result = np.empty((made.grid.height_px, made.grid.width_px), np.uint8)
    times = _timed(lambda: labels_of(made, labels=result))
    np.save(labels, result)
    return times


def predict(scene: Path, bundle: Path, labels: Path) -> dict[str, float]:
    """Map the scene with geoseg, from file to file."""
    from geoseg.inference import predict as predict_scene

    labels.unlink(missing_ok=True)
    return _timed(
        lambda: predict_scene(scene, labels, model=bundle, overlap=OVERLAP_PX, batch_size=BATCH, device="cpu")
    )


def agree(scene: Path, first: Path, second: Path) -> dict[str, float]:
    """Compare two contestants' labels, and count the classes in them."""
    import numpy as np

    del scene
    one, two = np.load(first), np.load(second)
    return {"agree": float((one == two).mean()), "classes": float(len(np.unique(one)))}


def _network(bundle: Path) -> Any:
    """Return the network with its softmax: the same function of the pixels as geoseg's export."""
    import safetensors.torch
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(THREADS)
    architecture, arguments = ARGUMENTS["peers"]
    network = smp.create_model(architecture, encoder_weights=None, **arguments)
    network.load_state_dict(safetensors.torch.load_file(bundle))
    return torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval()


def _pixels(scene: Path) -> Any:
    import rasterio

    with rasterio.open(scene) as dataset:
        return dataset.read()


def _image(scene: Path) -> Any:
    """Return the scene as a normalized tensor (band, row, col)."""
    import torch

    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return torch.from_numpy(_pixels(scene)).float().sub_(mean).div_(std)


def _cut(image: Any) -> list[Any]:
    """Return the windows of a scene at least as large as a window; the last on each axis is shifted inward."""
    rows, cols = (
        sorted({*range(0, size - WINDOW_PX, WINDOW_PX - OVERLAP_PX), size - WINDOW_PX}) for size in image.shape[1:]
    )
    return [image[:, row : row + WINDOW_PX, col : col + WINDOW_PX] for row in rows for col in cols]


def _timed(work: Callable[[], object]) -> dict[str, float]:
    began, began_cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}


CONTESTANTS: dict[str, Callable[[Path, Path, Path], dict[str, float]]] = {
    "eager": eager,
    "onnx": onnx,
    "monai": monai,
    "geoai": geoai,
    "stage": stage,
    "predict": predict,
    "agree": agree,
}


def main() -> None:
    """Run the contestant named on the command line."""
    name, *paths = sys.argv[1:]
    told: dict[str, object] = dict(CONTESTANTS[name](*map(Path, paths)))
    packages = {"eager": "torch", "onnx": "onnxruntime", "monai": "monai", "geoai": "geoai-py"}
    if name in packages:
        told["version"] = f"{packages[name]} {importlib.metadata.version(packages[name])}"
    print(json.dumps(told))


if __name__ == "__main__":
    main()
