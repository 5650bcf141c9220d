from __future__ import annotations

import inspect
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from geoseg.errors import ModelError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.model import (
    ModelBundle,
    Normalization,
    Weights,
    architecture_named,
    build,
    choose_engine,
    read_header,
    save_bundle,
    transfer,
)
from geoseg.model.network import check_fit, load_network
from geoseg.raster import Window
from tests.networks import RGB

ENCODER = "tu-tf_mobilenetv3_small_minimal_100"
NOT_THE_NETWORK = {"encoder_weights", "activation", "aux_params"}
SAYS: dict[str, Any] = {"legend": DEEPGLOBE, "normalization": RGB}


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(1)
    small = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
    return smp.FPN(ENCODER, encoder_weights=None, classes=7, **small).eval()


@pytest.fixture
def folder(network: Any, tmp_path: Path) -> Path:
    network.save_pretrained(tmp_path / "coast")
    return tmp_path / "coast"


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_the_network_that_was_saved_comes_back(network: Any, folder: Path) -> None:
    bundle = ModelBundle.from_pretrained(folder, **SAYS)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_network(bundle)(image), network(image))
    assert bundle.name == "coast"
    assert bundle.architecture == "FPN"
    assert bundle.bands == ("red", "green", "blue")


def test_hash_holds_what_the_caller_says(folder: Path) -> None:
    bundle = ModelBundle.from_pretrained(folder, **SAYS)
    assert bundle == ModelBundle.from_pretrained(folder, **SAYS)
    assert bundle.hash != ModelBundle.from_pretrained(folder, **SAYS, temperature=2.0).hash


def test_what_the_folder_does_not_know_is_asked_for(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"7 classes.*`legend`, `mean` and `std` .*in Python, legend and normal"):
        ModelBundle.from_pretrained(folder)
    with pytest.raises(UsageError, match=r"`legend`, `mean` and `std`"):
        ModelBundle.open(folder)
    with pytest.raises(UsageError, match="7 output channels but 2 class codes"):
        ModelBundle.from_pretrained(folder, legend=Legend(DEEPGLOBE.classes[:2]), normalization=RGB)


def test_bands_of_which_only_the_number_is_known_are_numbered(folder: Path) -> None:
    configure(folder, in_channels=4)
    normalization = Normalization((100.0,) * 4, (50.0,) * 4)
    assert ModelBundle.from_pretrained(folder, legend=DEEPGLOBE, normalization=normalization).bands == (
        "band_1",
        "band_2",
        "band_3",
        "band_4",
    )


@pytest.mark.parametrize("name", smp.MODEL_ARCHITECTURES_MAPPING)
def test_every_argument_of_smp_is_known(name: str) -> None:
    """Every argument is accepted with smp's own default, as save_pretrained writes it."""
    architecture = architecture_named(name)
    made = smp.MODEL_ARCHITECTURES_MAPPING[name]
    assert made.__name__ == architecture.name
    defaults = {
        argument.name: list(argument.default) if isinstance(argument.default, tuple) else argument.default
        for argument in inspect.signature(made.__init__).parameters.values()
        if argument.default is not inspect.Parameter.empty
    }
    taken = {argument: value for argument, value in defaults.items() if argument not in NOT_THE_NETWORK}
    architecture.check(taken | {"classes": 7})


@pytest.mark.parametrize("name", ["Linknet", "Segformer"])
def test_folders_of_other_architectures_are_taken(tmp_path: Path, name: str) -> None:
    smp.create_model(name, ENCODER, encoder_weights=None, classes=7).save_pretrained(tmp_path)
    bundle = ModelBundle.from_pretrained(tmp_path, **SAYS)
    check_fit(bundle.architecture, bundle.arguments, read_header(bundle.weights_path), bundle.name)
    assert bundle.architecture == name


def test_folder_opened_without_a_legend_says_first_what_it_is(folder: Path) -> None:
    with pytest.raises(UsageError, match="also needs `legend`, `mean` and `std`"):
        ModelBundle.open(folder)
    configure(folder, _model_class=None, architectures=["UperNetForSemanticSegmentation"])
    with pytest.raises(ModelError, match="holds UperNetForSemanticSegmentation of the transformers library"):
        ModelBundle.open(folder)
    (folder / "model.safetensors").rename(folder / "model.onnx")
    with pytest.raises(ModelError, match=r"is a folder; give the model in it: model\.onnx"):
        ModelBundle.open(folder)


def test_only_a_pickle_is_refused_with_the_way_out(folder: Path, network: Any) -> None:
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"only pytorch_model.bin, a pickle.*geoseg import"):
        ModelBundle.from_pretrained(folder, **SAYS)


def test_pickle_under_the_right_name_is_refused(folder: Path, network: Any) -> None:
    torch.save(network.state_dict(), folder / "model.safetensors")
    with pytest.raises(ModelError, match="is a pickle"):
        ModelBundle.from_pretrained(folder, **SAYS)


