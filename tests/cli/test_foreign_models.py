"""Models of other programs on the command line: options complete them, they export, and each error takes one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
import torch
from click.testing import Result

from geoseg.errors import UsageError
from geoseg.model import ModelBundle
from tests.networks import tiny_bundle
from tests.onnx_networks import Kind, named

Run = Callable[..., Result]
ROWS = [{"code": code, "name": name, "color": [code, 0, 0]} for code, name in ((7, "b"), (3, "a"), (9, "c"), (4, "d"))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(1).integers(1, 256, (3, 90, 100), np.uint8)
    grid = {"crs": "EPSG:32631", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
    with rasterio.open("scene.tif", "w", driver="GTiff", dtype="uint8", count=3, height=90, width=100, **grid) as file:
        file.write(pixels)
    Path("legend.json").write_text(json.dumps(ROWS))
    Path("legend.csv").write_text("code,name\n1,a\n2,b\n3,c\n4,d\n")
    return tmp_path


def test_a_file_without_metadata_is_completed_by_options(run: Run, folder: Path) -> None:
    Kind(second=8).write(folder / "bare.onnx")
    options = ("--legend", "legend.json", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.25", "--gsd", "0.5")
    found = run("predict", "scene.tif", "--out", "a.tif", "--model", "bare.onnx", "--window", 64, *options)
    assert found.exit_code == 0, found.output
    assert "bare.onnx: it gives logits" in found.output
    completed = run("export", "bare.onnx", "--out", "full.onnx", "--stac", "full.json", *options, "--json")
    assert completed.exit_code == 0, completed.output
    assert json.loads(Path("full.json").read_text())["properties"]["gsd"] == 0.5
    assert run("predict", "scene.tif", "-o", "b.tif", "-m", "full.onnx", "--window", 64, "-q").exit_code == 0
    with rasterio.open("a.tif") as first, rasterio.open("b.tif") as second:
        np.testing.assert_array_equal(first.read(), second.read())
        assert set(np.unique(first.read())) <= {3, 4, 7, 9}
    bundle = ModelBundle.open("full.onnx")
    assert bundle.output_codes == (7, 3, 9, 4)
    np.testing.assert_allclose(bundle.normalization.mean, [102, 127.5, 153])


def test_stored_values_as_they_are_and_those_divided_by_255_are_told_apart(run: Run, folder: Path) -> None:
    Kind().write(folder / "bare.onnx")
    zero, legend = ("--mean", "0,0,0"), ("--legend", "legend.json")
    for std, wanted in (("none", 1), ("1,1,1", 255), ("255,255,255", 255)):
        found = run("export", "bare.onnx", "--out", f"{std}.onnx", *legend, *zero, "--std", std)
        assert found.exit_code == 0
        assert ("stored values as they are, use --std none" in found.stderr) == (std == "1,1,1")
        assert ModelBundle.open(f"{std}.onnx").normalization.std == (wanted,) * 3
    assert run("export", "bare.onnx", "--out", "b.onnx", *legend, "--mean", ".4,.5,.6", "--std", "none").exit_code == 0
    assert ModelBundle.open("b.onnx").normalization.mean == (0.4, 0.5, 0.6)


def test_info_says_which_outputs_there_are_where_several_can_be_meant(run: Run, folder: Path) -> None:
    Kind(second=3).write(folder / "bare.onnx")
    told = json.loads(run("info", "bare.onnx", "--json").output)
    assert (told["bands"], told["missing"]) == (3, ["legend", "mean", "std", "network_output"])
    found = run("info", "bare.onnx")
    assert found.exit_code == 0
    assert "--network-output" in found.output.rpartition("missing")[2]
    assert "features float32" in found.output


def write_for_80_px(kind: Kind, path: str, *, runs_at_others: bool = False) -> None:
    """Write a network for windows of 80 px, although its input claims to take any; its output is always as large."""
    model = kind.model()
    model.graph.node[-1].input[0] = "only"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64([1, 4, 80, 80]), "as_exported"))
    operator, inputs = ("Resize", ["scores", "", ""]) if runs_at_others else ("Reshape", ["scores"])
    model.graph.node.insert(2 + 1, onnx.helper.make_node(operator, [*inputs, "as_exported"], ["only"]))
    onnx.save(model, path)


@pytest.mark.usefixtures("folder")
def test_a_window_that_a_network_takes_alone_may_be_given(run: Run) -> None:
    write_for_80_px(Kind(), "fixed.onnx")
    options = ("--legend", "legend.json", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.25")
    refused = run("predict", "scene.tif", "-o", "a.tif", "-m", "fixed.onnx", *options)
    assert "fixed.onnx takes no window of 512, 256, " in refused.stderr
    assert "give the size that it was exported for as --window" in refused.stderr
    found = run("predict", "scene.tif", "-o", "a.tif", "-m", "fixed.onnx", "--window", 80, *options)
    assert found.exit_code == 0, found.output
    write_for_80_px(named(Kind()), "complete.onnx")  # also if no other option is needed
    assert run("predict", "scene.tif", "-o", "b.tif", "-m", "complete.onnx", "--window", 80).exit_code == 0
    refused = run("predict", "scene.tif", "-o", "c.tif", "-m", "complete.onnx")
    assert refused.stderr.startswith("geoseg: error: complete.onnx takes no window of 512, 256, ")
    for name, missing in (("complete", ["window"]), ("fixed", ["legend", "mean", "std", "window"])):
        assert json.loads(run("info", f"{name}.onnx", "--json").output)["missing"] == missing
        told = run("info", f"{name}.onnx").output
        assert f"unknown: {name}.onnx takes no window of 512, 256, " in told
        needed = ", ".join(f"--{parameter}" for parameter in missing)
        assert told.splitlines()[-1].split(maxsplit=1) == ["missing", f"{needed} must be given to predict"]


@pytest.mark.usefixtures("folder")
def test_a_window_that_a_network_was_exported_for_may_be_given_if_others_run_too(run: Run) -> None:
    write_for_80_px(named(Kind(batch=1)), "resized.onnx", runs_at_others=True)
    for options in ((), ("--gsd", "0.5")):
        to = ("--window", 80, *options, "--overwrite", "-q")
        assert run("predict", "scene.tif", "-o", "a.tif", "-m", "resized.onnx", *to).exit_code == 0
        assert run("export", "resized.onnx", "-o", "b.onnx", *to).exit_code == 0
        assert ModelBundle.from_onnx("b.onnx").window_px == 80
        refused = run("export", "resized.onnx", "-o", "c.onnx", "--window", 100, *options)
        assert (refused.exit_code, "px only, got --window 100" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("folder")
def test_a_window_without_any_output_is_refused(run: Run) -> None:
    named(Kind(fit="cropped")).write(Path("cropped.onnx"))
    refusal = "geoseg: error: cropped gives nothing for the outer 4 px of a window; --window must be above 8, got "
    for options in ((), ("--gsd", "0.5")):
        for window_px in (5, 8):
            for verb in (
                ("predict", "scene.tif", "-m", "cropped.onnx", "-o", "a.tif"),
                ("export", "cropped.onnx", "-o", "a.onnx"),
            ):
                refused = run(*verb, "--window", window_px, *options)
                assert (refused.exit_code, refused.stderr) == (2, f"{refusal}{window_px}\n")
        assert run("export", "cropped.onnx", "-o", "b.onnx", "--window", 9, *options, "--overwrite").exit_code == 0
        assert ModelBundle.open("b.onnx").overlap_px == 8


@pytest.mark.usefixtures("folder")
def test_the_window_of_an_onnx_file_is_set_alike_with_and_without_other_options(run: Run) -> None:
    named(Kind(fit="strided"), tiles_overlap=50).write(Path("free.onnx"))
    named(Kind(size=48), tiles_overlap=50).write(Path("fixed.onnx"))
    write_for_80_px(named(Kind(), tiles_overlap=50), "claims.onnx")
    assert run("export", "free.onnx", "--out", "ours.onnx").exit_code == 0
    for name, window_px, fault in (
        ("free", 64, ""),
        ("ours", 64, ""),
        ("free", 66, "must be a multiple of 4 up to 16384 for this model, got 66; try 64 or 68"),
        ("fixed", 48, ""),
        ("fixed", 64, "fixed takes windows of 48 px only, got --window 64"),
        ("claims", 80, ""),
    ):
        for options in ((), ("--gsd", "0.5")):
            found = run("export", f"{name}.onnx", "--out", "b.onnx", "--window", window_px, "--overwrite", *options)
            assert (found.exit_code == 0, fault in found.stderr) == (not fault, True), found.stderr
            if not fault:
                bundle = ModelBundle.open("b.onnx")
                assert (bundle.window_px, bundle.overlap_px) == (window_px, window_px // 2)


def test_means_of_16_bits_and_legends_of_other_kinds(run: Run, folder: Path) -> None:
    Kind(size=48).write(folder / "bare.onnx")
    options = ("--legend", "legend.csv", "--mean", "1200,1100,900", "--std", "300,300,300")
    assert run("export", "bare.onnx", "--out", "full.onnx", "--bands", "x").exit_code == 2
    assert run("export", "bare.onnx", "--out", "full.onnx", *options, "--activation", "sigmoid").exit_code == 0
    bundle = ModelBundle.open("full.onnx")
    assert (bundle.dtype, bundle.normalization.value_range) == ("uint16", (0, 65535))
    assert bundle.legend.names == ("a", "b", "c", "d")
    assert bundle.arguments["activation"] == "sigmoid"


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_a_network_that_takes_stored_values_as_they_are_has_a_data_type(run: Run, folder: Path, dtype: str) -> None:
    """Neither a mean of 0 nor none at all tells what values a network with its normalization inside takes."""
    Kind().write(folder / "bare.onnx")
    with rasterio.open("scene.tif") as file:
        profile, pixels = file.profile, file.read()
    with rasterio.open("deep.tif", "w", **profile | {"dtype": dtype}) as file:
        file.write(pixels.astype(dtype))
    options = ("-m", "bare.onnx", "--window", 64, "--legend", "legend.json", "--mean", "0,0,0", "--std", "none", "-q")
    assert run("predict", "scene.tif", "-o", "a.tif", *options).exit_code == 0
    assert run("predict", "deep.tif", "-o", "b.tif", *options).exit_code == 1
    assert run("predict", "deep.tif", "-o", "b.tif", *options, "--dtype", dtype).exit_code == 0
    with rasterio.open("a.tif") as first, rasterio.open("b.tif") as second:
        np.testing.assert_array_equal(first.read(), second.read())


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            "--dtype uint17 --legend legend.json --mean 1,2,3 --std 4,5,6",
            2,
            "dtype must be one of uint8, uint16, int16, float32, got 'uint17'",
        ),
        (
            "--dtype uint16 --legend legend.json --mean 0,.456,0.4 --std 0.2,0.2,0.2",
            2,
            "--mean of 0.456 is on a scale of 0 to 1; give --mean and --std in stored units for uint16",
        ),
        ("--dtype int16 --legend legend.json --mean 0,0,0 --std 1,1,1", 2, "--std of 1 is on a scale of 0 to 1"),
        ("--dtype uint8 --legend legend.json --mean 1,300,2 --std 4,5,6", 2, "--mean of 300 is above 255"),
        ("--legend legend.json", 2, "how its 3 bands were normalized; give --mean and --std"),
        ("--mean 1,2,3", 2, "--mean and --std go together; add --std"),
        ("--mean 1,2,3 --std 4,5,6", 2, "does not say what its classes are; give --legend"),
        ("--mean 1,2 --std 4,5 --legend legend.json", 2, "takes 3 bands, got a mean and a std for 2"),
        ("--legend nothing.json", 2, "nothing.json cannot be read: No such file"),
        ("--activation softmx", 2, "activation must be one of softmax, sigmoid, none"),
        ("--network-output depth --legend legend.json --mean 1,2,3 --std 4,5,6", 1, "has no output 'depth'"),
        ("--legend legend.json --mean 1,2,3 --std 4,5,6 --device torch-cpu", 2, "runs on cpu, cuda"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(run: Run, folder: Path, options: str, code: int, said: str) -> None:
    Kind().write(folder / "bare.onnx")
    found = run("predict", "scene.tif", "--out", "map.tif", "--model", "bare.onnx", *options.split())
    assert found.exit_code == code
    assert said in found.stderr
    assert found.stderr.startswith("geoseg: error: ")
    assert found.stderr.count("\n") == 1
    assert not Path("map.tif").exists()


@pytest.mark.parametrize(
    ("kind", "dtype", "said"),
    [
        (Kind(), "uint16", "states mean and std for uint8, got --dtype uint16; leave it out, or also give --mean"),
        (Kind(dtype="uint8"), "uint16", "takes uint8 values, got --dtype uint16; leave it out"),
        (Kind(dtype="uint16"), "int16", "takes uint16 values, got --dtype int16; leave it out"),
        (Kind(dtype="uint8"), "Uint8", "dtype must be one of uint8, uint16, int16, float32, got 'Uint8'"),
        (Kind(dtype="uint8"), "foo", "dtype must be one of uint8, uint16, int16, float32, got 'foo'"),
    ],
)
def test_a_data_type_that_contradicts_the_file_is_refused(
    run: Run, folder: Path, kind: Kind, dtype: str, said: str
) -> None:
    named(kind).write(folder / "full.onnx")
    found = run("predict", "scene.tif", "--out", "map.tif", "--model", "full.onnx", "--dtype", dtype)
    assert (found.exit_code, said in found.stderr) == (2, True), found.stderr
    with pytest.raises(UsageError):
        ModelBundle.from_onnx(folder / "full.onnx", dtype=dtype)
    assert run("export", "full.onnx", "--out", "ours.onnx", "--dtype", "uint8").exit_code == 0
    refused = run("predict", "scene.tif", "--out", "map.tif", "--model", "ours.onnx", "--dtype", dtype)
    assert (refused.exit_code, said in refused.stderr.replace("ours", "full")) == (2, True), refused.stderr


def test_metadata_without_mean_and_std_speak_of_bytes_only(run: Run, folder: Path) -> None:
    """Divided by 65535, the values of an image of 16 bits would all be nearly 0."""
    Kind(metadata={"model_type": '"Segmentor"', "resolution": "50"}).write(folder / "bare.onnx")
    words = ("predict", "scene.tif", "--out", "map.tif", "--model", "bare.onnx", "--legend", "legend.json")
    found = run(*words, "--dtype", "uint16")
    assert (found.exit_code, "how its 3 bands were normalized; give --mean and --std" in found.stderr) == (2, True)
    assert run(*words, "--dtype", "uint8", "--window", 64).exit_code == 0


def test_options_of_onnx_files_are_for_them(run: Run, folder: Path) -> None:
    bundle = tiny_bundle(folder, export=False)
    for option in ("--activation", "--network-output"):
        found = run("predict", "scene.tif", "-o", "a.tif", "-m", bundle.weights_path, option, "softmax")
        assert found.exit_code == 2
        assert f"{option} is for an ONNX file" in found.stderr
    for model in (str(bundle.weights_path), "demo"):
        found = run("predict", "scene.tif", "-o", "a.tif", "-m", model, "--legend", "legend.json")
        assert (found.exit_code, f"{model} has its own, so leave it out" in found.stderr) == (2, True)
    torch.save({"weight": torch.zeros(2)}, "a.pth")
    options = ("--legend", "legend.json", "--mean", "0.5,0.5,0.5", "--std", "1,1,1")
    assert "geoseg import" in run("predict", "scene.tif", "-o", "a.tif", "-m", "a.pth", *options).stderr
    assert "give that with --model" in run("predict", "scene.tif", "-o", "a.tif", "--gsd", "1").stderr


def test_info_says_what_is_missing_as_options(run: Run, folder: Path) -> None:
    Kind(size=48).write(folder / "bare.onnx")
    found = run("info", "bare.onnx")
    assert "--legend, --mean, --std must be given to predict" in found.output
    assert "windows of 48 px only" in found.output
    named(Kind(channels=1)).write(folder / "full.onnx")
    told = json.loads(run("info", "full.onnx", "--json").output)
    assert (told["kind"], told["missing"], told["network"]["activation"]) == ("model", [], "sigmoid")


def test_a_bundle_becomes_a_file_for_others(run: Run, folder: Path) -> None:
    bundle = tiny_bundle(folder, export=False)
    found = run(
        "export", bundle.weights_path, "--out", "new/model.onnx", "--stac", "new/model.json", "--mkdir", "--json"
    )
    assert found.exit_code == 0, found.output
    assert "wrote new/model.onnx" in found.stderr
    assert json.loads(found.stdout) == {"out": "new/model.onnx", "stac": "new/model.json"}
    assert [value.name for value in onnx.load("new/model.onnx").graph.input] == ["image"]
    again = run("export", bundle.weights_path, "--out", "new/model.onnx")
    assert (again.exit_code, "add --overwrite to replace it" in again.stderr) == (1, True)
    refused = run("export", bundle.weights_path, "--out", "zero.onnx", "--window", "0")
    assert (refused.exit_code, "--window must be" in refused.stderr) == (2, True)
    assert run("export", bundle.weights_path).stderr.startswith("geoseg: error: nothing to write; give --out")


def test_a_foreign_network_needs_no_torch(folder: Path) -> None:
    path = named(Kind(), tile_size=64).write(folder / "model.onnx")
    code = (
        "import sys, geoseg\n"
        f"geoseg.labels('scene.tif', model={str(path)!r}).compute(scheduler='synchronous')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
