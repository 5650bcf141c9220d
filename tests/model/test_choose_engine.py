from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch

from geoseg.errors import GeosegError, GeosegWarning, ModelError, UsageError
from geoseg.model import ModelBundle, TorchEngine, Weights, choose_engine
from geoseg.model.engines import choice as engines
from geoseg.model.engines import device as device_module
from geoseg.model.engines import exported
from geoseg.model.engines.export import export_onnx, main
from geoseg.model.engines.exported import find_export
from geoseg.model.onnx_files import read_metadata
from geoseg.raster import Window
from tests.networks import tiny_bundle


@pytest.fixture
def bare(tmp_path: Path) -> ModelBundle:
    """Return a bundle without an ONNX file."""
    return tiny_bundle(tmp_path, export=False)


def run(choice: engines.EngineChoice, window_px: int = 64) -> np.ndarray[Any, Any]:
    data = np.random.default_rng(0).integers(0, 256, (3, window_px, window_px), dtype=np.uint8)
    engine = choice.open()
    footprint = engine.upload(data, np.ones((window_px, window_px), dtype=bool))
    window = Window(0, 0, window_px, window_px)
    return engine.download(engine.probabilities(footprint, [window], Weights.ones(1, window_px)))


def test_shipped_export_is_used_without_torch(tiny: ModelBundle, cache: Path) -> None:
    program = (
        "import sys, numpy as np; from geoseg.model.bundle.bundle import ModelBundle;"
        "from geoseg.model.engines import Weights, choose_engine;"
        "from geoseg.raster.windows import Window;"
        "choice = choose_engine(ModelBundle.open(sys.argv[1]), announce=print); engine = choice.open();"
        "pixels = engine.upload(np.zeros((3, 64, 64), np.uint8), np.ones((64, 64), bool));"
        "print(engine.probabilities(pixels, [Window(0, 0, 64, 64)], Weights.ones(1, 64)).shape);"
        "print([name for name in ('torch', 'onnx', 'timm') if name in sys.modules])"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", program, str(tiny.weights_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["(1, 7, 64, 64)", "[]"]
    assert not cache.exists()


def test_export_in_another_process_is_said_and_kept(bare: ModelBundle, cache: Path) -> None:
    said: list[str] = []
    choice = choose_engine(bare, "cpu", announce=said.append)
    assert said == ["exporting Unet-0 to ONNX, once per model: 5 to 20 s, a large network a minute or two"]
    assert choice.onnx_path is not None
    assert choice.onnx_path.parent == cache
    assert choose_engine(bare, "cpu", announce=said.append) == choice
    assert len(said) == 1
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".onnx"]
    np.testing.assert_allclose(run(choice), run(choose_engine(bare, "torch-cpu")), atol=1e-4)


@pytest.mark.usefixtures("in_process")
def test_one_export_takes_windows_of_every_size(tiny: ModelBundle, cache: Path) -> None:
    shipped = tiny.weights_path.with_suffix(".onnx")
    choices = [choose_engine(tiny, "cpu", window_px=window_px) for window_px in (8, 64, 72, 120)]
    assert all(choice.onnx_path == shipped and choice.any_window for choice in choices)
    assert len({id(choice.open()) for choice in choices}) == 1, "one session in memory"
    for choice in choices:
        torch = choose_engine(tiny, "torch-cpu", window_px=choice.window_px)
        np.testing.assert_allclose(run(choice, choice.window_px), run(torch, choice.window_px), atol=1e-4)
    assert not cache.exists(), "nothing was exported again"


