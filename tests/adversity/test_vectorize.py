"""Polygons under any failure: one clear line, the right exit code, nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio.transform import from_origin

import geoseg
from geoseg.errors import OutputError, SceneError
from geoseg.progress import Progress
from geoseg.raster.classes import class_raster
from geoseg_cli.main import geoseg as command
from tests.adversity.conftest import finish
from tests.adversity.damage import damaged
from tests.adversity.promises import Outcome, check_refused, files_in
from tests.adversity.scenes import write_scene
from tests.paused import program
from tests.vector.features import theirs

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compress": "deflate"},
    "strips": {"tiled": False, "blockysize": 4},
}
FORMATS = (".gpkg", ".parquet", ".fgb", ".geojson", ".geojsonl")
PROGRAM = """
from geoseg.raster.classes import class_raster
from geoseg_cli.main import geoseg
class_raster.STRIP_PX = 65536
geoseg()
"""
EACH_FORMAT = f"""
import sys
from geoseg_cli.main import geoseg
for suffix in {FORMATS}:
    try:
        geoseg([*sys.argv[1:-1], sys.argv[-1] + suffix])
    except SystemExit as ended:
        if ended.code:
            raise
"""
LIBTIFF_SAYS = "_tiffSeekProc: Invalid argument."
"""Printed by libtiff itself, bypassing GDAL's error handler, so it cannot be caught."""
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor SIGINT for a child")
Vectorize = Callable[..., Outcome]


def patches(height: int = 60, width: int = 70, seed: int = 0) -> NDArray[np.uint8]:
    """Return patches of the classes 0 to 3 (band, row, col), with single pixels in them."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 4, (height // 9 + 1, width // 9 + 1), dtype=np.uint8)
    pixels = pixels.repeat(9, axis=0).repeat(9, axis=1)[:height, :width]
    return np.where(chance.random(pixels.shape) < 0.05, np.uint8(3) - pixels, pixels)[None]


def write_map(path: Path, pixels: NDArray[Any] | None = None, **profile: Any) -> Path:
    return write_scene(path, patches() if pixels is None else pixels, **({"nodata": 255} | profile))


def traced(landcover: Path, out: Path | None = None, **knobs: Any) -> Any:
    """Return what `vectorize` returns, untyped: a path or a GeoDataFrame."""
    return geoseg.vectorize(landcover, out, **knobs)


@pytest.fixture
def cover(folder: Path) -> Path:
    """Return a map of 60 x 70 pixels."""
    return write_map(folder / "cover.tif")


@pytest.fixture
def vectorize(capfd: pytest.CaptureFixture[str]) -> Vectorize:
    """Return a function that runs `geoseg vectorize --quiet` in this process and captures C libraries' output too."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        result = CliRunner().invoke(command, ["vectorize", "--quiet", *map(str, arguments)])
        native = capfd.readouterr()
        said = "".join(f"{line}\n" for line in (result.stderr + native.err).splitlines() if line != LIBTIFF_SAYS)
        return Outcome(result.exit_code, result.stdout + native.out, said)

    return run


@cache
def _precious(suffix: str) -> bytes:
    """Return the bytes of an unrelated file to put at the target before a run."""
    with tempfile.TemporaryDirectory() as folder:
        return theirs(Path(folder) / f"precious{suffix}")


