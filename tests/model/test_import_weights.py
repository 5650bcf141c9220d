"""Other programs' weights: tiny networks saved in exactly their formats; the saved network is the oracle."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
import re
import types
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

import geoseg
from geoseg.errors import ModelError, OutputError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.model import ModelBundle, build
from geoseg.model.network import load_network, parameter_shapes
from geoseg.model.weights.presets import preset_of
from geoseg.model.weights.recognition import Hints, recognize
from geoseg.model.weights.weights_file import check_names
from tests.networks import RGB

SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": [16, 16, 8]}
SAYS: dict[str, Any] = {"legend": DEEPGLOBE, "normalization": RGB}
ENCODER, LIGHT = "resnet18", "mobilenet_v2"
VIT = "tu-vit_tiny_patch16_224"


def network_of(architecture: str = "Unet", encoder: str | None = ENCODER, seed: int = 1, **arguments: Any) -> Any:
    torch.manual_seed(seed)
    sizes = {"in_channels": 3, "classes": 7} | ({"encoder_name": encoder} if encoder else {})
    return build(architecture, sizes | arguments).eval()


def check_same(bundle: ModelBundle, network: Any, side: int = 64) -> None:
    """Assert that the bundle's network computes exactly what the saved network does."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, bundle.arguments["in_channels"], side, side), generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(load_network(bundle)(image), network(image), rtol=0, atol=0)


@pytest.fixture(scope="module")
def unet() -> Any:
    return network_of(**SMALL)


@pytest.fixture(scope="module")
def light() -> Any:
    """Return a network a fifth of the usual size, for the steps that all files share."""
    return network_of(encoder=LIGHT, **SMALL)


# --- file formats


def _in_one_row(state: dict[str, Any]) -> dict[str, Any]:
    """Return tensors that share one storage; the vectors are strided."""
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    row = torch.zeros(2 * sum(tensor.numel() for tensor in floats.values()))
    start, found = 0, dict(state)
    for name, tensor in floats.items():
        step = 2 if tensor.ndim == 1 else 1
        part = row[start : start + step * tensor.numel() : step].view(tensor.shape)
        found[name] = part.copy_(tensor)
        start += step * tensor.numel()
    return found


WRAPPERS = (r"\1._orig_mod.", r"\1._checkpoint_wrapped_module.", r"\1._fsdp_wrapped_module.")
FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "state dict": lambda state: state,
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "plain Lightning": lambda state: {
        "epoch": 3,
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()} | {"criterion.weight": torch.ones(7)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(9)}}}],
        "hyper_parameters": {"lr": 1e-3, "where": Path("scenes")},
    },
    "settings as objects": lambda state: {
        "state_dict": state,
        "hyper_parameters": {
            "optimizer": functools.partial(torch.optim.AdamW, lr=1e-3),
            "loss": smp.losses.DiceLoss("multiclass"),
            "stages": range(3),
            "type": Any,
            "counts": Counter("aab"),
            "flags": types.SimpleNamespace(fast=True),
            "weights": torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
        },
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]),
    },
    "terratorch": lambda state: {
        "state_dict": {f"model.smp_model.{name}": tensor for name, tensor in state.items()},
        "hyper_parameters": {"model_args": {"model": "Unet", "backbone": LIGHT}},
    },
    "torchgeo's trainer": lambda state: {
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}
        | {"val_metrics.Accuracy.tp": torch.zeros(7, dtype=torch.int64)},
        "hyper_parameters": {"model": "unet", "backbone": LIGHT, "in_channels": 3, "num_classes": 7},
    },
    "with its average": lambda state: {
        "model": {f"net.{name}": tensor for name, tensor in state.items()},
        "model_ema": {f"net.{name}": tensor * 2 for name, tensor in state.items()},
    },
    "average inside": lambda state: (
        {f"model.{name}": tensor for name, tensor in state.items()}
        | {f"ema_model.{name}": tensor * 2 for name, tensor in state.items()}
    ),
    "deep": lambda state: {"checkpoint": {"model_state_dict": {f"a.b.seg_model.{n}": t for n, t in state.items()}}},
    "no counters": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    "mean of two": lambda state: {name: (tensor + tensor) / 2 for name, tensor in state.items()},
    "channels last": lambda state: {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in state.items()
    },
    "one row of numbers": _in_one_row,
    "in a tuple": lambda state: (3, [state]),
    "parts compiled, checkpointed and sharded": lambda state: {
        f"module._orig_mod.{re.sub(r'(blocks[.]0|conv1)[.]', wrapper, name)}": tensor
        for (name, tensor), wrapper in zip(state.items(), itertools.cycle(WRAPPERS), strict=False)
    },
    "parameters": lambda state: {
        name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in state.items()
    },
}


@pytest.mark.parametrize(("form", "ending"), [*((form, "ckpt") for form in FORMS), ("plain Lightning", "old.pth")])
def test_every_form_of_file_gives_the_network_that_was_saved(
    light: Any, tmp_path: Path, form: str, ending: str
) -> None:
    source = tmp_path / f"weights.{ending}"
    torch.save(FORMS[form](light.state_dict()), source, _use_new_zipfile_serialization=ending == "ckpt")
    bundle = geoseg.import_weights(source, tmp_path / "model.safetensors", **SAYS)
    check_same(bundle, light)
    assert (bundle.architecture, bundle.arguments["encoder_name"]) == ("Unet", LIGHT)
    assert bundle.provenance["imported"]["file"] == source.name