@pytest.mark.usefixtures("in_process")
def test_an_export_shows_which_windows_a_network_takes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is built to find out, which would load torch and keep its memory."""
    arguments = {"encoder_name": "tu-resnet10t", "encoder_depth": 3, "classes": 7, "decoder_channels": [8, 8, 8]}
    bundle = tiny_bundle(tmp_path, export=False, arguments=arguments, window_px=48)
    exported = choose_engine(bundle, "cpu", window_px=64)
    assert exported.onnx_path is not None
    assert exported.onnx_path.parent == cache
    monkeypatch.setattr("geoseg.model.network.check_network_accepts", None)
    assert choose_engine(bundle, "cpu", window_px=64) == exported
    assert choose_engine(bundle, "cpu", window_px=96).any_window == exported.any_window


@pytest.mark.usefixtures("in_process")
def test_a_network_that_cannot_be_written_for_every_window_is_exported_for_one(tmp_path: Path) -> None:
    arguments = {"encoder_name": "tu-resnet10t", "encoder_depth": 3, "psp_out_channels": 8, "classes": 7}
    pooling = tiny_bundle(tmp_path, architecture="PSPNet", export=False, arguments=arguments, window_px=48)
    choice = choose_engine(pooling, "cpu")
    assert not choice.any_window
    assert choice.onnx_path == find_export(pooling, 48)
    assert find_export(pooling, 96) is None
    assert run(choice, 48).shape == (1, 7, 48, 48)
    other = choose_engine(pooling, "cpu", window_px=96)
    assert run(other, 96).shape == (1, 7, 96, 96)
    with pytest.raises(ValueError, match="windows are 96, got weights for"):
        run(other, 48)


@pytest.mark.usefixtures("in_process")
def test_without_export_it_is_made_when_opened(bare: ModelBundle, cache: Path) -> None:
    choice = choose_engine(bare, "cpu", export=False)
    assert choice.onnx_path is None
    assert not cache.exists()
    travelled = pickle.loads(pickle.dumps(choice))  # noqa: S301 - our own bytes
    assert run(travelled).shape == (1, 7, 64, 64)
    assert travelled.open() is choice.open()


@pytest.mark.usefixtures("in_process")
def test_export_of_another_model_is_not_used(tiny: ModelBundle, bare: ModelBundle) -> None:
    bare.weights_path.with_suffix(".onnx").write_bytes(tiny.weights_path.with_suffix(".onnx").read_bytes())
    assert bare.hash != tiny.hash
    assert find_export(bare, 64) is None


def test_export_with_weights_in_other_files_is_not_used(bare: ModelBundle) -> None:
    path = bare.weights_path.with_suffix(".onnx")
    export_onnx(bare, 64, path)
    assert find_export(bare, 64) == path
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["geoseg"])["bundle"] == bare.hash
    with pytest.raises(ValueError, match="other files"):
        read_metadata(path)
    assert find_export(bare, 64) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"garbage" * 50, b"\x72\xff\xff\xff\xff\x0f"], ids=repr)
def test_sibling_that_is_no_onnx_is_not_used(bare: ModelBundle, content: bytes) -> None:
    bare.weights_path.with_suffix(".onnx").write_bytes(content)
    assert find_export(bare, 64) is None


@pytest.mark.usefixtures("in_process")
def test_broken_export_in_the_cache_is_made_again(bare: ModelBundle) -> None:
    choice = choose_engine(bare, "cpu")
    assert choice.onnx_path is not None
    whole = choice.onnx_path.read_bytes()
    model = onnx.ModelProto(ir_version=8)
    onnx.helper.set_model_props(model, {"geoseg": json.dumps(exported.export_stamp(bare, None))})
    choice.onnx_path.write_bytes(model.SerializeToString())
    assert choose_engine(bare, "cpu") == choice, "it looks right"
    assert run(choice.with_threads(2)).shape == (1, 7, 64, 64)
    assert len(choice.onnx_path.read_bytes()) == len(whole)


@pytest.mark.usefixtures("in_process")
def test_cache_that_cannot_be_written_is_no_obstacle(
    bare: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "file" / "cache"))
    assert run(choose_engine(bare, "cpu")).shape == (1, 7, 64, 64)


def test_network_that_cannot_be_exported_runs_in_torch(bare: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fail = Mock(side_effect=ModelError("Unet-0 cannot be exported to ONNX: no such operator"))
    monkeypatch.setattr(engines, "make_export", fail)
    with pytest.warns(GeosegWarning, match="no such operator; continuing with torch on the CPU"):
        choice = choose_engine(bare, "cpu")
    assert choice.device == "torch-cpu"
    assert choice.on_cpu
    assert run(choice).shape == (1, 7, 64, 64)


def test_what_was_chosen_is_what_runs(bare: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot export must not run torch for a map whose tags name ONNX Runtime."""

    fail = Mock(side_effect=ModelError("Unet-0 cannot be exported to ONNX: no such operator"))
    choice = choose_engine(bare, "cpu", export=False)
    monkeypatch.setattr(engines, "make_export", fail)
    with pytest.raises(
        ModelError, match=r"no such operator; the run was planned for ONNX Runtime: .*device='torch-cpu'"
    ):
        choice.open()