def test_softmax_at_the_end_loses_nothing(network: Any, folder: Path) -> None:
    configure(folder, activation="softmax2d", encoder_weights="imagenet")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_network(ModelBundle.from_pretrained(folder, **SAYS))(image), network(image))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"_model_class": "load_state_dict"}, "unknown architecture"),
        ({"_model_class": None}, r"config.json names no network .*; give the weights file itself to geoseg import"),
        (
            {"_model_class": None, "architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer"},
            "SegformerForSemanticSegmentation of the transformers library, .* export it to ONNX .*from_callable",
        ),
        (
            {"_model_class": None, "architecture": "resnet18", "num_features": 512},
            "holds a timm encoder, resnet18, which maps no classes; .*`encoder='tu-resnet18'`",
        ),
        ({"_model_class": None, "architecture": "unet"}, r"names no network .*; give the weights file itself"),  # geoai
        ({"activation": "sigmoid"}, "over 7 channels, a multi-label network.*needs softmax"),
        ({"aux_params": {"classes": 2}}, "second head, a classifier"),
        ({"encoder_name": "tu-hf-hub:someone/something"}, "encoder_name must be"),
        ({"in_channels": 10**9}, "in_channels must be an integer 1 to 256"),
        ({"hook": "x"}, "no argument 'hook'"),
        ({"classes": 0}, "classes must be an integer 1 to 255"),
        ({"classes": 1}, "one output channel.*give two, the background's first"),
        ({"classes": 1, "activation": "softmax2d"}, "needs sigmoid"),
        ({"in_channels": 4}, "takes 4 bands but has a mean and std for 3"),
    ],
    ids=str,
)
def test_config_that_cannot_be_right_is_refused(folder: Path, changes: dict[str, Any], wanted: str) -> None:
    configure(folder, **changes)
    with pytest.raises((ModelError, UsageError), match=wanted):
        ModelBundle.from_pretrained(folder, **SAYS)


def test_broken_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        ModelBundle.from_pretrained(tmp_path / "nothing", **SAYS)
    (folder / "config.json").write_text("{}" * 2**20)
    with pytest.raises(ModelError, match="is over"):
        ModelBundle.from_pretrained(folder, **SAYS)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        ModelBundle.from_pretrained(folder, **SAYS)
    os.truncate(folder / "model.safetensors", 10**5)
    (folder / "config.json").write_text('{"_model_class": "Unet"}')
    with pytest.raises(ModelError, match="needs the arguments encoder_name"):
        ModelBundle.from_pretrained(folder, **SAYS)


# --- folders of other versions of smp; smp itself is the oracle

SMALL = {"decoder_channels": [16, 16, 8], "encoder_depth": 3}
NO_NORM = {"decoder_use_norm": False}
OWN = {"encoder_name": "mobilenet_v2"}  # timm's would take the decoder's argument as its own
THIN = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
OLD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # architecture, what smp is given, what then stands in config.json beside or instead of what it writes today
    "Unet of 0.4": ("Unet", SMALL | NO_NORM, {"-decoder_use_norm": 0, "decoder_use_batchnorm": False}),
    "Unet of 0.5": ("Unet", {**SMALL, "decoder_use_batchnorm": False}, {}),
    "Unet++": ("UnetPlusPlus", {**SMALL, "decoder_use_batchnorm": False}, {}),
    "MAnet": ("MAnet", {**SMALL, "decoder_pab_channels": 8, "decoder_use_batchnorm": False}, {}),
    "Linknet": ("Linknet", {"decoder_use_batchnorm": False}, {}),
    "the old name is null": ("Unet", SMALL, {"decoder_use_batchnorm": None}),
    "PSPNet of 0.4": ("PSPNet", {}, {"-decoder_use_norm": 0, "psp_use_batchnorm": True}),
    "PSPNet of 0.4, no norm": ("PSPNet", NO_NORM, {"-decoder_use_norm": 0, "psp_use_batchnorm": False}),
    "PSPNet of 0.5": ("PSPNet", {"psp_use_batchnorm": False}, {}),
    "PAN of 0.4": ("PAN", {}, {"-decoder_interpolation": 0, "upscale_mode": "nearest"}),
    "FPN, whose decoder has no such choice": ("FPN", THIN | OWN, {"decoder_use_batchnorm": False}),
    "names that smp leaves out": ("FPN", THIN, {"_hub": "x"}),
    "null for timm": ("FPN", THIN, {"drop_path_rate": None}),
    "timm's own": ("FPN", THIN | {"drop_path_rate": 0.1}, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OLD)