@pytest.fixture
def refused(vectorize: Vectorize, cover: Path) -> Callable[..., str]:
    """Return a function that asserts one error line, its exit code, and an unchanged folder."""

    def run(code: int, *arguments: object, raster: Path | None = None, out: str = "polygons.gpkg") -> str:
        existing = cover.parent / out
        if existing.parent.is_dir() and not existing.exists():
            line = check_refused(
                vectorize(raster or cover, "--out", existing, *arguments), code, cover.parent, files_in(cover.parent)
            )
            assert not existing.exists()
            existing.write_bytes(_precious(existing.suffix))
        before = files_in(cover.parent)
        line = check_refused(
            vectorize(raster or cover, "--out", existing, "--overwrite", *arguments), code, cover.parent, before
        )
        assert len(line) < 1000
        return line

    return run


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--simplify nonsense", "--simplify must be meters"),
        ("--simplify -1", "--simplify must be a number from 0 up"),
        ("--simplify nan", "--simplify"),
        ("--simplify inf", "--simplify"),
        ("--simplify 1e999", "--simplify"),
        ("--simplify 5ha", "--simplify must be meters"),
        ("--simplify 1,5", "--simplify must be meters"),
        ("--min-area nonsense", "--min-area must be square meters"),
        ("--min-area -1", "--min-area"),
        ("--min-area nan", "--min-area"),
        ("--min-area inf", "--min-area"),
        ("--min-area 5km", "--min-area"),
        ("--min-area 1e308km2", "--min-area"),  # in square meters beyond a float
        (f"--min-area {'9' * 5000}", "--min-area"),
        ("--crs nonsense", "--crs is not a known CRS"),
        ("--crs EPSG:0", "--crs is not a known CRS"),
        (f"--crs {'x' * 5000}", "--crs is not a known CRS"),
        ("--connectivity 5", "connectivity must be 4 or 8"),
        ("--connectivity four", "not a valid integer"),
        ("--method x", "visvalingam"),
        ("--classes nothing", "no class is called 'nothing'"),
        ("--classes water", "no class is called 'water'"),
        ("--classes 1,water", "no class is called 'water'"),
        ("--classes ,", "names no class"),
        ("--legend no.json", "no.json cannot be read"),
        ("--legend legend.doc", "a legend file must end in"),
        ("--no-such-option", "no such option"),
    ],
)
def test_an_option_that_cannot_be_right(refused: Callable[..., str], options: str, says: str) -> None:
    assert says in refused(2, *options.split())


def test_no_class_at_all(refused: Callable[..., str]) -> None:
    assert "names no class" in refused(2, "--classes", "")


@pytest.mark.parametrize("method", ["visvalingham", "", "douglas_peucker"])
def test_an_unknown_method_without_simplification(refused: Callable[..., str], method: str) -> None:
    assert "douglas-peucker" in refused(2, "--method", method)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("broken.json", "[{", "line 1 is not valid JSON"),
        ("empty.json", "", "is not valid JSON"),
        ("none.json", "[]", "no class"),
        ("number.json", "5", "list of classes"),
        ("twice.json", '[{"code": 1, "name": "a"}, {"code": 1, "name": "b"}]', "twice"),
        ("nameless.json", '[{"code": 1}]', "class 1 should be like"),
        ("deep.json", "[" * 100_000, "is not valid JSON"),
        ("code.csv", "code,name\nx,water\n", "whole number"),
        ("color.csv", "code,name,color\n1,water,blue\n", "#rrggbb"),
        ("style.qml", "<qgis>", "not XML"),
        ("bomb.qml", '<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>', "no palette"),
        ("short.clr", "1 2\n", "code red green blue"),
    ],
)
def test_a_legend_that_cannot_be_right(
    refused: Callable[..., str], cover: Path, name: str, content: str, says: str
) -> None:
    (cover.parent / name).write_text(content)
    line = refused(2, "--legend", cover.parent / name)
    assert says in line
    assert name in line


def test_a_legend_that_is_no_text_or_a_folder(refused: Callable[..., str], cover: Path) -> None:
    (cover.parent / "legend.json").write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refused(2, "--legend", cover.parent / "legend.json")
    (cover.parent / "folder.json").mkdir()
    assert "cannot be read" in refused(2, "--legend", cover.parent / "folder.json")


def test_rasters_that_are_no_map_of_classes(refused: Callable[..., str], folder: Path) -> None:
    floats = write_map(folder / "floats.tif", patches().astype(np.float32) + np.float32(0.25))
    assert "whole numbers" in refused(1, raster=floats)
    three = write_map(folder / "three.tif", np.concatenate([patches()] * 3))
    assert "is a picture" in refused(1, raster=three)
    large = write_map(folder / "large.tif", patches().astype(np.uint32) + np.uint32(2**32 - 10), nodata=None)
    assert "renumber" in refused(1, raster=large)
    assert "no such file" in refused(1, raster=folder / "gone.tif")
    (folder / "text.tif").write_text("hello")
    assert "text.tif" in refused(1, raster=folder / "text.tif")
    (folder / "empty.tif").write_bytes(b"")
    assert "empty.tif" in refused(1, raster=folder / "empty.tif")
    (folder / "tiles").mkdir()
    assert "is a folder" in refused(1, raster=folder / "tiles")


