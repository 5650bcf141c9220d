from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoseg import errors
from geoseg.display import picture, preview
from geoseg.legend import DEEPGLOBE, NODATA
from tests.display.maps import UTM, blocks, write_map, write_scene

image = pytest.importorskip("matplotlib.image", reason="pictures need the extra [plot]")

COLORS = {0: (0, 255, 255, 255), 4: (0, 0, 255, 255)}


def write(path: Path, count: int, value: float | NDArray[Any], dtype: str = "uint8") -> Path:
    profile = {"driver": "GTiff", "dtype": dtype, "height": 60, "width": 90, "transform": Affine(1, 0, 0, 0, -1, 60)}
    with rasterio.open(path, "w", count=count, nodata=NODATA, **profile) as file:
        file.write(np.broadcast_to(np.asarray(value, dtype), (count, 60, 90)))
        if count == 1 and dtype == "uint8":
            file.write_colormap(1, COLORS)
    return path


def shown(path: Path) -> dict[tuple[int, int, int], int]:
    """Return the pixels of each colour of large areas."""
    levels = np.round(image.imread(path)[..., :3] * 255).astype(np.uint32)
    colors, counts = np.unique(levels @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_counts=True)
    return {
        (color >> 16, color >> 8 & 255, color & 255): count
        for color, count in zip(colors.tolist(), counts.tolist(), strict=True)
        if count > 10_000
    }


@pytest.mark.parametrize("code", [0, 4])
def test_the_map_is_shown_in_its_own_colours(tmp_path: Path, code: int) -> None:
    out = picture(write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, code), tmp_path / "p.png")
    found = shown(out)
    assert COLORS[code][:3] in found
    assert found.keys().isdisjoint({color[:3] for other, color in COLORS.items() if other != code})


def test_a_picture_has_no_empty_bands_above_and_below(tmp_path: Path) -> None:
    out = picture(
        write_scene(tmp_path / "s.tif", **UTM), write_map(tmp_path / "m.tif", blocks(), **UTM), tmp_path / "p.png"
    )
    levels = image.imread(out)[..., :3]
    rows = np.flatnonzero((levels < 0.99).any(axis=(1, 2)))
    assert rows[0] < 25
    assert rows[-1] > len(levels) - 25


@pytest.mark.parametrize("rows", [60, 180, 600])
def test_a_picture_of_a_tall_scene_has_no_empty_margins(tmp_path: Path, rows: int) -> None:
    write_scene(tmp_path / "s.tif", (rows, 60))
    write_map(tmp_path / "m.tif", np.full((rows, 60), 1, np.uint8))
    levels = image.imread(picture(tmp_path / "s.tif", tmp_path / "m.tif", tmp_path / "p.png"))[..., :3]
    inked = (levels < 0.99).any(axis=2)
    down, across = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    assert down[0] < 0.05 * len(levels)
    assert across[0] < (0.3 if rows == 600 else 0.1) * levels.shape[1]


def test_how_a_palette_was_read_is_said(tmp_path: Path) -> None:
    landcover, told = write(tmp_path / "m.tif", 1, 4), []
    scene = write(tmp_path / "s.tif", 3, 90)
    colors = np.array(DEEPGLOBE.by_code(4).color, np.uint8)[:, None, None]
    with rasterio.open(landcover) as file:
        profile = file.profile | {"count": 3, "nodata": None}
    with rasterio.open(tmp_path / "rgb.tif", "w", **profile) as file:
        file.write(np.broadcast_to(colors, (3, 60, 90)))
    picture(scene, tmp_path / "rgb.tif", tmp_path / "p.png", announce=told.append)
    preview(tmp_path / "rgb.tif", announce=told.append)
    assert len(told) == 2
    assert told[0] == told[1]
    assert "DeepGlobe" in told[0] or "color" in told[0]