def test_a_plain_safetensors_file_and_folders_of_either_kind_are_taken(light: Any, tmp_path: Path) -> None:
    saved = smp.Unet(LIGHT, encoder_weights=None, classes=7, **SMALL)
    saved.load_state_dict(light.state_dict())
    saved.save_pretrained(tmp_path / "folder")
    check_same(geoseg.import_weights(tmp_path / "folder", tmp_path / "a.safetensors", **SAYS), light)
    plain = tmp_path / "folder" / "model.safetensors"
    check_same(geoseg.import_weights(plain, tmp_path / "b.safetensors", **SAYS), light)
    plain.unlink()
    torch.save(light.state_dict(), tmp_path / "folder" / "pytorch_model.bin")
    check_same(geoseg.import_weights(tmp_path / "folder", tmp_path / "c.safetensors", **SAYS), light)


def test_a_second_copy_in_a_dict_of_its_own_is_left_out_aloud_with_the_way_to_take_it(
    light: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm stores the averaged weights this way; a message says how to import them instead."""
    average = {name: tensor * 2 for name, tensor in light.state_dict().items()}
    torch.save({"state_dict": light.state_dict(), "state_dict_ema": average}, tmp_path / "a.pth")
    lines: list[str] = []
    check_same(
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", announce=lines.append, **SAYS), light
    )
    monkeypatch.chdir(tmp_path)
    exec(way_out("\n".join(lines)), {"torch": torch})  # noqa: S102 - what a user types
    taken = ModelBundle.open(geoseg.import_weights("weights.pth", "b.safetensors", **SAYS).weights_path)
    with pytest.raises(AssertionError):
        check_same(taken, light)
    light_twice = network_of(encoder=LIGHT, **SMALL)
    light_twice.load_state_dict(average)
    check_same(taken, light_twice)


def test_a_second_copy_in_a_folder_is_told_and_keys_without_end_are_not(light: Any, tmp_path: Path) -> None:
    saved = smp.Unet(LIGHT, encoder_weights=None, classes=7, **SMALL)
    saved.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").unlink()
    state = light.state_dict()
    for key, is_told in (("ema", True), ("ema" * 10_000, False)):
        torch.save({"state_dict": state, key: {**state}}, tmp_path / "folder" / "pytorch_model.bin")
        lines: list[str] = []
        bundle = geoseg.import_weights(
            tmp_path / "folder", tmp_path / "a.safetensors", announce=lines.append, overwrite=True, **SAYS
        )
        check_same(bundle, light)
        assert any("left out, another copy of the weights: ['ema']" in line for line in lines) == is_told
        assert max(map(len, lines)) < 1000
    torch.save({"ema" * 10_000: state, "network": light}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="could run code") as refused:
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "b.safetensors", **SAYS)
    assert len(str(refused.value)) < 1000


def test_what_is_given_of_a_shallower_network_is_kept(tmp_path: Path) -> None:
    network = network_of("FPN", encoder_depth=4, upsampling=4)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    bundle = geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", arguments={"upsampling": 4}, **SAYS)
    assert (bundle.arguments["encoder_depth"], bundle.arguments["upsampling"]) == (4, 4)


def way_out(text: str) -> str:
    """Return the call of torch.save that a message recommends."""
    found = re.search(r"torch\.save\(.*'weights\.pth'\)", text)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("form", ["network", "network in a dict", "a fraction beside"])
def test_what_could_run_is_refused_with_a_line_that_keeps_its_tensors(
    light: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    forms: dict[str, Any] = {
        "network": light,
        "network in a dict": {"epoch": 3, "model": light},
        "a fraction beside": {"share": Fraction(1, 2), "deep": {"state": light.state_dict()}},
    }
    monkeypatch.chdir(tmp_path)
    torch.save(forms[form], "a.pth")
    with pytest.raises(ModelError, match="could run code") as refused:
        geoseg.import_weights("a.pth", "a.safetensors", **SAYS)
    exec(way_out(str(refused.value)), {"torch": torch})  # noqa: S102 - what a user types
    check_same(geoseg.import_weights("weights.pth", "a.safetensors", **SAYS), light)


def test_a_second_head_of_smp_is_left_out(light: Any, tmp_path: Path) -> None:
    saved = smp.Unet(LIGHT, encoder_weights=None, classes=7, aux_params={"classes": 4}, **SMALL)
    saved.load_state_dict(light.state_dict(), strict=False)
    saved.save_pretrained(tmp_path / "folder")
    lines: list[str] = []
    bundle = geoseg.import_weights(tmp_path / "folder", tmp_path / "a.safetensors", announce=lines.append, **SAYS)
    check_same(bundle, light)
    assert any("classification_head" in line for line in lines)


# --- networks


NETWORKS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "bands and depth": ("Unet", ENCODER, {"in_channels": 5, "encoder_depth": 4, "decoder_channels": [32, 16, 8, 8]}),
    "attention": ("Unet", ENCODER, SMALL | {"decoder_attention_type": "scse", "decoder_channels": [32, 32, 16]}),
    "no norm": ("Unet", ENCODER, SMALL | {"decoder_use_norm": False}),
    "Unet++": ("UnetPlusPlus", ENCODER, {"decoder_channels": [32, 16, 16, 8, 8]}),
    "MAnet": ("MAnet", ENCODER, {"in_channels": 1, "decoder_pab_channels": 8, "decoder_channels": [32, 32, 16, 8, 8]}),
    "Linknet": ("Linknet", ENCODER, {}),
    "FPN": ("FPN", ENCODER, {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}),
    "FPN, cat": ("FPN", ENCODER, {"decoder_segmentation_channels": 32, "decoder_merge_policy": "cat"}),
    "PSPNet": ("PSPNet", ENCODER, {"psp_out_channels": 16}),
    "DeepLabV3": ("DeepLabV3", ENCODER, {"decoder_channels": 16}),
    "DeepLabV3+": ("DeepLabV3Plus", ENCODER, {"decoder_channels": 16}),
    "DeepLabV3+, full": ("DeepLabV3Plus", ENCODER, {"decoder_channels": 16, "decoder_aspp_separable": False}),
    "PAN": ("PAN", ENCODER, {"decoder_channels": 16}),
    "UPerNet": ("UPerNet", ENCODER, {"decoder_channels": 16, "in_channels": 8}),
    "UPerNet, no norm": ("UPerNet", ENCODER, {"decoder_channels": 16, "decoder_use_norm": False}),
    "UPerNet, shallow": ("UPerNet", ENCODER, {"decoder_channels": 16, "encoder_depth": 4}),
    "FPN, shallow": ("FPN", ENCODER, {"encoder_depth": 4}),
    "FPN, shallower": ("FPN", ENCODER, {"encoder_depth": 3}),
    "PSPNet, deep": ("PSPNet", ENCODER, {"psp_out_channels": 16, "encoder_depth": 4}),
    "PSPNet, deep VGG": ("PSPNet", "tu-vgg11", {"psp_out_channels": 16, "encoder_depth": 5}),
    "Unet, shallow": ("Unet", ENCODER, {"decoder_channels": [16, 8], "encoder_depth": 2}),
    "Unet, shallowest": ("Unet", ENCODER, {"decoder_channels": [8], "encoder_depth": 1}),
    "Unet++, shallow": ("UnetPlusPlus", ENCODER, {"decoder_channels": [16, 8], "encoder_depth": 2}),
    "Linknet, shallow": ("Linknet", ENCODER, {"encoder_depth": 2}),
    "PSPNet, shallow": ("PSPNet", ENCODER, {"psp_out_channels": 16, "encoder_depth": 2}),
    "DeepLabV3, shallow": ("DeepLabV3", ENCODER, {"decoder_channels": 16, "encoder_depth": 2}),
    "Segformer, shallow": ("Segformer", ENCODER, {"encoder_depth": 4}),
    "UPerNet of 0.4": ("UPerNet04", ENCODER, {"decoder_pyramid_channels": 16, "in_channels": 4}),
    "Segformer": ("Segformer", ENCODER, {"decoder_segmentation_channels": 16}),
    "DPT": ("DPT", VIT, {"decoder_fusion_channels": 16, "decoder_intermediate_channels": [8, 8, 16, 16]}),
    "DPT, no readout": ("DPT", VIT, {"decoder_readout": "ignore", "decoder_fusion_channels": 16}),
    "LightFPN": ("LightFPN", ENCODER, {"in_channels": 4}),
    "FCN8s": ("FCN8s", ENCODER, {}),
    "SegNet": ("SegNet", "vgg11_bn", {}),
    "PlainUnet": ("PlainUnet", None, {"depth": 2, "channels": 4, "batch_norm": False, "skip": False}),
    "efficientnet": ("Unet", "efficientnet-b0", SMALL | {"in_channels": 8}),
    "timm": ("Unet", "tu-convnext_atto", {"decoder_channels": [16, 16, 8, 8, 8], "in_channels": 4}),
    "timm, shallow": ("Unet", "tu-convnext_atto", {"decoder_channels": [16, 16, 8, 8], "encoder_depth": 4}),
    "timm, shallow by default": ("PSPNet", "tu-regnety_002", {"psp_out_channels": 16}),
    "timm, shallower": ("FPN", "tu-regnetx_002", {"encoder_depth": 3}),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_told_by_its_tensors(kind: str) -> None:
    """The architecture, its arguments and the name of each tensor are recovered from shapes alone."""
    architecture, encoder, arguments = NETWORKS[kind]
    wanted = {"in_channels": 3, "classes": 7} | ({"encoder_name": encoder} if encoder else {}) | arguments
    shapes = parameter_shapes(architecture, wanted)
    hints = Hints(encoder=VIT) if encoder == VIT else Hints()
    found = recognize({f"net.{name}": shape for name, shape in shapes.items()}, hints, "weights.pth")
    assert found.architecture == architecture
    assert parameter_shapes(architecture, found.arguments) == shapes
    assert {name: found.arguments[name] for name in wanted} == wanted
    if "shallow" in kind or "deep" in kind:
        network = build(architecture, found.arguments).eval()
        with torch.no_grad():
            assert network(torch.zeros(1, wanted["in_channels"], 64, 64)).shape[2:] == (64, 64)
    assert found.names == {name: f"net.{name}" for name in shapes}
    assert found.unused == ()


def test_names_of_older_libraries_are_known() -> None:
    """Older smp had its own gernet encoder and a sequential DeepLabV3 decoder; timm joins names with dots now."""
    wanted = {"encoder_name": "tu-gernet_s", "in_channels": 3, "classes": 7}
    shapes = parameter_shapes("DeepLabV3", wanted)
    old = {}
    for name, shape in shapes.items():
        plain = name.replace("encoder.model.", "encoder.").replace("stages_", "stages.")
        for new, before in (("aspp.", "0."), ("conv.", "1."), ("bn.", "2.")):
            plain = (
                f"decoder.{before}{plain.removeprefix('decoder.' + new)}"
                if plain.startswith(f"decoder.{new}")
                else plain
            )
        old[plain] = shape
    assert old.keys() != shapes.keys()
    found = recognize(old, Hints(), "weights.pth")
    assert found.arguments["encoder_name"] == "tu-gernet_s"
    assert found.names.keys() == shapes.keys()


def test_stages_that_older_smp_saved_without_using_them_are_left_out() -> None:
    """Its own encoders, such as res2net, kept the stages below a shallow network's depth; timm's builds none."""
    wanted = {"encoder_name": "tu-res2net50_26w_4s", "in_channels": 3, "classes": 7}
    shapes = parameter_shapes("PSPNet", wanted)
    deep = {key: shape for key, shape in parameter_shapes("FPN", wanted).items() if key.startswith("encoder.")}
    old = {key.replace("encoder.model.", "encoder."): shape for key, shape in (deep | shapes).items()}
    found = recognize(old, Hints(), "weights.pth")
    assert found.arguments["encoder_name"] == "tu-res2net50_26w_4s"
    assert found.names.keys() == shapes.keys()
    assert "encoder.layer4.2.bn3.weight" in found.unused
    with pytest.raises(ModelError, match=r"it also has encoder\.layer9\.weight"):
        recognize(old | {"encoder.layer9.weight": (3,)}, Hints(encoder="tu-res2net50_26w_4s"), "weights.pth")


@pytest.mark.parametrize(
    ("architecture", "encoder", "is_said"),
    [
        ("DeepLabV3Plus", "timm-mobilenetv3_small_075", True),
        ("PAN", "timm-mobilenetv3_small_075", True),
        ("FPN", "timm-mobilenetv3_small_075", False),
        ("PAN", "tu-tf_mobilenetv3_small_075", True),
        ("PAN", "tu-mobilenetv3_small_075", False),
    ],
)
def test_encoders_that_older_smp_dilated_otherwise_are_named(
    tmp_path: Path, architecture: str, encoder: str, *, is_said: bool
) -> None:
    """Its own code of timm-mobilenetv3 dilated the first convolution of a stage, too; the tensors are the same."""
    network = build(architecture, {"encoder_name": encoder, "in_channels": 3, "classes": len(DEEPGLOBE)})
    torch.save(network.state_dict(), tmp_path / "a.pth")
    lines: list[str] = []
    out = tmp_path / "a.safetensors"
    geoseg.import_weights(tmp_path / "a.pth", out, encoder=encoder, announce=lines.append, **SAYS)
    assert any("if smp before 0.5 trained it as timm-" in line and "ONNX" in line for line in lines) == is_said


@pytest.mark.parametrize(
    ("encoder", "depth", "is_assumed"), [("vgg11", 4, True), ("tu-vgg11", 3, False), (ENCODER, 4, False)]
)
def test_a_depth_that_is_one_of_several_is_said_to_be_assumed(encoder: str, depth: int, *, is_assumed: bool) -> None:
    """VGG has the same number of channels at three depths, and smp's keeps the tensors of all its stages."""
    wanted = {"encoder_name": encoder, "in_channels": 3, "classes": 7, "encoder_depth": depth}
    shapes = parameter_shapes("PSPNet", wanted)
    assert recognize(shapes, Hints(), "w.pth").assumed == (("encoder_depth",) if is_assumed else ())
    told = recognize(shapes, Hints(arguments={"encoder_depth": depth}), "w.pth")
    assert (told.arguments["encoder_depth"], told.assumed) == (depth, ())


def test_one_channel_has_two_classes(tmp_path: Path) -> None:
    network = network_of(classes=1, **SMALL)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    binary = Legend((LandCover(0, "land", (0, 0, 0)), LandCover(1, "water", (0, 0, 255))))
    check_same(
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", **SAYS | {"legend": binary}), network
    )
    with pytest.raises(UsageError, match=r"1 output channel, .*7 classes; give two classes, the background first"):
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "b.safetensors", **SAYS)