@pytest.mark.usefixtures("in_process")
def test_network_that_cannot_run_on_a_window_says_so(tmp_path: Path) -> None:
    arguments = {"encoder_name": "tu-tf_mobilenetv3_small_minimal_100"}
    bundle = tiny_bundle(tmp_path, architecture="PAN", arguments=arguments, window_px=256, export=False)
    with pytest.raises(ModelError, match="cannot run on a window of 32"):
        export_onnx(bundle, 32, tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("window_px", "wish"), [(60, "try 56 or 64"), (1, "try 8"), (0, "try 8"), (-8, "try 8"), (10**9, "try 16384")]
)
def test_window_the_network_cannot_take_names_the_nearest(tiny: ModelBundle, window_px: int, wish: str) -> None:
    with pytest.raises(UsageError, match=wish):
        choose_engine(tiny, "cpu", window_px=window_px)


def test_words_for_engines(tiny: ModelBundle) -> None:
    choice = choose_engine(tiny, "cpu", threads=2)
    assert choice.describe().startswith("ONNX Runtime 1.")
    assert choice.describe().endswith(" on the CPU, 2 threads")
    assert choice.with_threads(1).describe().endswith(" on the CPU, 1 thread")
    assert choice.describe_kind() == choice.with_threads(1).describe_kind()
    assert choice.describe_kind() != choose_engine(tiny, "torch-cpu").describe_kind()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("gpu", r"`device` must be one of .* \(did you mean cuda\?\)"),
        ("GPU:1", r"did you mean cuda:1\?"),
        ("cuda0", r"did you mean cuda:0\?"),
        ("nvidia", r"did you mean cuda\?"),
        ("cuda:x", "`device` must be.*'cuda:x'$"),
        ("cuda:-1", "`device` must be.*'cuda:-1'$"),
    ],
)
def test_unknown_device_is_refused(wanted: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "has_mps", lambda: False)
    with pytest.raises(UsageError, match=message):
        device_module.choose_device(wanted)


def test_the_gpu_of_a_mac_is_called_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "has_mps", lambda: True)
    with pytest.raises(UsageError, match=r"'gpu' \(did you mean mps\?\)"):
        device_module.choose_device("gpu")


def test_missing_devices_say_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 0)
    monkeypatch.setattr(device_module, "has_mps", lambda: False)
    assert device_module.choose_device("auto") == "onnx"
    with pytest.raises(UsageError, match=r"no NVIDIA GPU or driver was found; use `device='cpu'`"):
        device_module.choose_device("cuda")
    with pytest.raises(UsageError, match="needs an Apple silicon Mac"):
        device_module.choose_device("mps")
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 2)
    with pytest.raises(UsageError, match="the NVIDIA driver offers 2, counted from 0"):
        device_module.choose_device("cuda:2")


def test_gpu_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 2)
    monkeypatch.setattr(device_module, "_cuda_fault", lambda _: None)
    assert device_module.choose_device("auto") == "cuda:0"
    assert device_module.choose_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 0)
    monkeypatch.setattr(device_module, "has_mps", lambda: True)
    assert device_module.choose_device("auto") == "mps"


def test_several_gpus_are_a_list_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 3)
    monkeypatch.setattr(device_module, "_cuda_fault", lambda _: None)
    assert device_module.choose_devices("cuda:all") == ("cuda:0", "cuda:1", "cuda:2")
    assert device_module.choose_devices("cuda:2,cuda:0") == ("cuda:2", "cuda:0")
    assert device_module.choose_devices("cuda, cuda:1") == ("cuda:0", "cuda:1")
    for wanted in ("auto", "cpu", "cuda", "cuda:1", "torch-cpu"):
        assert device_module.choose_devices(wanted) == (device_module.choose_device(wanted),)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("cuda:0,cuda:0", "must name each GPU once, got 'cuda:0,cuda:0'"),
        ("cuda,cuda:0", "must name each GPU once"),
        ("cuda:0,cpu", "lists GPUs, as cuda:0,cuda:1, or names one device; got 'cuda:0,cpu'"),
        ("cuda:0,", "lists GPUs"),
        ("mps,mps", "lists GPUs"),
        ("cuda:0,cuda:all", "lists GPUs"),
        ("cuda:0,cuda:3", "device cuda:3 is not available: the NVIDIA driver offers 3, counted from 0"),
        ("cuda:0,cuda:x", "`device` must be one of"),
    ],
)
def test_lists_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, wanted: str, message: str) -> None:
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 3)
    monkeypatch.setattr(device_module, "_cuda_fault", lambda _: None)
    with pytest.raises(UsageError, match=message) as raised:
        device_module.choose_devices(wanted)
    assert raised.value.parameter == "device"


def test_all_gpus_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 0)
    with pytest.raises(UsageError, match="no NVIDIA GPU or driver was found"):
        device_module.choose_devices("cuda:all")


