from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import OutputError, UsageError
from geoseg.legend import DEEPGLOBE, Nomenclature
from geoseg.raster import Scene, Window, read_nomenclature
from geoseg.synthetic import Landscape, write_landscape

SIZE_PX = 160


@st.composite
def windows(draw: st.DrawFn) -> Window:
    row, col = draw(st.integers(0, SIZE_PX - 2)), draw(st.integers(0, SIZE_PX - 2))
    return Window(row, col, draw(st.integers(1, SIZE_PX - row)), draw(st.integers(1, SIZE_PX - col)))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), window=windows(), gsd_m=st.sampled_from([0.5, 1.0, 0.3]))
def test_a_pixel_does_not_depend_on_the_window_asked_for(seed: int, window: Window, gsd_m: float) -> None:
    landscape = Landscape(seed, SIZE_PX, SIZE_PX, gsd_m)
    image, codes = landscape.render()
    part_image, part_codes = landscape.render(window)
    np.testing.assert_array_equal(part_image, image[:, window.rows, window.cols])
    np.testing.assert_array_equal(part_codes, codes[window.rows, window.cols])


@pytest.mark.parametrize("corner", [(60_000, 70_000), (-400, -700), (2_000_000, 5_000_000)])
def test_far_from_the_origin_windows_still_agree(corner: tuple[int, int]) -> None:
    row, col = corner
    image, codes = Landscape(12, 1, 1).render(Window(row, col, 130, 150))
    part_image, part_codes = Landscape(12, 1, 1).render(Window(row + 77, col + 41, 53, 109))
    np.testing.assert_array_equal(part_image, image[:, 77:, 41:])
    np.testing.assert_array_equal(part_codes, codes[77:, 41:])


def test_one_pixel_at_a_time_gives_the_same_pixels() -> None:
    landscape = Landscape(5, 40, 40)
    image, codes = landscape.render()
    for row, col in ((0, 0), (17, 39), (39, 3)):
        pixel, code = landscape.render(Window(row, col, 1, 1))
        assert pixel[:, 0, 0].tolist() == image[:, row, col].tolist()
        assert code[0, 0] == codes[row, col]


def test_the_size_of_a_landscape_changes_no_pixel() -> None:
    small, _ = Landscape(3, 64, 64).render()
    large, _ = Landscape(3, 200, 128).render()
    np.testing.assert_array_equal(large[:, :64, :64], small)


def test_every_class_occurs_and_no_other_value() -> None:
    # sparse single blocks over many places: cheaper than whole scenes
    counts = np.zeros(256, np.int64)
    for seed in range(60):
        _, codes = Landscape(seed, 4096, 4096).render(Window(seed * 30, 900, 32, 32))
        counts += np.bincount(codes.ravel(), minlength=256)
    assert all(counts[code] > 100 for code in DEEPGLOBE.codes), counts[:7]
    assert counts[7:].sum() == 0


def test_seeds_give_different_places() -> None:
    pictures = [Landscape(seed, 96, 96).render()[0] for seed in range(6)]
    assert len({picture.tobytes() for picture in pictures}) == 6
    means = np.array([picture.mean(axis=(1, 2)) for picture in pictures])
    assert means.std(axis=0).min() > 3


def test_classes_can_be_told_apart_by_their_pixels() -> None:
    # truth shifted by some pixels would mix water, which is smooth, with land
    image, codes = Landscape(103, 1024, 1024).render(Window(624, 96, 400, 400))
    contrast = np.abs(np.diff(image.astype(np.int16), axis=2)).mean(axis=0)
    water = (codes == 4)[:, 1:]
    assert water.sum() > 10_000
    assert contrast[water].mean() < 0.7 * contrast[~water].mean()


def test_the_written_scene_equals_the_rendered_one(tmp_path: Path) -> None:
    landscape = Landscape(7, 520, 530)
    write_landscape(landscape, tmp_path / "scene.tif", tmp_path / "truth.tif")
    image, codes = landscape.render()
    with rasterio.open(tmp_path / "scene.tif") as scene, rasterio.open(tmp_path / "truth.tif") as truth:
        np.testing.assert_array_equal(scene.read(), image)
        np.testing.assert_array_equal(truth.read(1), codes)
        assert scene.crs.to_epsg() == truth.crs.to_epsg() == 32631
        assert scene.transform == truth.transform == landscape.transform
        assert scene.res == (0.5, 0.5)
        assert scene.block_shapes == [(512, 512)] * 3
        assert [i.name for i in scene.colorinterp] == ["red", "green", "blue"]
        assert truth.nodata == 255
        assert all(truth.colormap(1)[c.code][:3] == c.color for c in DEEPGLOBE)


def test_a_scene_may_be_written_without_truth(tmp_path: Path) -> None:
    write_landscape(Landscape(7, 20, 30), tmp_path / "scene.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for truth in (None, tmp_path / "nowhere" / "truth.tif"):
        with pytest.raises(OutputError, match=r"cannot write .*nowhere.scene\.tif: No such file"):
            write_landscape(Landscape(7, 20, 30), tmp_path / "nowhere" / "scene.tif", truth)


def test_a_landscape_may_be_written_to_memory() -> None:
    landscape = Landscape(7, 20, 30)
    write_landscape(landscape, "/vsimem/scene.tif", "/vsimem/truth.tif")
    for path, pixels in zip(("/vsimem/scene.tif", "/vsimem/truth.tif"), landscape.render(), strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read().squeeze(), pixels)
        rasterio.shutil.delete(path)


@pytest.mark.parametrize("limit_kb", [16, 148])
def test_a_scene_that_does_not_fit_leaves_no_file(tmp_path: Path, limit_kb: int) -> None:
    """At 148 kB only what GDAL writes while it closes the file is missing, and GDAL does not report that."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1024, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write the landscape .*; free some space"):
            write_landscape(Landscape(0, 300, 300), tmp_path / "scene.tif", tmp_path / "truth.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1, 9, 9, 0.5), "seed .* -1"), ((1, 0, 9, 0.5), "0 x 9 "), ((1, 9, -9, 0.5), "9 x -9 "),
        ((1, 9, 9, 0.0), r"0\.0 m"), ((1, 9, 9, float("nan")), "nan m"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(arguments: tuple[int, int, int, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Landscape(*arguments)


def test_the_sample_scene_is_what_its_program_makes() -> None:
    folder = Path(__file__).parents[2] / "sample_data"
    window = Window(900, 1100, 128, 160)
    image, codes = Landscape(63, 2048, 3072).render(window)
    where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
    with rasterio.open(folder / "scene.tif") as scene, rasterio.open(folder / "truth.tif") as truth:
        np.testing.assert_array_equal(truth.read(1, window=where), codes)
        assert truth.shape == scene.shape == (2048, 3072)
        # JPEG keeps the picture, not the bits
        assert np.abs(scene.read(window=where).astype(np.int16) - image).mean() < 8
        assert scene.transform == truth.transform == Landscape(63, 1, 1).transform


def test_the_sample_truth_names_its_classes_as_maps_do() -> None:
    folder = Path(__file__).parents[2] / "sample_data"
    assert read_nomenclature(Scene.open(folder / "truth.tif")) == Nomenclature.from_legend(DEEPGLOBE)
    assert (folder / "truth.tif").stat().st_size < 100_000
