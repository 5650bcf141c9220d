from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import onnx
import pytest
import torch

from geoseg.errors import ModelError
from geoseg.model import ModelBundle
from geoseg.model.weights.weights_file import read_weights_file

WEIGHTS = {"weight": torch.zeros(3)}


class Bomb:
    """An object that touches a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "model.bin", "model.safetensors", "model"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
def test_torch_pickle_is_refused_whatever_its_name(tmp_path: Path, name: str, *, zipped: bool) -> None:
    torch.save(WEIGHTS, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"is a pickle.*geoseg import"):
        ModelBundle.open(tmp_path / name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_is_ever_run(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(Bomb(tmp_path / "trace"), protocol))
    with pytest.raises(ModelError, match="is a pickle"):
        ModelBundle.open(file)
    assert not (tmp_path / "trace").exists()


def test_torch_checkpoint_cut_short_is_still_named(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:300])
    with pytest.raises(ModelError, match="is a pickle"):
        ModelBundle.open(tmp_path / "cut.pt")


def test_other_files_are_named(tmp_path: Path) -> None:
    kinds = {
        "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file, probably a Keras model.*tf2onnx.convert --keras"),
        "a.tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite model; .*--tflite FILE"),
        "b.tif": (b"II*\0" + bytes(100), "TIFF raster, not a model"),
        "c.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG picture"),
        "d.safetensors": (b"", "is empty"),
        "e.safetensors": (b"\x01\x02", "cut short"),
        "f.txt": (b"weights weights weights", "not a .safetensors file"),
        "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 97\n", "Git LFS pointer"),
        "page.bin": (b"\n<!doctype HTML><title>404</title>", "a web page, not the file"),
        "page.onnx": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "a web page, not the file"),
        "g.onnx": (onnx.ModelProto(ir_version=8, producer_name="a program").SerializeToString(), "no operators"),
    }
    for name, (content, wanted) in kinds.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=wanted):
            ModelBundle.open(tmp_path / name)


def test_models_of_keras_tensorflow_and_transformers_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "config.json").write_text("{}")
    (tmp_path / "parts" / "model.safetensors.index.json").write_text("{}")
    for name, wanted in {
        "model.keras": "Keras model; .*--keras FILE",
        "saved": "SavedModel.*--saved-model FOLDER",
        "parts": r"several files, listed in model\.safetensors\.index\.json.*optimum-cli",
    }.items():
        with pytest.raises(ModelError, match=wanted):
            ModelBundle.open(tmp_path / name)
        with pytest.raises(ModelError, match=wanted):
            read_weights_file(tmp_path / name)


def test_other_zip_is_no_pickle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelError, match="ZIP archive"):
        ModelBundle.open(tmp_path / "model.keras")


def test_missing_file_and_folder_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        ModelBundle.open(tmp_path / "nothing.safetensors")