def test_metres_without_a_place(refused: Callable[..., str], vectorize: Vectorize, folder: Path) -> None:
    nowhere = write_map(folder / "nowhere.tif", crs=None)
    assert "give pixels: --simplify 1.5px" in refused(2, "--simplify", "1.5", raster=nowhere)
    assert "give pixels: --min-area 100px" in refused(2, "--min-area", "100", raster=nowhere)
    assert "no CRS" in refused(2, "--crs", "EPSG:4326", raster=nowhere)
    done = vectorize(nowhere, "--out", folder / "works.gpkg", "--simplify", "1.5px", "--min-area", "4px")
    assert done == Outcome(0, "", "")


def test_no_name_of_the_map(refused: Callable[..., str], cover: Path) -> None:
    names = [{"code": code, "name": name} for code, name in enumerate(("urban", "water", "wood", "a, b"))]
    (cover.parent / "legend.json").write_text(json.dumps(names))
    line = refused(2, "--legend", cover.parent / "legend.json", "--classes", "watr")
    assert "did you mean 'water'" in line
    assert "urban (0)" in line
    assert "'9'" in refused(2, "--legend", cover.parent / "legend.json", "--classes", "9")


def test_confidence_that_is_none(refused: Callable[..., str], cover: Path) -> None:
    place = cover.parent
    other = write_map(place / "other.tif", patches(60, 69))
    assert "not on the map's grid" in refused(1, "--confidence", other)
    moved = write_map(place / "moved.tif", transform=from_origin(500_000.25, 5_400_000, 0.5, 0.5))
    assert "not on the map's grid" in refused(1, "--confidence", moved)
    assert "has 3 bands" in refused(1, "--confidence", write_map(place / "3.tif", np.concatenate([patches()] * 3)))
    assert "gone.tif" in refused(1, "--confidence", place / "gone.tif")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_raster_cut_short(refused: Callable[..., str], folder: Path, kind: str, share: float) -> None:
    short = write_map(folder / "short.tif", patches(300, 400), **LAYOUTS[kind])
    content = short.read_bytes()
    short.write_bytes(content[: int(len(content) * share)])
    for knobs in ((), ("--min-area", "5px")):
        assert "short.tif" in refused(1, *knobs, raster=short)


def test_a_confidence_cut_short(refused: Callable[..., str], cover: Path) -> None:
    sure = write_map(cover.parent / "sure.tif", compress="deflate")
    sure.write_bytes(sure.read_bytes()[:-200])
    assert "sure.tif" in refused(1, "--confidence", sure)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_damage_ends_in_polygons_or_in_one_line(vectorize: Vectorize, tmp_path: Path, kind: str) -> None:
    whole = write_map(tmp_path / "whole.tif", **LAYOUTS[kind]).read_bytes()
    codes = set()
    for seed in range(16):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "cover.tif").write_bytes(damaged(whole, seed))
        before = files_in(folder)
        said = vectorize(folder / "cover.tif", "--out", folder / "cover.fgb")
        codes.add(said.code)
        if said.code:
            check_refused(said, said.code, folder, before)
        else:
            found = pyogrio.read_dataframe(folder / "cover.fgb")
            assert found.is_valid.all()
            assert said.stderr == "" or "warning" in said.stderr
    assert codes == {0, 1}  # some damage must be detected and some must be harmless, or this proves little


def test_targets_that_cannot_be(refused: Callable[..., str], cover: Path) -> None:
    place = cover.parent
    (place / "here.gpkg").mkdir()
    assert "is a folder" in refused(1, out="here.gpkg")
    assert "is a file, not a folder" in refused(1, out="cover.tif/cover.gpkg")
    for name in ("polygons.shp", "polygons", "polygons.gpkg.zip", ".gpkg", "polygons.tif"):
        assert ".gpkg, .parquet" in refused(2, out=name)


@pytest.mark.parametrize("address", ["https://127.0.0.1/a.gpkg", "/vsimem/a.gpkg"])
def test_targets_far_away(vectorize: Vectorize, cover: Path, address: str) -> None:
    before = files_in(cover.parent)
    assert "outputs must be local files" in check_refused(vectorize(cover, "--out", address), 1, cover.parent, before)


def test_a_name_too_long(vectorize: Vectorize, cover: Path) -> None:
    said = vectorize(cover, "--out", cover.parent / f"{'m' * 300}.gpkg")
    assert "too long" in check_refused(said, 1, cover.parent, files_in(cover.parent))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files, such as /proc")
