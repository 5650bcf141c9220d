"""`geoseg import`: options become the library's arguments; each error takes one line and sets an exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from geoseg.model import ModelBundle, build
from geoseg_cli.main import geoseg

ROWS = [{"code": 5, "name": "water", "color": [0, 0, 255]}, {"code": 2, "name": "land", "color": [9, 9, 9]}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "weights.pth"
    sizes = {"encoder_name": "resnet18", "in_channels": 3, "classes": 2, "encoder_depth": 3}
    torch.save(build("Unet", sizes | {"decoder_channels": [16, 16, 8]}).state_dict(), path)
    return path


@pytest.fixture
def weights(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(made, tmp_path)
    Path("legend.json").write_text(json.dumps(ROWS), encoding="utf-8")
    return tmp_path / "weights.pth"


def run(*words: str) -> Result:
    return CliRunner().invoke(geoseg, ["import", "weights.pth", "--out", "model.safetensors", *words])


SAYS = ("--legend", "legend.json", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.2")


@pytest.mark.usefixtures("weights")
def test_what_is_typed_is_in_the_bundle() -> None:
    done = run(
        *SAYS, "--gsd", "0.2", "--bands", "nir,red,green", "--window", "256", "--overlap", "32", "--name", "mine"
    )
    assert done.exit_code == 0, done.output
    assert "Unet on resnet18, 3 bands, 2 classes" in done.output
    bundle = ModelBundle.open("model.safetensors")
    assert bundle.output_codes == (5, 2)  # in the order of the file
    assert bundle.normalization.mean == (127.5, 102.0, 76.5)
    assert (bundle.gsd_m, bundle.bands, bundle.name) == (0.2, ("nir", "red", "green"), "mine")
    assert (bundle.window_px, bundle.overlap_px) == (256, 32)


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("rows", "codes"),
    [(["water", "land"], (0, 1)), ({"water": 5, "land": 2}, (5, 2)), ([{"value": 2, "description": "water"},
      {"value": 1, "description": "land"}], (2, 1))],
    ids=["names", "codes by name", "STAC"],
)  # fmt: skip
def test_a_legend_is_any_that_other_commands_read(rows: object, codes: tuple[int, int]) -> None:
    Path("names.json").write_text(json.dumps(rows), encoding="utf-8")
    assert run("--legend", "names.json", *SAYS[2:], "-q").exit_code == 0
    bundle = ModelBundle.open("model.safetensors")
    assert [bundle.legend.by_code(code).name for code in bundle.output_codes] == ["water", "land"]
    assert bundle.output_codes == codes


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("words", "dtype", "mean", "high"),
    [
        (("--mean", "1200,1100,900", "--std", "500,500,500"), "uint16", 1200.0, 65535.0),
        (("--mean", "0.1,0.1,0.1", "--std", "0.2,0.2,0.2", "--dtype", "float32"), "float32", 0.1, 1.0),
        (("--mean", "120,110,100", "--std", "50,50,50"), "uint8", 120.0, 255.0),
    ],
)
def test_mean_and_std_are_of_the_type_of_the_imagery(
    words: tuple[str, ...], dtype: str, mean: float, high: float
) -> None:
    done = run("--legend", "legend.json", *words, "-q", "--json")
    assert done.exit_code == 0, done.output
    card = json.loads(done.stdout)
    assert card["geoseg:data_type"] == dtype
    assert card["mlm:input"][0]["value_scaling"][0]["mean"] == mean
    assert card["geoseg:value_range"][1] == high


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (
            (),
            2,
            "what its 2 classes are nor how its bands were normalized; give --legend, --mean and --std, or",
        ),
        (SAYS[:4], 2, "--mean and --std go together; add --std"),
        ((*SAYS[2:], "--legend", "none.json"), 2, "none.json cannot be read"),
        ((*SAYS, "--arguments", "[1]"), 2, "expected a JSON object"),
        ((*SAYS, "--bands", "1,2,3"), 2, "--bands must be names here"),
        ((*SAYS, "--dtype", "int64"), 2, "dtype must be one of uint8"),
        ((*SAYS, "--dtype", "int16"), 2, "on a scale of 0 to 1; give --mean and --std in stored units for int16"),
        ((*SAYS, "--preset", "flair"), 2, "--preset must be one of flair-inc-rgb"),
        (
            (*SAYS, "--encoder", "resnet34"),
            1,
            "fits no network that geoseg knows; the closest is Unet on resnet34",
        ),
        ((*SAYS, "--window", "100"), 2, "must be a multiple of 8"),
        ((*SAYS, "--out", "no/folder.safetensors"), 1, "the folder no does not exist"),
    ],
)
def test_a_fault_is_a_line_and_leaves_nothing(words: tuple[str, ...], code: int, wanted: str) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert wanted in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("geoseg: error")]) == 1
    assert not list(Path().rglob("*.safetensors"))


@pytest.mark.usefixtures("weights")
def test_an_existing_file_is_kept_unless_it_may_be_replaced() -> None:
    Path("model.safetensors").write_bytes(b"mine")
    done = run(*SAYS)
    assert (done.exit_code, Path("model.safetensors").read_bytes()) == (1, b"mine")
    assert "--overwrite" in done.stderr
    assert run(*SAYS, "--overwrite").exit_code == 0


def test_presets_are_listed() -> None:
    done = CliRunner().invoke(geoseg, ["import", "--list-presets"])
    assert done.exit_code == 0
    assert {"flair-inc-rgbi", "flair-hub-ir", "ftw-3class", "oam-tcd"} <= set(done.output.split())