@pytest.mark.parametrize(
    ("architecture", "sizes", "unseen"),
    [
        ("Unet", SMALL, {"decoder_interpolation": "bilinear"}),
        ("FPN", {"decoder_pyramid_channels": 16}, {"decoder_interpolation": "bicubic"}),
        ("PAN", {"decoder_channels": 8}, {"decoder_interpolation": "nearest"}),
        ("DeepLabV3Plus", {"decoder_channels": 16}, {"encoder_output_stride": 8}),
        ("DeepLabV3Plus", {"decoder_channels": 16}, {"decoder_atrous_rates": [2, 4, 6]}),
    ],
)
def test_what_no_tensor_tells_is_said_to_be_taken_as_usual(
    architecture: str, sizes: dict[str, Any], unseen: dict[str, Any]
) -> None:
    usual, other = (network_of(architecture, **sizes, **more) for more in ({}, unseen))
    state = usual.state_dict()
    other.load_state_dict(state)  # the very same tensors
    image = torch.rand((1, 3, 128, 128))
    with torch.no_grad():
        assert not torch.allclose(usual(image), other(image))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert set(unseen) <= set(recognize(shapes, Hints(encoder=ENCODER), "w.pth").assumed)
    told = recognize(shapes, Hints(encoder=ENCODER, arguments=unseen), "w.pth")
    assert told.arguments.items() >= unseen.items()
    assert not set(unseen) & set(told.assumed)