def test_a_folder_that_takes_no_files(vectorize: Vectorize, cover: Path) -> None:
    for target in ("/proc/polygons.gpkg", "/proc/new/polygons.gpkg"):
        said = vectorize(cover, "--out", target)
        assert "cannot write" in check_refused(said, 1, cover.parent, files_in(cover.parent))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(vectorize: Vectorize, cover: Path) -> None:
    locked = cover.parent / "locked"
    locked.mkdir(mode=0o500)
    line = check_refused(vectorize(cover, "--out", locked / "cover.gpkg"), 1, cover.parent, files_in(cover.parent))
    assert "permission" in line.lower()


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_existing_file_stays(vectorize: Vectorize, cover: Path, suffix: str) -> None:
    target = cover.parent / f"polygons{suffix}"
    precious = _precious(suffix)
    target.write_bytes(precious)
    before = files_in(cover.parent)
    layer = ("--layer", "parcels") if suffix == ".gpkg" else ()
    assert "add --overwrite" in check_refused(vectorize(cover, "--out", target, *layer), 1, cover.parent, before)
    assert vectorize(cover, "--out", target, "--overwrite", *layer).code == 0
    assert target.read_bytes() != precious


def test_what_is_read_is_no_output(vectorize: Vectorize, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names = [{"code": 1, "name": "water"}]
    (folder / "legend.json").write_text(json.dumps(names))
    raster = write_map(folder / "cover.tif").rename(folder / "cover.gpkg")
    sure = write_map(folder / "sure.tif").rename(folder / "sure.gpkg")
    (folder / "link.gpkg").symlink_to(raster)
    for out in ("cover.gpkg", raster, "../place/cover.gpkg", "link.gpkg", "legend.json", "sure.gpkg"):
        before = files_in(folder)
        said = vectorize(raster, "--out", out, "--overwrite", "--legend", "legend.json", "--confidence", sure)
        assert "is read by this run" in check_refused(said, said.code, folder, before)
        assert said.code in (1, 2)


@pytest.mark.parametrize(
    ("tolerance", "method", "smooth"),
    [
        ("1e300", "visvalingam", ()),
        ("1e300", "douglas-peucker", ("--smooth",)),
        ("1e9", "visvalingam", ("--smooth",)),
        ("1e9", "douglas-peucker", ()),
        ("1e154px", "visvalingam", ("--smooth",)),
        ("1e154px", "douglas-peucker", ()),
    ],
)
def test_tolerances_beyond_the_raster(
    vectorize: Vectorize, cover: Path, tolerance: str, method: str, smooth: tuple[str, ...]
) -> None:
    out = cover.parent / "cover.gpkg"
    done = vectorize(cover, "--out", out, "--simplify", tolerance, "--method", method, *smooth)
    assert done == Outcome(0, "", "")
    found, plain = pyogrio.read_dataframe(out, layer="cover"), traced(cover)
    assert len(found) == len(plain)
    assert found.is_valid.all()
    assert shapely.coverage_is_valid(found.geometry.to_numpy())
    assert found.geometry.area.sum() == pytest.approx(plain.geometry.area.sum())
    assert found.area_m2.min() > 0


@pytest.mark.parametrize("area", ["1e300", "1e25px", "9223372036854775807px"])
def test_no_region_is_large_enough(vectorize: Vectorize, cover: Path, area: str) -> None:
    assert vectorize(cover, "--out", cover.parent / "cover.fgb", "--min-area", area).code == 0
    found = pyogrio.read_dataframe(cover.parent / "cover.fgb")
    assert len(found) == 1
    assert found.area_m2[0] == 60 * 70 / 4


@pytest.mark.parametrize(("area", "is_told"), [("0", False), ("1e-300", True), ("0px", False), ("1px", True)])
def test_every_region_is_large_enough(vectorize: Vectorize, cover: Path, area: str, *, is_told: bool) -> None:
    outcome = vectorize(cover, "--out", cover.parent / "cover.fgb", "--min-area", area)
    assert (outcome.code, outcome.stdout) == (0, "")
    assert ("no region is smaller than a pixel" in outcome.stderr) == is_told
    assert len(outcome.stderr.splitlines()) == is_told
    assert len(pyogrio.read_dataframe(cover.parent / "cover.fgb")) == len(traced(cover))


HOSTILE = (
    "<script>alert('x')</script> & \"quoted\"",
    "Robert'); DROP TABLE cover;--",
    "a" * 10_000,
    "🌲🌊 林 \u202e right to left",
    "=cmd|' /C calc'!A0",
    '{"json": [\\u0000]} \\n %s %d {name}',
)


@pytest.mark.parametrize("suffix", FORMATS)
def test_hostile_names_are_text(vectorize: Vectorize, folder: Path, suffix: str) -> None:
    raster = write_map(folder / "cover.tif", np.arange(len(HOSTILE), dtype=np.uint8)[None, None].repeat(3, axis=1))
    names = [{"code": code, "name": name} for code, name in enumerate(HOSTILE)]
    (folder / "legend.json").write_text(json.dumps(names))
    out = folder / f"cover{suffix}"
    done = vectorize(raster, "--out", out, "--legend", folder / "legend.json", "--dissolve")
    assert done == Outcome(0, "", "")
    found = geopandas.read_parquet(out) if suffix == ".parquet" else geopandas.read_file(out)
    assert sorted(found.name) == sorted(HOSTILE)
    chosen = traced(raster, legend=folder / "legend.json", classes=HOSTILE[1])
    assert chosen.name.tolist() == [HOSTILE[1]]


def test_a_name_of_several_lines_is_one(vectorize: Vectorize, folder: Path) -> None:
    raster = write_map(folder / "cover.tif", np.zeros((1, 3, 3), np.uint8))
    (folder / "legend.json").write_text(json.dumps([{"code": 0, "name": "two\nlines\x00"}]))
    said = vectorize(raster, "--out", folder / "cover.gpkg", "--legend", folder / "legend.json")
    if said.code == 0:
        assert geopandas.read_file(folder / "cover.gpkg").name.tolist() == ["two lines"]
    else:
        assert "one line" in said.error


NAMES = (
    "a  map of spaces",
    "Wälder & Flüsse <北> 🌲",
    "semi;colon",
    "bang!",
    "what?",
    "number#1",
    "100%20%s",
    'it\'s "quoted"',
    "[brackets]*",
    "-dash",
    ".hidden",
    "a=b,c|d",
    "select",
    "gpkg_contents",
    "Layer_Styles",
    "sqlite_master",
)
NAMED_IN = [(".gpkg", FORMATS[1 + number % 4]) for number in range(len(NAMES))]
"""A GeoPackage names its layer after the file, so it is tried with every name; the other formats share the names."""


@pytest.mark.parametrize(("name", "suffixes"), zip(NAMES, NAMED_IN, strict=True))
def test_names_of_files(
    vectorize: Vectorize, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffixes: tuple[str, ...]
) -> None:
    write_map(folder / "plain.tif").rename(folder / f"{name}.tif")
    monkeypatch.chdir(folder)
    expected = len(traced(folder / f"{name}.tif"))
    for suffix in suffixes:
        done = vectorize(f"--out={name}{suffix}", "--", f"{name}.tif")
        assert done == Outcome(0, "", "")
        plain = shutil.copy(folder / f"{name}{suffix}", folder / f"plain{suffix}")  # pyogrio cannot read every name
        found = geopandas.read_parquet(plain) if suffix == ".parquet" else geopandas.read_file(plain, layer=0)
        assert len(found) == expected
        Path(plain).unlink()
    assert set(files_in(folder)) == {f"{name}.tif", *(f"{name}{suffix}" for suffix in suffixes)}


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has names that are no text")
def test_a_name_that_is_no_text(refused: Callable[..., str], folder: Path) -> None:
    odd = os.fsdecode(b"\xff.gpkg")
    assert "UTF-8" in refused(1, out=odd)
    write_map(folder / "odd.tif").rename(folder / os.fsdecode(b"\xff.tif"))
    refused(1, raster=folder / os.fsdecode(b"\xff.tif"))


@pytest.fixture
def big(folder: Path) -> Path:
    """Return a map that takes about half a second to vectorize in strips of 128 rows."""
    pixels = np.random.default_rng(1).integers(0, 4, (1, 512, 512), dtype=np.uint8)
    return write_map(folder / "big.tif", pixels)


def start(
    *arguments: object, program: Sequence[str] = (sys.executable, "-c", PROGRAM), **popen: Any
) -> subprocess.Popen[str]:
    """Start `geoseg vectorize --quiet` as a separate process with small strips."""
    words = [*program, "vectorize", "--quiet", *map(str, arguments)]
    settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, **(settings | popen))


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".geoseg-*") if path.is_dir()]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Wait until a condition holds; return False if the process ended first."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.001)
    return False


