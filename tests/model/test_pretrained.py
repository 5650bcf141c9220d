from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from geoseg.errors import ModelError, UsageError
from geoseg.legend import DEEPGLOBE, Legend
from geoseg.model.architectures import architecture_named
from geoseg.model.bundle import ModelBundle
from geoseg.model.header import read_header
from geoseg.model.network import check_fit, load
from geoseg.model.normalization import Normalization
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
        assert torch.equal(load(bundle)(image), network(image))
    assert bundle.name == "coast"
    assert bundle.architecture == "FPN"
    assert bundle.bands == ("red", "green", "blue")


def test_hash_holds_what_the_caller_says(folder: Path) -> None:
    bundle = ModelBundle.from_pretrained(folder, **SAYS)
    assert bundle == ModelBundle.from_pretrained(folder, **SAYS)
    assert bundle.hash != ModelBundle.from_pretrained(folder, **SAYS, temperature=2.0).hash


def test_what_the_folder_does_not_know_is_asked_for(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"7 classes.*--legend, --mean and --std"):
        ModelBundle.from_pretrained(folder)
    with pytest.raises(UsageError, match=r"--legend, --mean and --std"):
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
    """Each with smp's own default, as save_pretrained would write it."""
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


def test_only_a_pickle_is_refused_with_the_way_out(folder: Path, network: Any) -> None:
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"only pytorch_model.bin, a pickle.*weights_only=True.*save_pretrained"):
        ModelBundle.from_pretrained(folder, **SAYS)


def test_pickle_under_the_right_name_is_refused(folder: Path, network: Any) -> None:
    torch.save(network.state_dict(), folder / "model.safetensors")
    with pytest.raises(ModelError, match="is a pickle"):
        ModelBundle.from_pretrained(folder, **SAYS)


def test_softmax_at_the_end_loses_nothing(network: Any, folder: Path) -> None:
    configure(folder, activation="softmax2d", encoder_weights="imagenet")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load(ModelBundle.from_pretrained(folder, **SAYS))(image), network(image))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"_model_class": "load_state_dict"}, "unknown architecture"),
        ({"_model_class": None}, "unknown architecture"),
        ({"activation": "sigmoid"}, "geoseg needs softmax"),
        ({"aux_params": {"classes": 2}}, "second, classifying head"),
        ({"encoder_name": "tu-hf-hub:someone/something"}, "encoder_name must be"),
        ({"in_channels": 10**9}, "in_channels must be an integer 1 to 256"),
        ({"hook": "x"}, "no argument 'hook'"),
        ({"classes": 1}, "classes must be an integer 2 to 255"),
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