def test_encoders_of_equal_tensors_must_be_named() -> None:
    """timm's efficientnet and its tf_ twin differ only in padding."""
    twins = "tu-efficientnet_b0", "tu-tf_efficientnet_b0"
    shapes = parameter_shapes("Unet", {"encoder_name": twins[1], "in_channels": 3, "classes": 7})
    with pytest.raises(ModelError, match=rf"fits several encoders.*{twins[0]}, .*{twins[1]}; .*`encoder`"):
        recognize(shapes, Hints(), "weights.pth")
    assert recognize(shapes, Hints(encoder=twins[1]), "weights.pth").arguments["encoder_name"] == twins[1]
    for said, meant in {
        "tf_efficientnet_b0": twins[1],
        "unet-tf_efficientnet_b0-best.ckpt": twins[1],
        "unet_tu-tf_efficientnet_b0_fold1": twins[1],
        "unet_efficientnet_b0_best": twins[0],
    }.items():
        words = Hints(words=("a text", said))
        assert recognize(shapes, words, "weights.pth").arguments["encoder_name"] == meant


def test_a_name_of_smps_means_the_encoder_that_smp_takes_for_it() -> None:
    """In smp, timm-mobilenetv3 is timm's tf_mobilenetv3; timm's own mobilenetv3 pads differently."""
    name = "timm-mobilenetv3_small_100"
    shapes = parameter_shapes("Unet", {"encoder_name": name, "in_channels": 3, "classes": 7})
    for words in ((name,), (f"unet-{name}",), (f"Unet_{name}_best",)):
        found = recognize(shapes, Hints(words=words), "weights.pth").arguments["encoder_name"]
        assert found == "tu-tf_mobilenetv3_small_100"
    with pytest.warns(DeprecationWarning, match="timm-"):
        assert smp.encoders.get_encoder(name).name == "tf_mobilenetv3_small_100"