def write_precious(target: Path, layer: str) -> bytes:
    """Write a file that must survive (a GeoPackage if only part of it is replaced); return its bytes."""
    if target.suffix == ".gpkg":
        frame = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32631")
        frame.to_file(target, layer=layer)
        frame.to_file(target, layer="parcels")
    else:
        target.write_bytes(b"precious")
    return target.read_bytes()


@needs_posix
@pytest.mark.parametrize(
    ("number", "suffix"),
    [
        (signal.SIGTERM, ".gpkg"),
        *((signal.SIGINT, suffix) for suffix in (".parquet", ".geojsonl")),
        (signal.SIGKILL, ".fgb"),  # of a GeoPackage, at each moment: tests/vector/test_geopackage_layers.py
    ],
)
def test_stopped_in_the_midst(
    folder: Path, big: Path, stop_all: list[subprocess.Popen[str]], suffix: str, number: signal.Signals
) -> None:
    target = folder / f"cover{suffix}"
    kept = write_precious(target, "big")
    before = files_in(folder)
    process = start(big, "--out", target, "--overwrite", program=program("polygons", folder.parent / "never"))
    stop_all.append(process)
    assert wait_for(lambda: any(any(place.iterdir()) for place in unfinished(folder)), process)
    process.send_signal(number)
    outcome = finish(process)
    assert target.read_bytes() == kept
    if number == signal.SIGKILL:
        assert outcome.code == -number
        assert len(unfinished(folder)) == 1
        left = unfinished(folder)[0].name
        assert {name: found for name, found in files_in(folder).items() if not name.startswith(left)} == before
    else:
        assert "interrupted" in check_refused(outcome, 1, folder, before)
        assert not unfinished(folder)


