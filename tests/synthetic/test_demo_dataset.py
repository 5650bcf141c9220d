from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio

from geoseg.legend import DEEPGLOBE
from geoseg.raster.classes import read_legend
from geoseg.raster.scene import Scene
from geoseg.synthetic import Landscape

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # PNG chips have no place
PROGRAM = Path(__file__).parents[2] / "tools" / "demo_dataset.py"


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("demo_dataset", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def naip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two places like the Chesapeake chips: one that trains, one that is held out."""
    folder = tmp_path_factory.mktemp("naip")
    (folder / "chesapeake_wv").mkdir()
    draw = np.random.default_rng(4)
    for place in ("1-0_new", "1-1_new"):
        for kind, count, top in (("sat", 3, 256), ("idx", 1, 6)):
            path = folder / "chesapeake_wv" / f"train_{place}_{kind}.png"
            with rasterio.open(path, "w", driver="PNG", width=64, height=64, count=count, dtype="uint8") as file:
                file.write(draw.integers(0, top, (count, 64, 64), np.uint8))
    return folder


@pytest.fixture(scope="module")
def folder(program: ModuleType, naip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_all(program, naip, folder)
    return folder


def make_all(program: ModuleType, naip: Path, folder: Path) -> None:
    chips = program.plan(naip, {"train": 6, "valid": 1, "test": 1}, 96)
    for room in ("images", "labels"):
        (folder / room).mkdir()
    program.write_splits(folder, chips)
    for chip in chips:
        program.make(chip, folder)


def read_split(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8") as file:
        return {row["id"]: row["part"] for row in csv.DictReader(file)}


def test_every_image_has_labels_on_its_grid(folder: Path) -> None:
    names = sorted(path.stem for path in (folder / "images").iterdir())
    assert names == sorted(read_split(folder / "split.csv"))
    for name in names:
        with (
            rasterio.open(folder / "images" / f"{name}.tif") as image,
            rasterio.open(folder / "labels" / f"{name}.tif") as labels,
        ):
            assert (image.count, image.dtypes[0], image.res) == (3, "uint8", (0.5, 0.5))
            assert (image.shape, image.transform, image.crs) == (labels.shape, labels.transform, labels.crs)
            assert set(np.unique(labels.read())) <= {*range(6), 255}
        assert read_legend(Scene.open(folder / "labels" / f"{name}.tif")) == DEEPGLOBE


def test_no_chip_overlaps_another(folder: Path) -> None:
    boxes = []
    for path in (folder / "images").iterdir():
        with rasterio.open(path) as image:
            boxes.append(image.bounds)
    apart = [
        one.right <= two.left or two.right <= one.left or one.top <= two.bottom or two.top <= one.bottom
        for index, one in enumerate(boxes)
        for two in boxes[:index]
    ]
    assert all(apart)


def test_a_place_is_never_on_both_sides_of_the_split(folder: Path) -> None:
    split = read_split(folder / "split.csv")
    assert {part for name, part in split.items() if "1-0_" in name} == {"test"}
    assert {part for name, part in split.items() if "1-1_" in name} == {"train"}
    exams = read_split(folder / "test_synthetic.csv") | read_split(folder / "test_naip.csv")
    assert exams == {name: part for name, part in split.items() if part == "test"}


def test_labels_are_the_landscapes_truth(program: ModuleType, folder: Path) -> None:
    row, col = np.random.default_rng(950_000).integers(0, program.PLACE_PX, 2)
    window = program.Window(int(row), int(col), 96, 96)
    image, codes = Landscape(950_000, 1, 1).render(window)
    with rasterio.open(folder / "labels" / "test_950000.tif") as labels:
        np.testing.assert_array_equal(labels.read(1), np.where(codes < 6, codes, 255))
    with rasterio.open(folder / "images" / "test_950000.tif") as written:
        # JPEG keeps the picture, not the bits
        assert np.abs(written.read().astype(np.int16) - image).mean() < 10


def test_enlarging_keeps_the_codes_under_the_image(program: ModuleType) -> None:
    codes = np.random.default_rng(1).integers(0, 6, (20, 20), np.uint8)
    image, larger = program.enlarge(np.repeat(codes[None] * 40, 3, axis=0), codes, 2.0, 40)
    np.testing.assert_array_equal(larger, codes.repeat(2, axis=0).repeat(2, axis=1))
    assert np.corrcoef(image[0].ravel(), larger.ravel())[0, 1] > 0.8


def test_made_again_it_is_the_same(program: ModuleType, naip: Path, folder: Path, tmp_path: Path) -> None:
    make_all(program, naip, tmp_path)
    for path in sorted(folder.rglob("*.tif")):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_what_is_there_is_kept_and_what_is_missing_is_made(program: ModuleType, naip: Path, folder: Path) -> None:
    chips = program.plan(naip, {"train": 6, "valid": 1, "test": 1}, 96)
    kept, lost = (folder / "images" / f"{chip.name}.tif" for chip in chips[:2])
    before, was = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    for chip in chips[:2]:
        program.make(chip, folder)
    assert kept.stat().st_mtime_ns == before
    assert lost.read_bytes() == was