def test_encoders_that_are_equal_where_they_are_cut_short_are_listed() -> None:
    """ConvNeXt tiny and small differ in their third stage only."""
    arguments = {"in_channels": 3, "classes": 7, "encoder_depth": 3, "decoder_channels": [16, 16, 8]}
    tiny, small = (
        parameter_shapes("Unet", arguments | {"encoder_name": f"tu-convnext_{size}"}) for size in ("tiny", "small")
    )
    assert tiny == small
    with pytest.raises(ModelError, match=r"fits several encoders.* tu-convnext_small, tu-convnext_tiny[,;]"):
        recognize(tiny, Hints(), "weights.pth")
    found = recognize(tiny, Hints(words=("unet_convnext_small.pth",)), "weights.pth")
    assert found.arguments["encoder_name"] == "tu-convnext_small"


def test_the_ending_of_a_file_is_no_tag_of_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that no table has is identified by the file's name alone."""
    monkeypatch.setattr("geoseg.model.network.encoders._table", dict)
    encoder = "tu-convnext_atto"
    network = network_of("PSPNet", encoder, psp_out_channels=16)
    for name in (f"{encoder}.pth", f"{encoder}.pth.tar"):
        torch.save(network.state_dict(), tmp_path / name)
    bundle = geoseg.import_weights(tmp_path / f"{encoder}.pth", tmp_path / "a.safetensors", **SAYS)
    check_same(bundle, network)
    with pytest.raises(ModelError, match=r"whose encoder geoseg does not recognize .*`encoder=tu-NAME`"):
        geoseg.import_weights(tmp_path / f"{encoder}.pth.tar", tmp_path / "b.safetensors", **SAYS)


def test_the_vision_transformers_of_dpt_are_told_or_listed() -> None:
    told = recognize(parameter_shapes("DPT", _dpt("tu-vit_small_patch14_dinov2")), Hints(), "weights.pth")
    assert (told.architecture, told.arguments["encoder_name"]) == ("DPT", "tu-vit_small_patch14_dinov2")
    shapes = parameter_shapes("DPT", _dpt("tu-vit_tiny_patch16_224"))
    with pytest.raises(ModelError, match=r"several encoders.*tu-deit_tiny_patch16_224, .*tu-vit_tiny_patch16_224;"):
        recognize(shapes, Hints(), "weights.pth")
    words = Hints(words=("dpt-vit_tiny_patch16_224.ckpt",))
    assert recognize(shapes, words, "weights.pth").arguments["encoder_name"] == "tu-vit_tiny_patch16_224"