@needs_posix
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_interrupted_at_any_time(folder: Path, big: Path, stop_all: list[subprocess.Popen[str]], share: float) -> None:
    process = start(big, "--out", folder / "cover.gpkg", "--min-area", "3px", "--simplify", "1px")
    stop_all.append(process)
    time.sleep(share)
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    assert not unfinished(folder)
    if (folder / "cover.gpkg").exists():
        assert pyogrio.read_info(folder / "cover.gpkg", layer="big")["features"] > 1000
        return
    assert outcome.code in (1, -signal.SIGINT)
    assert set(files_in(folder)) == {"big.tif"}
    if outcome.code == 1:
        assert "nterrupt" in outcome.stderr
        assert "Traceback" not in outcome.stderr


def test_two_runs_at_once_on_one_target(folder: Path, big: Path, stop_all: list[subprocess.Popen[str]]) -> None:
    """The last run wins; the other sees a complete file or reports one error line."""
    stop_all += [
        start(big, "--out", folder / "cover.gpkg", "--overwrite", "--min-area", f"{area}px") for area in (2, 3)
    ]
    for process in stop_all:
        outcome = finish(process)
        assert outcome.code == 0 or outcome.error
    assert not unfinished(folder)
    assert set(files_in(folder)) == {"big.tif", "cover.gpkg"}
    found = pyogrio.read_dataframe(folder / "cover.gpkg", layer="big")
    assert found.area_m2.sum() == 512 * 512 / 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount") if sys.platform == "linux" else None
    words = [mount or "", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: this needs Linux and the rights of root")
    yield place
    subprocess.run([shutil.which("umount") or "umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("suffix", "leave_bytes"),
    [
        *zip(FORMATS, (0, 4096, 50_000, 1_000_000, 0), strict=True),
        *zip(FORMATS, (50_000, 50_000, 1_000_000, 4096, 1_000_000), strict=True),
    ],
)
def test_a_full_disk(vectorize: Vectorize, disk: Path, tmp_path: Path, suffix: str, leave_bytes: int) -> None:
    noisy = write_map(tmp_path / "cover.tif", np.random.default_rng(2).integers(0, 4, (1, 300, 300), dtype=np.uint8))
    target = disk / f"cover{suffix}"
    write_precious(target, "cover")
    (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - leave_bytes)))
    before = files_in(disk)
    line = check_refused(vectorize(noisy, "--out", target, "--overwrite"), 1, disk, before)
    assert "full" in line
    assert not unfinished(disk)
    (disk / "filler").unlink()
    assert vectorize(noisy, "--out", target, "--overwrite", "--min-area", "30px").code == 0