def test_devices_of_one_precision_share_a_scene(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = {"cuda:0": ("CUDA: A", "fp16"), "cuda:1": ("CUDA: A", "fp16"), "cuda:2": ("CUDA: B", "float32")}

    def known(choice: engines.EngineChoice) -> engines.EngineChoice:
        name, precision = hardware[choice.device]
        return dataclasses.replace(choice, hardware=name, precision=precision)

    monkeypatch.setattr(engines, "choose_devices", lambda text: tuple(text.split(",")))
    monkeypatch.setattr(engines, "_with_hardware", known)
    choice = choose_engine(tiny, "cuda:0,cuda:1")
    assert [each.device for each in choice.each] == ["cuda:0", "cuda:1"]
    assert all(each.others == () for each in choice.each)
    assert choice.describe().endswith("on 2 x CUDA: A, fp16")
    assert choice.with_threads(7) == choice  # a GPU's network is loaded once, whatever the threads
    assert choice.describe_kind() == choice.each[0].describe_kind()
    with pytest.raises(UsageError, match=r"cuda:0 \(CUDA: A\) computes in fp16, cuda:2 .* in float32; give `device`"):
        choose_engine(tiny, "cuda:0,cuda:2")


NO_KERNEL = RuntimeError("CUDA error: no kernel image is available for execution on the device")


@pytest.mark.parametrize(("available", "reason"), [(False, "it;"), (True, r"it \(CUDA error: no kernel image .*\);")])
def test_gpu_that_torch_cannot_use_is_said_once(
    monkeypatch: pytest.MonkeyPatch, *, available: bool, reason: str
) -> None:
    fail = Mock(side_effect=NO_KERNEL)
    device_module._warn_once.cache_clear()
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch, "ones", fail)
    monkeypatch.setattr(device_module, "has_mps", lambda: False)
    with pytest.warns(GeosegWarning, match=f"cannot use {reason} continuing with the CPU") as said:
        assert [device_module.choose_device("auto") for _ in range(2)] == ["onnx", "onnx"]
    assert len(said) == 1
    with pytest.raises(UsageError, match=f"cannot use {reason} install a torch built for this GPU"):
        device_module.choose_device("cuda")


def test_a_gpu_whose_memory_is_taken_is_no_fault_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = Mock(side_effect=torch.OutOfMemoryError("CUDA error: out of memory"))
    device_module._warn_once.cache_clear()
    monkeypatch.setattr(device_module, "cuda_devices", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    monkeypatch.setattr(device_module, "has_mps", lambda: False)
    with pytest.raises(
        UsageError, match=r"the memory of cuda:1 is taken \(CUDA error: out of memory\); close other programs"
    ):
        device_module.choose_device("cuda:1")
    with pytest.warns(GeosegWarning, match=r"the memory of cuda:0 is taken .*; continuing with the CPU"):
        assert device_module.choose_device("auto") == "onnx"


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_a_network_that_does_not_fit_its_device_is_said_in_one_line(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    fail = Mock(side_effect=fault)
    choice = choose_engine(tiny, "torch-cpu", threads=5 + isinstance(fault, MemoryError))  # not open yet
    monkeypatch.setattr(TorchEngine, "_moved", fail)
    with pytest.raises(
        GeosegError, match=r"the memory of the CPU has no room for the network of .*; close other programs"
    ):
        choice.open()
    monkeypatch.undo()
    assert choice.open().classes == len(tiny.output_codes), "it opens once there is room"


def test_threads_and_scale_are_checked(tiny: ModelBundle) -> None:
    with pytest.raises(UsageError, match="`threads` must be at least 1"):
        choose_engine(tiny, "cpu", threads=0)
    with pytest.raises(UsageError, match="low before high"):
        choose_engine(tiny, "cpu", scale=(5.0, 1.0))


def test_larger_windows_and_batches_take_more_memory(tiny: ModelBundle) -> None:
    small, large = (choose_engine(tiny, "cpu", window_px=side, export=False) for side in (64, 128))
    assert 0 < small.memory_bytes(1) < small.memory_bytes(2) < large.memory_bytes(2)


def test_export_program_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny: ModelBundle
) -> None:
    assert main(["only"]) == 2
    assert capsys.readouterr().err.startswith("usage: ")
    assert main([str(tmp_path / "nothing"), "64", str(tmp_path / "x.onnx")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main([str(tiny.weights_path), "63", str(tmp_path / "x.onnx")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.glob("*.onnx")) == []