def test_the_one_size_of_a_transformer_is_said_to_be_taken_as_usual(tmp_path: Path) -> None:
    """Nothing in a Swin's weights reveals its input size, and little in a ViT's."""
    network = network_of("DPT", VIT, decoder_fusion_channels=16)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    for given, said in (({}, True), ({"window_px": 224}, False), ({"arguments": {"img_size": 224}}, False)):
        lines: list[str] = []
        more = {"encoder": VIT, "announce": lines.append, "overwrite": True} | given
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", **SAYS, **more)
        assert any("windows of 224 px; if it was trained on others" in line for line in lines) == said


def _dpt(encoder: str) -> dict[str, Any]:
    return {"encoder_name": encoder, "in_channels": 3, "classes": 7}


# --- recognized weights


def test_flair_inc_is_known_whole(tmp_path: Path) -> None:
    for bands, name in ((3, "FLAIR-INC_rgb_15cl_resnet18-unet_weights.pth"), (5, "renamed.pth")):
        network = network_of(in_channels=bands, classes=19, **SMALL)
        state = {f"model.seg_model.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save(state | {"criterion.weight": torch.ones(19)}, tmp_path / name)
        bundle = geoseg.import_weights(tmp_path / name, tmp_path / "f.safetensors", overwrite=True)
        check_same(bundle, network)
        assert bundle.normalization.mean == (105.08, 110.87, 101.82, 106.38, 53.26)[:bands]
        assert (bundle.gsd_m, bundle.window_px, bundle.dtype) == (0.2, 512, "uint8")
        assert bundle.bands == ("red", "green", "blue", "nir", "elevation")[:bands]
        assert bundle.legend.by_code(1).name == "building"
        assert bundle.output_codes == tuple(range(1, 20))
        assert bundle.provenance["imported"]["license"] == "etalab-2.0"


def test_flair_hub_is_known_whole(tmp_path: Path) -> None:
    """Its file also holds an auxiliary decoder, an unused weight of one band, and a loss."""
    name = "FLAIR-HUB_LC-A_IR_convnextatto-upernet"
    small = {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 8}
    network = network_of("UPerNet04", "tu-convnext_atto", classes=19, **small)
    unused = "decoder.fpn_stages.4.skip_conv.0.weight"
    state: dict[str, torch.Tensor] = {"criterion.AERIAL_LABEL-COSIA.weight": torch.ones(19)}
    for key, tensor in network.state_dict().items():
        if key.startswith("encoder."):
            state[f"model.encoders.AERIAL_RGBI.seg_model.{key.removeprefix('encoder.')}"] = tensor
            continue
        saved = tensor[:, :1].clone() if key == unused else tensor
        state[f"model.main_decoders.AERIAL_LABEL-COSIA.seg_model.{key}"] = saved
        state[f"model.aux_decoders.AERIAL_RGBI__AERIAL_LABEL-COSIA.seg_model.{key}"] = saved + 1
    safetensors.torch.save_file(state, tmp_path / f"{name}.safetensors")
    bundle = geoseg.import_weights(tmp_path / f"{name}.safetensors", tmp_path / "m.safetensors")
    check_same(bundle, network)
    assert bundle.architecture == "UPerNet04"
    assert bundle.bands == ("nir", "red", "green")
    assert bundle.normalization.mean == (106.59, 105.66, 111.35)
    assert bundle.legend.by_code(18).name == "undefined"
    assert (bundle.window_px, bundle.gsd_m) == (512, 0.2)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for letters in ("RGB", "IR"):
        preset = preset_of(tmp_path / f"FLAIR-HUB_LC-A_{letters}_swinbase-upernet.safetensors", shapes)
        assert preset is not None
        assert preset.name == f"flair-hub-{letters.lower()}"
    assert preset_of(tmp_path / "renamed.safetensors", shapes) is None


def test_flair_hubs_swin_is_told_by_its_tensors_and_made_for_512_px() -> None:
    wanted = {"encoder_name": "tu-swin_tiny_patch4_window7_224", "in_channels": 3, "classes": 19, "img_size": 512}
    shapes = parameter_shapes("UPerNet04", wanted)
    found = recognize(shapes, Hints(optional_arguments={"img_size": 512}), "weights.safetensors")
    assert {name: found.arguments[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "bands", "classes", "prefix"),
    [
        ("sentinel2_unet_effb3-9c04b7c6.pth", 8, 2, ""),
        ("sentinel2_unet_effb3-5d591cbb.pth", 8, 3, ""),
        ("sentinel2_unet_effb3-3ce575ed.pth", 8, 2, ""),
        ("sentinel2_unet_effb3-74f7eb81.pth", 8, 3, ""),
        ("prue_efnetb5_ccby-4fd92b24.pth", 8, 3, ""),
        ("3_Class_FULL_FTW_Pretrained_v2.ckpt", 8, 3, "model."),
        ("3_Class_FULL_FTW_Pretrained_singleWindow_v2.ckpt", 4, 3, "model."),
        ("unet_resnet34_oam_rgb_tcd-72b9b753.pth", 3, 2, ""),
    ],
)
def test_torchgeo_and_fields_of_the_world_are_known_whole(
    tmp_path: Path, name: str, bands: int, classes: int, prefix: str
) -> None:
    encoder = "resnet34" if "tcd" in name else "efficientnet-b0"
    network = network_of(encoder=encoder, in_channels=bands, classes=classes, decoder_channels=[16, 16, 8, 8, 8])
    state: Any = {prefix + key: tensor for key, tensor in network.state_dict().items()}
    if prefix:
        hyper = {"model": "unet", "backbone": encoder, "in_channels": bands, "num_classes": classes, "model_kwargs": {}}
        state = {"state_dict": state, "hyper_parameters": hyper, "pytorch-lightning_version": "2.5.0"}
    torch.save(state, tmp_path / name)
    bundle = geoseg.import_weights(tmp_path / name, tmp_path / "m.safetensors")
    check_same(bundle, network)
    assert bundle.legend.names[1] == ("tree canopy" if "tcd" in name else "field")
    assert (bundle.gsd_m, bundle.dtype) == ((0.1, "uint8") if "tcd" in name else (10.0, "uint16"))
    gain, bias = bundle.normalization.gain_bias()
    assert float(gain[0] * 1500 + bias[0]) == pytest.approx(1500.0 if "tcd" in name else 0.5)


def test_what_is_given_goes_before_a_preset(tmp_path: Path) -> None:
    network = network_of(**SMALL)
    torch.save(network.state_dict(), tmp_path / "FLAIR-INC_rgb_7cl.pth")
    with pytest.raises(UsageError, match=r"7 output channels, but the `legend` of the preset flair-inc-rgb has 19"):
        geoseg.import_weights(tmp_path / "FLAIR-INC_rgb_7cl.pth", tmp_path / "m.safetensors", preset="flair-inc-rgb")
    bundle = geoseg.import_weights(
        tmp_path / "FLAIR-INC_rgb_7cl.pth",
        tmp_path / "m.safetensors",
        preset="FLAIR-INC-RGB",
        legend=DEEPGLOBE,
        gsd_m=0.5,
    )
    assert (bundle.gsd_m, bundle.legend) == (0.5, DEEPGLOBE)
    assert bundle.normalization.mean[0] == 105.08
    with pytest.raises(UsageError, match="did you mean flair-inc-rgb"):
        geoseg.import_weights(tmp_path / "FLAIR-INC_rgb_7cl.pth", tmp_path / "n.safetensors", preset="flair-inc-rbg")


# --- refusals


def test_pickle_of_another_library_is_refused_with_the_way_to_use_its_model(tmp_path: Path) -> None:
    (tmp_path / "forest.pkl").write_bytes(pickle.dumps({"trees": [1, 2]}))
    with pytest.raises(ModelError, match=r"torch\.save did not write; .*a function: ModelBundle\.from_callable"):
        geoseg.import_weights(tmp_path / "forest.pkl", tmp_path / "m.safetensors")


def test_what_the_file_does_not_say_is_asked_for(unet: Any, tmp_path: Path) -> None:
    torch.save(unet.state_dict(), tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    with pytest.raises(UsageError, match=r"what its 7 classes are nor how its bands.*`legend`, `mean` and `std`, or"):
        geoseg.import_weights(tmp_path / "a.pth", out)
    with pytest.raises(UsageError, match=r"how its bands were normalized; give `mean` and `std`, or"):
        geoseg.import_weights(tmp_path / "a.pth", out, legend=DEEPGLOBE)
    with pytest.raises(UsageError, match=r"7 output channels, but the `legend` has 2 classes"):
        geoseg.import_weights(tmp_path / "a.pth", out, legend=Legend(DEEPGLOBE.classes[:2]), normalization=RGB)
    torch.save(changed(unet.state_dict(), "other names"), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="is not from a network that geoseg knows"):  # whatever else is missing
        geoseg.import_weights(tmp_path / "a.pth", out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def changed(state: dict[str, Any], what: str) -> dict[str, Any]:
    state = dict(state)
    match what:
        case "a layer is missing":
            del state["decoder.blocks.1.conv1.0.weight"]
        case "a layer is larger":
            state["encoder.layer2.0.conv1.weight"] = torch.zeros(9, 9, 3, 3)
        case "a layer more":
            state["encoder.layer5.0.conv1.weight"] = torch.zeros(2)
        case "other names":
            return {
                f"backbone.{name.replace('encoder', 'x').replace('segmentation_head', 'y')}": tensor
                for name, tensor in state.items()
            }
        case "another decoder":
            return {name.replace("decoder.blocks", "decoder.things"): tensor for name, tensor in state.items()}
        case "an encoder of nobody":
            return {name.replace("layer", "mystery"): tensor for name, tensor in state.items()}
        case "not a number":
            state["segmentation_head.0.bias"] = torch.full((7,), float("nan"))
        case "a negative variance":
            state["encoder.bn1.running_var"] = -state["encoder.bn1.running_var"]
        case "complex":
            state["decoder.blocks.1.conv1.0.weight"] = state["decoder.blocks.1.conv1.0.weight"] * 1j
    return state


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("a layer is missing", r"closest is Unet on resnet18: it lacks decoder\.blocks\.1\.conv1\.0\.weight"),
        ("a layer is larger", r"name it: `encoder=NAME`"),
        ("a layer more", r"name it: `encoder=NAME`"),
        ("other names", r"its tensors have other names \(backbone\.x\.conv1\.weight, .*export the network to ONNX"),
        ("another decoder", r"a decoder that geoseg does not recognize \(decoder\.things.*`architecture`"),
        ("an encoder of nobody", r"whose encoder geoseg does not recognize .*`encoder=tu-NAME`"),
        ("not a number", r"not finite, in segmentation_head\.0\.bias; copy"),
        ("a negative variance", r"negative variances, in encoder\.bn1\.running_var; copy"),
        ("complex", "holds complex numbers"),
    ],
)
def test_what_is_no_network_of_ours_is_told_by_its_first_difference(
    unet: Any, tmp_path: Path, what: str, wanted: str
) -> None:
    torch.save(changed(unet.state_dict(), what), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=wanted) as caught:
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", **SAYS)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11_bn", "tf_efficientnet_b0", "mobilenetv3_small_050", "convnext_atto", "resnest14d",
             "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "regnetx_002", "pvt_v2_b0"],
)  # fmt: skip
def test_weights_of_an_encoder_alone_are_told_as_such(name: str, prefix: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    shapes = {prefix + key: tuple(tensor.shape) for key, tensor in state.items()}
    with pytest.raises(ModelError, match=r"holds only an encoder .*, which maps no classes; .*`encoder_weights`"):
        check_names(shapes, "weights.pth")
    with pytest.raises(ModelError, match="its tensors have other names"):
        check_names(shapes | {f"{prefix}decode_head.conv.weight": (1, 1, 1, 1)}, "weights.pth")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"architecture": "Unett"}, "unknown architecture 'Unett'; geoseg knows Unet, "),
        ({"encoder": "resnet35"}, "unknown encoder 'resnet35'"),
        ({"encoder": "a/b", "architecture": "Unet"}, "Unet: encoder_name must be a name of letters"),
        ({"architecture": "Unet", "arguments": {"encoder_depth": 99}}, "Unet: encoder_depth must be an integer 1 to 5"),
        ({"overlap_px": 600}, "`overlap_px` must be at least 0 and less than the window 512"),
        ({"gsd_m": -1.0}, "`gsd_m` must be 0.001 to 100000 meters, got -1.0"),
        ({"bands": ("red", "nir")}, "`bands` names 2 bands, `mean` has 3 numbers; each band needs one"),
        ({"arguments": {"encoder_deepth": 4}}, "ckpt: Unet has no argument 'encoder_deepth'; it has "),
        ({"arguments": {"encoder_depth": 40}}, "ckpt: Unet: encoder_depth must be "),
    ],
)
def test_what_is_given_wrongly_is_said_itself(unet: Any, tmp_path: Path, given: dict[str, Any], wanted: str) -> None:
    torch.save(unet.state_dict(), tmp_path / "weights.ckpt")
    with pytest.raises((ModelError, UsageError)) as caught:
        geoseg.import_weights(tmp_path / "weights.ckpt", tmp_path / "model.safetensors", **SAYS | given)
    assert wanted in str(caught.value)
    assert caught.value.parameter == ("arguments" if "arguments" in given else next(iter(given)))
    assert "no network that geoseg knows" not in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_named_encoder_that_does_not_fit_shows_the_first_difference(unet: Any, tmp_path: Path) -> None:
    torch.save(unet.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"closest is Unet on resnet34: it lacks encoder\.layer1\.2\.conv1\.weight"):
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", encoder="resnet34", **SAYS)
    with pytest.raises(ModelError, match="unknown encoder 'resnet43'"):
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", encoder="resnet43", **SAYS)


