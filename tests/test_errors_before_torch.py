"""Errors in a call are reported before torch is loaded, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from affine import Affine

from geoseg.errors import ModelError
from geoseg.model import encoder_weights_of
from geoseg.model.bundle import check_encoder_name, check_encoder_weights_name

MEASURED = "normalization=geoseg.Normalization((1, 2, 3), (4, 5, 6))"
SAID = f"legend={{0: 'sea', 1: 'land'}}, {MEASURED}"
WRONG_IMPORTS = {
    "'nowhere.pth', 'a.safetensors'": "nowhere.pth does not exist",
    f"'w.safetensors', 'a.safetensors', encoder='resnet35', {SAID}": "unknown encoder 'resnet35'; did you mean 'resnet",
    f"'w.safetensors', 'a.safetensors', encoder='tu-convnext_tinny', {SAID}": "did you mean 'tu-convnext_tiny'?",
    f"'w.safetensors', 'a.safetensors', arguments={{'encoder_name': 'vgg91'}}, {SAID}": "unknown encoder 'vgg91'",
    f"'w.safetensors', 'a.safetensors', architecture='Unett', {SAID}": "unknown architecture 'Unett'",
    f"'w.safetensors', 'a.safetensors', architecture='FPN', arguments={{'depth': 3}}, {SAID}": "no argument 'depth'",
    f"'w.safetensors', 'a.safetensors', window_px=0, {SAID}": "`window_px`",
    f"'w.safetensors', 'a.safetensors', overlap_px=900, {SAID}": "`overlap_px` must be at least 0 and less than",
    f"'w.safetensors', 'a.safetensors', temperature=0, {SAID}": "`temperature` must be 0.001 to 1000",
    f"'w.safetensors', 'a.safetensors', dtype='byte', {SAID}": "`dtype` must be one of",
    f"'w.safetensors', 'a.safetensors', gsd_m=-1, {SAID}": "`gsd_m` must be 0.001 to 100000",
    f"'w.safetensors', 'a.safetensors', bands=('red', 'nir'), {SAID}": "`bands` names 2 bands, `mean` has 3 numbers",
    f"'w.safetensors', 'a.safetensors', legend={{0: 'sea'}}, {MEASURED}": "output channels, but the `legend` has 1",
    f"'w.safetensors', 'a.safetensors', legend='no.csv', {MEASURED}": "no.csv cannot be read",
    f"'w.safetensors', 'a.txt', {SAID}": "`out` must be the name of a .safetensors file",
}
WRONG_TRAININGS = {
    "'nowhere', 'a.safetensors'": "nowhere: no such file or folder; check the path of the data set",
    "'nowhere.csv', 'a.safetensors'": "nowhere.csv: no such file or folder",
    "'.', 'a.pt'": "name it a.safetensors",
    "'.', 'a.safetensors', recipe='quick'": "unknown recipe 'quick'; geoseg has default",
    "'.', 'a.safetensors', architecture='Unett'": "unknown architecture 'Unett'",
    "'.', 'a.safetensors', encoder='resnet35'": "unknown encoder 'resnet35'; did you mean 'resnet",
    "'.', 'a.safetensors', architecture='SegNet', encoder='vgg91'": "SegNet: encoder_name must be vgg11_bn or",
    "'.', 'a.safetensors', arguments={'decoder_deepth': 4}": "has no argument 'decoder_deepth'",
    "'.', 'a.safetensors', epochs=0": "`epochs` must be",
    "'.', 'a.safetensors', lr=-1.0": "`lr` must be",
    "'.', 'a.safetensors', init='no.safetensors'": "no.safetensors does not exist",
    "'.', 'a.safetensors', legend='no.csv'": "no.csv cannot be read",
    "'.', 'a.safetensors', device='gpu'": "`device` must be one of",
    "'.', 'a.safetensors', devices=0": "`devices` must be at least 1",
    "'.', 'a.safetensors', encoder_weights='imagnet'": "has no weights 'imagnet'; it has imagenet, in1k",
    "'.', 'a.safetensors', encoder='resnet34', encoder_weights='noisy-student'": "it has imagenet; give another",
    "'.', 'a.safetensors', encoder='resnet34', encoder_weights='no.pth'": "no.pth cannot be read: No such file",
    "'.', 'a.safetensors', architecture='PlainUnet', encoder_weights='imagenet'": "PlainUnet has no encoder, so",
}
WRONG_DATA = {
    "'scene.tif', 'a.safetensors'": "scene.tif is a single scene; name its labels with `labels`",
    "'scene.tif', 'a.safetensors', labels='no.tif'": "no.tif: no such file; check the path",
    "'scene.tif', 'a.safetensors', labels='scene.tif', column='use'": "`column` is for label polygons",
    "'scene.tif', 'a.safetensors', labels='labels.tif', bands=('red', 'nirr')": "no band is called 'nirr'",
    "'scene.tif', 'a.safetensors', labels='labels.tif', bands=(7,)": "band 7 does not exist; the scene has 3",
    "'scene.tif', 'a.safetensors', labels='labels.tif', data_gsd_m=1e9": "`data_gsd_m` must be 0.001 to 100000 meters",
    "'scene.tif', 'a.safetensors', labels='labels.tif', split_rule='randm'": "did you mean random:0.8?",
    "'scene.tif', 'a.safetensors', labels='parcels.geojson', column='usee'": "has no column 'usee', it has use",
    "'scene.tif', 'a.safetensors', labels='parcels.geojson', layer='fields'": "fields",
}


def said_without(libraries: set[str], folder: Path, verb: str, calls: dict[str, str]) -> list[str]:
    """Return the messages of a verb's calls, run in one process that must not load the libraries."""
    lines = [
        "import sys, geoseg",
        "def tried(call):",
        "    try: call()",
        "    except geoseg.errors.GeosegError as fault: print(str(fault).replace('\\n', '|'))",
        "    else: print('nothing was said')",
        f"    assert not {libraries} & sys.modules.keys(), 'they are loaded'",
        *(f"tried(lambda: geoseg.{verb}({call}))" for call in calls),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_wrong_import_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    weights: dict[str, Any] = {"encoder.conv1.weight": torch.ones(4, 3, 3, 3)}
    weights["segmentation_head.0.bias"] = torch.ones(2)
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    said = said_without({"torch"}, tmp_path, "import_weights", WRONG_IMPORTS)
    for line, wanted in zip(said, WRONG_IMPORTS.values(), strict=True):
        assert wanted in line
    assert not (tmp_path / "a.safetensors").exists()


def write_scene(folder: Path) -> None:
    """Write a scene, codes for it, and a parcel with a land use."""
    grid: dict[str, Any] = {"driver": "GTiff", "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32632"}
    grid["transform"] = Affine(1, 0, 500000, 0, -1, 5000000)
    for name, count in (("scene.tif", 3), ("labels.tif", 1)):
        with rasterio.open(folder / name, "w", count=count, **grid) as file:
            file.write(np.arange(count * 64 * 64, dtype=np.uint8).reshape(count, 64, 64) % 3)
    parcel = {"type": "Polygon", "coordinates": [[[9, 45.1], [9.001, 45.1], [9, 45.2], [9, 45.1]]]}
    feature = {"type": "Feature", "properties": {"use": "wood"}, "geometry": parcel}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (folder / "parcels.geojson").write_text(json.dumps(collection))


def test_a_wrong_training_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    write_scene(tmp_path)
    before = sorted(tmp_path.iterdir())
    said = said_without({"torch", "pandas", "numba"}, tmp_path, "train", WRONG_TRAININGS)
    said += said_without({"torch"}, tmp_path, "train", WRONG_DATA)
    for line, wanted in zip(said, (WRONG_TRAININGS | WRONG_DATA).values(), strict=True):
        assert wanted in line
    assert sorted(tmp_path.iterdir()) == before


def test_every_encoder_of_smp_and_timm_is_known_by_their_sources() -> None:
    old = ("timm-regnetx_002", "timm-mobilenetv3_small_100", "timm-res2net50_26w_4s", "timm-gernet_s")
    tagged = [f"tu-{name}" for name in timm.list_pretrained()[::50]]
    for name in (*smp.encoders.encoders, *(f"tu-{name}" for name in timm.list_models()), *old, *tagged):
        check_encoder_name(name)


def test_weights_that_an_encoder_has_are_known_by_the_sources() -> None:
    for name in (*smp.encoders.encoders, *(f"tu-{name}" for name in timm.list_models()[::10])):
        for weights in encoder_weights_of(name):
            check_encoder_weights_name("Unet", name, weights)


def test_weights_that_no_encoder_has_are_refused_by_the_sources() -> None:
    """Weights of smp's VGG are not listed one by one; smp itself refuses them later."""
    names = [name for name in smp.encoders.encoders if not name.startswith("vgg")]
    for name in (*names, "tu-resnet18", "tu-tf_efficientnet_lite0", "timm-regnetx_002"):
        with pytest.raises(ModelError, match=r"has no weights 'imagnet'; it has \w+"):
            check_encoder_weights_name("Unet", name, "imagnet")


@pytest.mark.parametrize("name", ["resnet43", "tu-resnet43", "timm-mobilenetv9", "", "mit_b0.", "resnet18|x"])
def test_a_name_that_no_source_has_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="unknown encoder"):
        check_encoder_name(name)