def test_of_a_scene_of_another_extent_the_maps_part_is_shown(tmp_path: Path) -> None:
    """A scene twice as large in each direction, on another grid: one quarter of it is the map's."""
    quarters = np.kron(np.array([[40, 90], [140, 190]], np.uint8), np.ones((90, 150), np.uint8))
    place: dict[str, Any] = {"crs": "EPSG:32633", "driver": "GTiff", "dtype": "uint8", "nodata": NODATA}
    with rasterio.open(
        tmp_path / "s.tif", "w", count=3, height=180, width=300, transform=Affine(10, 0, 5e5, 0, -10, 5.2e6), **place
    ) as file:
        file.write(np.stack([quarters, quarters, 230 - quarters]))
    for number, (x, y) in {0: (5e5, 5.2e6), 3: (5e5 + 1500, 5.2e6 - 900)}.items():
        landcover, out = tmp_path / f"m{number}.tif", tmp_path / f"{number}.png"
        with rasterio.open(
            landcover, "w", count=1, height=30, width=50, transform=Affine(30, 0, x, 0, -30, y), **place
        ) as file:
            file.write(np.ones((1, 30, 50), np.uint8))
        low, high = 40, 190
        level, blue = ((value - low) * 255 // (high - low) for value in (40 + 50 * number, 190 - 50 * number))
        assert (level, level, blue) in shown(picture(tmp_path / "s.tif", landcover, out))


def test_a_scene_that_is_not_the_maps_is_refused(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    away = write_scene(tmp_path / "away.tif", crs=UTM["crs"], transform=Affine(10, 0, 7e5, 0, -10, 5.2e6))
    tall = write_scene(tmp_path / "tall.tif", (100, 20))
    for scene, said in [
        (away, r"no valid pixel of .*away\.tif lies on .*m\.tif"),
        (tall, r"tall\.tif cannot be laid on"),
    ]:
        with pytest.raises(errors.SceneError, match=said):
            picture(scene, landcover, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_nothing_valid_is_a_picture_all_the_same(tmp_path: Path) -> None:
    out = picture(write(tmp_path / "s.tif", 3, NODATA), write(tmp_path / "m.tif", 1, NODATA), tmp_path / "p.png")
    assert shown(out).keys() == {(255, 255, 255)}


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, 0)
    with pytest.raises(errors.OutputError, match=r"cannot write .*gone"):
        picture(scene, landcover, tmp_path / "gone" / "p.png")


@pytest.mark.parametrize(
    ("heights", "dtype", "said"),
    [
        (0.5, "float32", r"m\.tif holds 0\.5, codes of classes are whole numbers"),
        (np.arange(5400).reshape(60, 90), "uint16", r"m\.tif holds more than 255 codes"),
    ],
)
def test_a_map_of_no_classes_is_refused(tmp_path: Path, heights: Any, dtype: str, said: str) -> None:
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, heights, dtype)
    with pytest.raises(errors.SceneError, match=said):
        picture(scene, landcover, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(("dtype", "code"), [("uint16", 3000), ("int16", -7), ("int32", 70_000)])
def test_codes_of_any_integers_have_their_colours(tmp_path: Path, dtype: str, code: int) -> None:
    (tmp_path / "names.csv").write_text(f"code,name,color\n{code},$a$ \\b_c,#2040c0\n{code + 1},other,#c04020\n")
    codes = np.full((60, 90), code)
    codes[:, 60:] += 1
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, codes, dtype)
    areas = shown(picture(scene, landcover, tmp_path / "p.png", legend=tmp_path / "names.csv"))
    assert areas[32, 64, 192] == pytest.approx(2 * areas[192, 64, 32], rel=0.05)


def test_many_classes_leave_room_for_the_map(tmp_path: Path) -> None:
    codes = np.broadcast_to(np.arange(90), (60, 90))
    landcover = write(tmp_path / "m.tif", 1, np.where(codes < 45, 0, codes))  # half of it is one class
    names = [f"{code},class {code} of a long name,#808080\n" for code in range(1, 90)]
    (tmp_path / "names.csv").write_text("".join(["code,name,color\n0,most,#2040c0\n", *names]))
    out = picture(write(tmp_path / "s.tif", 3, 90), landcover, tmp_path / "p.png", legend=tmp_path / "names.csv")
    rows, cols = image.imread(out).shape[:2]
    assert shown(out)[32, 64, 192] == pytest.approx((cols / 2) ** 2 * 60 / 90 / 2, rel=0.1)
    assert rows < cols