def test_an_existing_file_is_kept(unet: Any, tmp_path: Path) -> None:
    torch.save(unet.state_dict(), tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"exists; add `overwrite=True` to replace it, or choose another `out`"):
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", **SAYS)
    torch.save(changed(unet.state_dict(), "not a number"), tmp_path / "b.pth")
    with pytest.raises(ModelError, match="not finite"):
        geoseg.import_weights(tmp_path / "b.pth", tmp_path / "a.safetensors", overwrite=True, **SAYS)
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"
    with pytest.raises(UsageError, match=r"`out` must be the name of a \.safetensors file"):
        geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.pt", **SAYS)
    with pytest.raises(ModelError, match="is a geoseg model already"):
        geoseg.import_weights(ModelBundle.open("demo").weights_path, tmp_path / "c.safetensors")


def test_a_bundle_has_the_bytes_that_safetensors_itself_writes(unet: Any, tmp_path: Path) -> None:
    """safetensors holds every tensor in memory twice; geoseg writes them one by one."""
    torch.save(unet.state_dict(), tmp_path / "a.pth")
    bundle = geoseg.import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", **SAYS)
    metadata = {"geoseg": json.dumps(bundle.to_json())}
    assert (tmp_path / "a.safetensors").read_bytes() == safetensors.torch.save(unet.state_dict(), metadata)