def test_a_folder_of_another_version_has_the_argmax_that_smp_gives_it(tmp_path: Path, kind: str) -> None:
    name, given, written = OLD[kind]
    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        choices: dict[str, Any] = {"encoder_name": ENCODER, "encoder_weights": None, "classes": 7} | given
        smp.create_model(name, **choices).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        gone = {key.removeprefix("-") for key in written if key.startswith("-")}
        new = {key: value for key, value in written.items() if not key.startswith("-")}
        kept = {key: value for key, value in config.items() if key not in gone}
        (tmp_path / "config.json").write_text(json.dumps(kept | new))
        oracle = smp.from_pretrained(tmp_path).eval()
    image = torch.rand((1, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = oracle(image), load_network(ModelBundle.from_pretrained(tmp_path, **SAYS))(image)
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    torch.testing.assert_close(found, wanted)


VIT = "tu-vit_tiny_patch16_224"


def test_a_transformer_that_takes_any_size_has_the_argmax_that_smp_gives_it(tmp_path: Path) -> None:
    """smp passes dynamic_img_size on to timm; without it the window is the one size that fits."""
    torch.manual_seed(3)
    any_size = {"dynamic_img_size": True}
    small = {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}
    smp.DPT(VIT, encoder_weights=None, classes=7, **small, **any_size).save_pretrained(tmp_path)
    bundle, oracle = ModelBundle.from_pretrained(tmp_path, **SAYS), smp.from_pretrained(tmp_path).eval()
    assert bundle.window_px == 512
    image = torch.rand((1, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_network(bundle)(image).argmax(1), oracle(image).argmax(1))
    configure(tmp_path, dynamic_img_size=False)
    assert ModelBundle.from_pretrained(tmp_path, **SAYS).window_px == 224


# --- models of one channel

BINARY = Legend((LandCover(0, "land", (0, 0, 0)), LandCover(1, "water", (0, 0, 255))))


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """Return the folder of a one-channel model whose probabilities lie on both sides of one half."""
    torch.manual_seed(5)
    network = smp.Unet(ENCODER, encoder_weights=None, classes=1, activation="sigmoid", **SMALL)
    torch.nn.init.normal_(network.segmentation_head[0].weight, std=0.5)
    network.save_pretrained(tmp_path / "water")
    return tmp_path / "water"


@pytest.mark.parametrize(
    ("device", "activation"),
    [("onnx", "sigmoid"), ("torch-cpu", None), ("torch-cpu", "identity")],
)
@pytest.mark.usefixtures("in_process", "cache")
def test_one_channel_tells_its_class_from_all_else(water: Path, device: str, activation: str | None) -> None:
    """The oracle is smp's sigmoid: above one half the pixel is of the class, below it is background."""
    oracle = smp.from_pretrained(water).eval()  # which ends in the sigmoid
    configure(water, activation=activation)
    bundle = ModelBundle.from_pretrained(water, legend=BINARY, normalization=RGB, window_px=64)
    assert bundle.output_codes == (0, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    gain, bias = (torch.from_numpy(side)[:, None, None] for side in RGB.gain_bias())
    with torch.no_grad():
        wanted = oracle((torch.from_numpy(pixels) * gain + bias)[None])[0, 0].numpy()
    assert 0.05 < (wanted > 0.5).mean() < 0.95
    engine = choose_engine(bundle, device).open()
    footprint = engine.upload(pixels, np.ones((64, 64), np.bool_))
    found = engine.download(engine.probabilities(footprint, [Window(0, 0, 64, 64)], Weights.ones(1, 64)))[0]
    np.testing.assert_allclose(found[1], wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    sure = np.abs(wanted - 0.5) > 1e-4
    assert np.array_equal(found.argmax(0)[sure], (wanted > 0.5)[sure])


def test_a_binary_model_is_a_bundle_like_any(water: Path, tmp_path: Path) -> None:
    bundle = ModelBundle.from_pretrained(water, legend=BINARY, normalization=RGB)
    network = load_network(bundle)
    again = save_bundle(
        tmp_path / "water.safetensors", network, architecture="Unet", arguments=bundle.arguments, legend=BINARY,
        normalization=RGB,
    )  # fmt: skip
    assert (again.output_codes, again.arguments) == (bundle.output_codes, bundle.arguments)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_network(ModelBundle.open(again.weights_path))(image), network(image))


def test_a_network_of_more_classes_begins_with_a_binary_one(water: Path) -> None:
    """The background's channel has zero weights and a logit of 0."""
    bundle = ModelBundle.from_pretrained(water, legend=BINARY, normalization=RGB)
    legend = Legend((*BINARY.classes, LandCover(2, "ice", (255, 255, 255))))
    network = build("Unet", bundle.arguments | {"classes": 3}).eval()
    taken = transfer(bundle, network, legend=legend, output_codes=(1, 0, 2), bands=bundle.bands)
    assert (taken.classes, taken.new_classes) == (("water", "land"), ("ice",))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image)[:, [1, 0]], load_network(bundle)(image))


@pytest.mark.parametrize("count", [1, 3])
def test_a_binary_model_wants_two_classes(water: Path, count: int) -> None:
    legend = Legend((*BINARY.classes, LandCover(2, "ice", (255, 255, 255)))[:count])
    with pytest.raises(UsageError, match=r"one output channel.*give two, the background's first"):
        ModelBundle.from_pretrained(water, legend=legend, normalization=RGB)