@needs_posix
def test_the_whole_command_on_a_file_size_limit(folder: Path, big: Path) -> None:
    """One format suffices; tests/vector/test_formats_atomic.py covers each format without the command."""
    limited = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
"""
    traced(big)  # compiles: below the limit nothing that is compiled can be kept, which takes minutes on a busy machine
    before = files_in(folder)
    outcome = finish(start(big, "--out", folder / "cover.gpkg", program=(sys.executable, "-c", limited + PROGRAM)))
    assert "cannot write" in check_refused(outcome, 1, folder, before)


class StopHereError(Exception):
    """Raised by a test to simulate an unforeseen error."""


@pytest.mark.parametrize("knobs", [{}, {"min_area": "4px"}, {"dissolve": True}], ids=str)
def test_what_the_callback_raises_comes_out_and_leaves_nothing(
    folder: Path, cover: Path, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, Any]
) -> None:
    monkeypatch.setattr(class_raster, "STRIP_PX", 1)
    before = files_in(folder)

    def stop(_state: Progress) -> None:
        raise StopHereError

    with pytest.raises(StopHereError):
        traced(cover, folder / "cover.gpkg", progress=stop, **knobs)
    assert files_in(folder) == before
    assert not unfinished(folder)


def test_a_file_that_came_meanwhile_stays(folder: Path, cover: Path) -> None:
    target = folder / "cover.fgb"
    with pytest.raises(OutputError, match="add `overwrite=True`"):
        traced(cover, target, progress=lambda _state: target.write_bytes(b"theirs"))
    assert target.read_bytes() == b"theirs"
    assert not unfinished(folder)


def test_a_log_put_there_meanwhile(folder: Path, cover: Path) -> None:
    target = folder / "cover.gpkg"

    def put(_state: Progress) -> None:
        target.with_name("cover.gpkg-wal").write_bytes(b"theirs")

    with pytest.raises(OutputError, match="another program"):
        traced(cover, target, progress=put)
    assert set(files_in(folder)) == {"cover.tif", "cover.gpkg-wal"}


@pytest.mark.parametrize(
    "new", [patches(20, 20), patches(600, 60), patches(100, 70), patches(600, 70, 1)], ids=np.shape
)
def test_a_raster_that_changes_under_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, new: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(class_raster, "STRIP_PX", 1)
    cover, pixels = folder / "cover.tif", patches(600, 70)

    def change(state: Progress) -> None:
        if state.pieces_done == 1:
            write_map(folder / "new.tif", new).replace(cover)

    for knobs in ({}, {"min_area": "4px"}):
        write_map(cover, pixels)
        with pytest.raises(SceneError, match="has changed since the run began"):
            traced(cover, folder / "cover.gpkg", progress=change, **knobs)
        assert set(files_in(folder)) == {"cover.tif"}


@needs_posix
def test_strict_warnings_and_leaks(folder: Path, cover: Path) -> None:
    env = os.environ | {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error,ignore::PendingDeprecationWarning"}
    each = (sys.executable, "-c", EACH_FORMAT)
    outcome = finish(start(cover, "--min-area", "4px", "--smooth", "--out", folder / "cover", program=each, env=env))
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert {path.suffix for path in folder.glob("cover.*")} == {".tif", *FORMATS}


@needs_posix
def test_a_cache_that_cannot_be_written(folder: Path, cover: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    env = os.environ | {"HOME": str(tmp_path / "file"), "NUMBA_CACHE_DIR": str(tmp_path / "file" / "no")}
    outcome = finish(start(cover, "--out", folder / "cover.fgb", env=env))
    assert (outcome.code, outcome.stderr) == (0, "")


def test_rasters_without_area(refused: Callable[..., str], folder: Path) -> None:
    flat = write_map(folder / "flat.tif", transform=Affine(1, 0, 5, 0, 0, 5))
    assert "area" in refused(1, raster=flat)
    metres = write_map(folder / "metres.tif", crs="EPSG:4326")
    assert "geographic" in refused(1, raster=metres)
