"""The real command, run as a separate process with a small random network; the tests open the file it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from click.testing import Result
from numpy.typing import NDArray

import geoseg
from geoseg.legend import DEEPGLOBE, NODATA
from tests.networks import RGB, random_network, tiny_bundle
from tests.paused import program

Run = Callable[..., Result]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
GEOSEG = [sys.executable, "-m", "geoseg_cli"]
INTERRUPTED_PX = 768


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("model"), gsd_m=0.5).weights_path


def write_scene(path: Path, height_px: int, width_px: int, count: int = 3) -> Path:
    pixels = np.random.default_rng(1).normal(110, 50, (count, height_px, width_px)).clip(1, 255).astype(np.uint8)
    pixels[:, : height_px // 8] = 0
    grid = {"crs": "EPSG:32631", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
    colors = {"photometric": "MINISBLACK", "alpha": "NO"} if count == 4 else {}  # GDAL treats a fourth band as alpha
    shape = {"count": count, "height": height_px, "width": width_px}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", nodata=0, **shape, **grid, **colors) as file:
        file.write(pixels)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif", 150, 200)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that runs `geoseg` as a process in the test's folder."""

    def run_it(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [*GEOSEG, *map(str, arguments)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    return run_it


def codes(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        pixels: NDArray[np.uint8] = file.read(1)
    return pixels


def failed(result: subprocess.CompletedProcess[str] | Result, code: int, *words: str) -> bool:
    """Return whether a run ended with this code and no traceback; its last line must contain all the words."""
    exit_code = result.returncode if isinstance(result, subprocess.CompletedProcess) else result.exit_code
    line = result.stderr.splitlines()[-1]
    assert line.startswith("geoseg: error: ")
    assert all(word in line for word in words), line
    return exit_code == code and "Traceback" not in result.stderr


def test_the_map_is_what_python_computes(command: Command, tmp_path: Path, scene: Path, model: Path) -> None:
    done = command("predict", scene, "--out", "map.tif", "--model", model, "--confidence", "sure.tif", "--stac")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "bands 1,2,3" in done.stderr
    assert "ONNX Runtime" in done.stderr
    assert "\nwrote map.tif, sure.tif and map.json: " in done.stderr
    expected = geoseg.labels(scene, model=model).compute()
    np.testing.assert_array_equal(codes(tmp_path / "map.tif"), expected)
    np.testing.assert_array_equal(codes(tmp_path / "sure.tif") == NODATA, expected == NODATA)
    with rasterio.open(tmp_path / "map.tif") as written, rasterio.open(scene) as source:
        assert (written.shape, written.transform, written.crs) == (source.shape, source.transform, source.crs)
        assert written.nodata == NODATA
        assert all(written.colormap(1)[cover.code][:3] == cover.color for cover in DEEPGLOBE)


def test_quiet_is_quiet_and_no_torch_is_loaded(tmp_path: Path, scene: Path, model: Path) -> None:
    program = """
import sys
from geoseg_cli.main import geoseg
try:
    geoseg.main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
"""
    words = ["predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_dry_run_tells_and_writes_nothing(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    before = set(tmp_path.iterdir())
    words = ("predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--overlap", "32", "--dry-run")
    told = run(*words)
    assert told.exit_code == 0, told.stderr
    figures = json.loads(run(*words, "--json").stdout)
    assert figures["overlap_px"] == 32
    assert figures["windows"] >= len(geoseg.plan(scene, model=model, overlap=32).grid)
    assert f"{figures['windows']} of {figures['window_px']} px" in told.stdout
    assert set(tmp_path.iterdir()) == before


def test_what_needs_no_scheduler_is_checked_before_one_is_waited_for(
    run: Run, tmp_path: Path, scene: Path, model: Path
) -> None:
    words = ("predict", scene, "--model", model, "--cluster", "tcp://127.0.0.1:9")
    (tmp_path / "map.tif").touch()
    assert "map.tif exists; add --overwrite" in run(*words, "--out", tmp_path / "map.tif").stderr
    assert "missing option '--out'" in run(*words).stderr
    free = ("--out", tmp_path / "free.tif")
    missing = tmp_path / "missing.tif"
    assert f"{missing}: no such file" in run("predict", missing, *words[2:], *free).stderr
    for box in (("--bbox", "2,0,1,-1"), ("--bbox", "0,0,1,1", "--bbox-crs", "nonsense")):
        told = run(*words, *free, *box).stderr
        assert told == run(*words[:4], *free, *box).stderr
        assert "--bbox" in told


def test_a_scene_with_bands_of_other_types_is_mapped_by_a_cluster_too(
    run: Run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.inference.execution.cluster._CONNECT_S", 0.2)
    write_scene(tmp_path / "colors.tif", 64, 64)
    band = """<VRTRasterBand dataType="{}" band="{}"><SimpleSource>
        <SourceFilename relativeToVRT="1">colors.tif</SourceFilename><SourceBand>{}</SourceBand>
        </SimpleSource></VRTRasterBand>"""
    bands = "".join(band.format(*of) for of in (("Byte", 1, 1), ("Byte", 2, 2), ("Byte", 3, 3), ("Float32", 4, 1)))
    mixed = tmp_path / "mixed.vrt"
    mixed.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="64">{bands}</VRTDataset>')
    words = ("predict", mixed, "--model", model, "--out", tmp_path / "map.tif")
    assert run(*words, "--dry-run").exit_code == 0
    assert "no Dask scheduler responds" in run(*words, "--cluster", "tcp://127.0.0.1:9").stderr


def test_the_item_beside_a_map_is_told(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ["predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--stac", "--overwrite"]
    item = tmp_path / "map.json"
    assert json.loads(run(*words, "--json").stdout)["stac"] == str(item)
    assert json.loads(item.read_text())["type"] == "Feature"
    assert f" and {item}" in run(*words).stderr


def test_a_place_after_the_flag_of_an_item_is_no_scene(run: Run, tmp_path: Path, scene: Path) -> None:
    for place in (("--stac", "items/x.JSON", scene), (scene, "--stac", "items/x.JSON")):
        for to in (("--out", tmp_path / "map.tif"), ("--out-dir", tmp_path / "maps")):
            refused = run("predict", *place, *to)
            assert refused.exit_code == 2
            assert refused.stderr.startswith(
                "geoseg: error: --stac takes no path, got items/x.JSON: the item is written"
            )
            assert len(refused.stderr.splitlines()) == 1


def test_a_profile_is_a_result_also_as_json(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ("predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--profile", "--overwrite")
    done = run(*words, "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "\nscore    " in done.stdout
    assert "\nlimit    " in done.stdout
    assert not done.stderr
    profile = json.loads(run(*words, "--json").stdout)["profile"]
    assert set(profile["busy_seconds"]) == {"read", "score", "write"}
    rounding_s = 0.005
    assert sum(profile["busy_seconds"].values()) <= profile["workers"] * profile["wall_seconds"]["map"] + rounding_s
    assert run(*words, "--dry-run").exit_code == 2
    assert run("predict", scene, "--out-dir", tmp_path / "maps", "--profile").exit_code == 2


def test_resolution_and_symmetries_are_pythons(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ("predict", scene, "--out", tmp_path / "map.tif", "--model", model, "--resolution", "0.7", "--tta", "2")
    figures = json.loads(run(*words, "--dry-run", "--json").stdout)
    assert (figures["height_px"], figures["width_px"], figures["tta"]) == (107, 143, 2)
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert "mapping at 0.7 m per pixel, resampled from 0.5 m" in done.stderr
    expected = geoseg.labels(scene, model=model, resolution=0.7, tta=2).compute()
    np.testing.assert_array_equal(codes(tmp_path / "map.tif"), expected)
    same = run(*words[:-4], "--resolution", "model", "--overwrite")
    assert same.exit_code == 0, same.stderr
    assert codes(tmp_path / "map.tif").shape == (150, 200)


def test_storage_is_as_asked_and_the_map_the_same(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ("predict", scene, "--model", model, "--device", "cpu", "--quiet", "--out")
    assert run(*words, tmp_path / "usual.tif").exit_code == 0
    stored = ("--co", "compress=zstd", "--co", "blocksize=128", "--confidence", tmp_path / "sure.tif")
    assert run(*words, tmp_path / "other.tif", *stored).exit_code == 0
    np.testing.assert_array_equal(codes(tmp_path / "other.tif"), codes(tmp_path / "usual.tif"))
    for name in ("other.tif", "sure.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert (file.profile["compress"], file.block_shapes) == ("zstd", [(128, 128)])
    refused = ("predict", scene, "--model", model, "--out", tmp_path / "third.tif", "--co", "COMPRESS=JPEG")
    for more in ((), ("--dry-run",)):
        assert failed(run(*refused, *more), 2, "COMPRESS must be one of DEFLATE", "got 'JPEG'")
    assert not list(tmp_path.glob("third*"))


def test_a_box_is_mapped_on_the_scenes_pixels(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ("predict", scene, "--model", model, "--device", "cpu", "--out", tmp_path / "part.tif")
    box = ("--bbox", "400010,4999945,400060,4999985")  # columns 20 to 120, rows 30 to 110
    done = run(*words, *box, "--polygons", tmp_path / "part.gpkg", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["labels"], told["polygons"]) == (str(tmp_path / "part.tif"), str(tmp_path / "part.gpkg"))
    assert (told["pixels"], told["seconds"] >= 0) == (80 * 100, True)
    assert told["polygon_count"] == pyogrio.read_info(tmp_path / "part.gpkg")["features"]
    with rasterio.open(tmp_path / "part.tif") as part, rasterio.open(scene) as whole:
        assert part.shape == (80, 100)
        assert part.transform == whole.transform @ rasterio.Affine.translation(20, 30)
        assert part.tags()["GEOSEG_SCENE_PATH"] == scene.name
        pixels = whole.read(window=((30, 110), (20, 120)))
        profile = {**whole.profile, "height": 80, "width": 100, "transform": part.transform}
    with rasterio.open(tmp_path / "cut.tif", "w", **profile) as cut:
        cut.write(pixels)
    expected = geoseg.labels(tmp_path / "cut.tif", model=model, device="cpu").compute()
    np.testing.assert_array_equal(codes(tmp_path / "part.tif"), expected)
    assert (tmp_path / "part.gpkg").exists()


def test_a_box_is_refused_in_one_line(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    words = ("predict", scene, "--model", model, "--out", tmp_path / "part.tif")
    for wrong in ("1,2,3", "1,2,3,x", "1 2 3 4 5"):
        assert failed(run(*words, "--bbox", wrong), 2, "expected W,S,E,N", repr(wrong))
    for written in ("0 0 1 1", "[0, 0, 1, 1]"):  # in rio's form
        assert failed(run(*words, "--bbox", written), 2, "lies outside")
    assert failed(run(*words, "--bbox", "0,0,1,1"), 2, "lies outside", "scene.tif", "--bbox-crs")
    assert failed(run(*words, "--bbox-crs", "EPSG:4326"), 2, "add --bbox W,S,E,N")
    replaced = ("predict", scene, "--model", model, "--overwrite", "--bbox", "400010,4999945,400060,4999985", "--out")
    assert failed(run(*replaced, scene), 2, "is read by this run")
    assert not list(tmp_path.glob("part*"))


def test_a_dry_run_fails_where_the_run_would(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    out = tmp_path / "map.tif"
    out.write_bytes(b"dear to somebody")
    words = ("predict", scene, "--model", model, "--dry-run", "--out")
    assert failed(run(*words, out), 1, "map.tif exists", "--overwrite")
    assert failed(run(*words, tmp_path), 1, "is a folder")
    assert failed(run(*words, scene, "--overwrite"), 2, "scene.tif", "--out")
    assert failed(run(*words, tmp_path / "new.tif", "--confidence", out), 1, "map.tif exists")
    assert run(*words, out, "--overwrite").exit_code == 0
    assert out.read_bytes() == b"dear to somebody"


def test_an_existing_file_is_kept_unless_told(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    out = tmp_path / "map.tif"
    out.write_bytes(b"dear to somebody")
    words = ("predict", scene, "--out", out, "--model", model)
    assert failed(run(*words), 1, "map.tif exists", "--overwrite")
    assert out.read_bytes() == b"dear to somebody"
    assert run(*words, "--overwrite").exit_code == 0
    assert codes(out).shape == (150, 200)


def test_bad_input_is_one_line(run: Run, tmp_path: Path, scene: Path, model: Path) -> None:
    out, text = tmp_path / "map.tif", tmp_path / "notes.tif"
    text.write_text("not a raster")
    pickle = tmp_path / "weights.pt"
    pickle.write_bytes(b"\x80\x02}q\x00.")
    two_bands = write_scene(tmp_path / "two.tif", 64, 64, count=2)
    cases = [
        (1, [tmp_path / "gone.tif", "--out", out, "--model", model], ["gone.tif", "no such file"]),
        (1, [text, "--out", out, "--model", model], ["notes.tif", "not a raster"]),
        (1, [two_bands, "--out", out, "--model", model], ["3 bands", "2"]),
        (1, [scene, "--out", out, "--model", pickle], ["weights.pt", "pickle"]),
        (1, [scene, "--out", out, "--model", tmp_path / "gone.safetensors"], ["gone.safetensors"]),
        (2, [scene, "--out", out, "--model", model, "--window", "100"], ["window", "100", "96"]),
        (2, [scene, "--out", out, "--model", model, "--overlap", "64"], ["overlap", "64"]),
        (2, [scene, "--out", out, "--model", model, "--blend", "nonsense"], ["blend", "hann"]),
        (2, [scene, "--out", out, "--model", model, "--bands", "1,2,9"], ["band 9"]),
        (2, [scene, "--out", out, "--model", model, "--scale", "9,3"], ["scale"]),
        (2, [scene, "--out", out, "--model", model, "--resolution", "fine"], ["--resolution", "model", "fine"]),
        (2, [scene, "--out", out, "--model", model, "--resolution", "0"], ["resolution", "model", "0"]),
        (2, [scene, "--out", out, "--model", model, "--tta", "3"], ["--tta", "3", "8"]),
        (2, [scene, "--out", out, "--model", model, "--device", "abacus"], ["abacus"]),
        (2, [scene, "--out", out, "--model", model, "--batch-size", "0"], ["batch-size", "0"]),
        (2, [scene, "--out", out, "--model", model, "--workers", "0"], ["workers", "0"]),
        (2, [scene, "--out", out, "--model", model, "--tile", "-1"], ["tile", "-1"]),
        (2, [scene, "--out", scene, "--model", model, "--overwrite"], ["scene.tif", "--out"]),
        (2, [scene, "--out", model, "--model", model, "--overwrite"], [model.name, "GeoTIFF"]),
        (2, [scene, "--out", out, "--confidence", out, "--model", model], ["its own path"]),
        (2, [scene, "--out", out, "--model", model, "--mean", "0.4,0.4,0.4"], ["--mean", "--std"]),
    ]
    kept = {path: path.read_bytes() for path in (scene, model)}
    for code, words, said in cases:
        assert failed(run("predict", *words), code, *said), words
        assert not out.exists(), words
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list(tmp_path.glob("*.parts"))


def test_a_folder_of_smp_is_completed_on_the_command_line(
    run: Run, tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    sizes = {"encoder_name": "timm-mobilenetv3_small_minimal_100", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    network: Any = random_network("Unet", {**sizes, "in_channels": 3, "classes": 7})
    network.save_pretrained(tmp_path / "folder")
    (tmp_path / "legend.json").write_text(json.dumps(DEEPGLOBE.to_json()))
    mean, std = (",".join(f"{value / 255:.10f}" for value in values) for values in (RGB.mean, RGB.std))
    words = ("predict", scene, "--out", tmp_path / "map.tif", "--model", tmp_path / "folder", "--device", "torch-cpu")
    given = ("--legend", tmp_path / "legend.json", "--mean", mean, "--std", std)
    assert failed(run(*words), 2, "--legend", "--mean")
    done = run(*words, "--window", "64", *given)
    assert done.exit_code == 0, done.stderr
    bundle = tiny_bundle(tmp_path, export=False)
    expected = geoseg.labels(scene, model=bundle, device="torch-cpu").compute()
    assert np.mean(codes(tmp_path / "map.tif") == expected) > 0.999


@pytest.fixture
def coast(tmp_path: Path) -> Path:
    """Return a folder saved by smp, with four bands, two classes and a legend whose codes descend with the channels."""
    sizes = {"encoder_name": "timm-mobilenetv3_small_minimal_100", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    network: Any = random_network("Unet", {**sizes, "in_channels": 4, "classes": 2})
    network.save_pretrained(tmp_path / "coast")
    rows = [{"code": 5, "name": "sea", "color": [0, 0, 255]}, {"code": 3, "name": "land", "color": [0, 255, 0]}]
    (tmp_path / "coast.json").write_text(json.dumps(rows))
    return tmp_path / "coast"


def test_a_legend_goes_by_the_output_channels(run: Run, tmp_path: Path, coast: Path) -> None:
    """The first channel of the network is the first class in the legend file, whatever its code."""
    scene, out = write_scene(tmp_path / "four.tif", 100, 120, count=4), tmp_path / "map.tif"
    said = ("--legend", tmp_path / "coast.json", "--mean", "110,110,110,110", "--std", "50,50,50,50")
    words = ("--model", coast, "--device", "torch-cpu", "--window", "64", *said)
    done = run("predict", scene, "--out", out, *words)
    assert done.exit_code == 0, done.stderr
    assert "bands 1,2,3,4 (the first 4; the file does not name them band_1, band_2, band_3, band_4)" in done.stderr
    sides = geoseg.Normalization((110.0,) * 4, (50.0,) * 4)
    legend = geoseg.Legend(tuple(geoseg.LandCover(code, f"class {code}", (0, 0, 0)) for code in (3, 5)))
    ascending = geoseg.ModelBundle.from_pretrained(coast, legend=legend, normalization=sides)
    swapped = geoseg.labels(scene, model=ascending, device="torch-cpu", window=64).compute()
    assert {3, 5} <= set(np.unique(swapped).tolist())
    expected = np.select([swapped == 3, swapped == 5], [5, 3], NODATA)
    np.testing.assert_array_equal(codes(out), expected)
    with rasterio.open(out) as written:
        assert [written.colormap(1)[code][:3] for code in (5, 3)] == [(0, 0, 255), (0, 255, 0)]


@pytest.mark.parametrize(
    ("bands", "line"),
    [("4,3,2,1", "bands 4,3,2,1 (as given)"), ("nir,red,green,blue", "bands 4,1,2,3 (as given)")],
)
def test_a_folder_of_four_bands_takes_those_given(run: Run, tmp_path: Path, coast: Path, bands: str, line: str) -> None:
    scene, out = write_scene(tmp_path / "four.tif", 100, 120, count=4), tmp_path / "map.tif"
    with rasterio.open(scene, "r+") as file:
        file.descriptions = ("red", "green", "blue", "nir")
    said = ("--legend", tmp_path / "coast.json", "--mean", "110,110,110,110", "--std", "50,50,50,50")
    done = run("predict", scene, "--out", out, "--model", coast, "--device", "torch-cpu", "--bands", bands, *said)
    assert done.exit_code == 0, done.stderr
    assert line in done.stderr
    refused = run("predict", scene, "--out", tmp_path / "b.tif", "--model", coast, "--bands", "red,nir", *said)
    assert failed(refused, 2, "needs 4 bands", "--bands gives 2")


@pytest.fixture
def started(tmp_path: Path, model: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a run that has finished some tiles, has many left, and is paused."""
    write_scene(tmp_path / "large.tif", INTERRUPTED_PX, INTERRUPTED_PX)
    process = subprocess.Popen(
        [*program("tile", tmp_path / "never"), *large(model)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "map.tif.parts" / "journal.jsonl"
    until = time.monotonic() + 120
    while not (there := journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        if time.monotonic() > until or process.poll() is not None:
            break
        time.sleep(0.02)
    assert there
    yield process
    process.kill()
    process.communicate()


def large(model: Path) -> tuple[str, ...]:
    return ("predict", "large.tif", "--out", "map.tif", "--model", str(model), "--tile", "128")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to a process without a console")
def test_a_stopped_run_goes_on(started: subprocess.Popen[str], command: Command, tmp_path: Path, model: Path) -> None:
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "interrupted; " in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not (tmp_path / "map.tif").exists()
    done = command(*large(model))
    assert done.returncode == 0, done.stderr
    assert "resuming an unfinished map" in done.stderr
    assert not (tmp_path / "map.tif.parts").exists()
    expected = geoseg.labels(tmp_path / "large.tif", model=model).compute()
    np.testing.assert_array_equal(codes(tmp_path / "map.tif"), expected)


def test_a_second_run_on_one_output_is_refused(started: subprocess.Popen[str], command: Command, model: Path) -> None:
    assert failed(command(*large(model)), 1, "another run is writing", "map.tif")
    assert started.poll() is None
