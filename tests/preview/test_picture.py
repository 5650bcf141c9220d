from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg import errors
from geoseg.legend import NODATA
from geoseg.preview.__main__ import main
from geoseg.preview.picture import picture

image = pytest.importorskip("matplotlib.image", reason="pictures need the extra [plot]")

COLORS = {0: (0, 255, 255, 255), 4: (0, 0, 255, 255)}


def write(path: Path, count: int, value: int, dtype: str = "uint8") -> Path:
    profile = {"driver": "GTiff", "dtype": dtype, "height": 60, "width": 90, "transform": Affine(1, 0, 0, 0, -1, 60)}
    with rasterio.open(path, "w", count=count, nodata=NODATA, **profile) as file:
        file.write(np.full((count, 60, 90), value, dtype))
        if count == 1 and dtype == "uint8":
            file.write_colormap(1, COLORS)
    return path


def shown(path: Path) -> set[tuple[int, int, int]]:
    pixels = np.round(image.imread(path) * 255).astype(int)
    colors, counts = np.unique(pixels[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    return {(int(r), int(g), int(b)) for (r, g, b), count in zip(colors, counts, strict=True) if count > 10_000}


@pytest.mark.parametrize("code", [0, 4])
def test_the_map_is_shown_in_its_own_colours(tmp_path: Path, code: int) -> None:
    out = picture(write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, code), tmp_path / "p.png")
    assert shown(out) >= {COLORS[code][:3]}
    assert shown(out).isdisjoint({color[:3] for other, color in COLORS.items() if other != code})


def test_nothing_valid_is_a_picture_all_the_same(tmp_path: Path) -> None:
    out = picture(write(tmp_path / "s.tif", 3, NODATA), write(tmp_path / "m.tif", 1, NODATA), tmp_path / "p.png")
    assert shown(out) == {(255, 255, 255)}


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, 0)
    with pytest.raises(errors.OutputError, match=r"cannot write .*gone"):
        picture(scene, landcover, tmp_path / "gone" / "p.png")


def test_a_map_of_other_numbers_is_refused(tmp_path: Path) -> None:
    scene, heights = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, 3000, "uint16")
    with pytest.raises(errors.SceneError, match=r"m\.tif holds uint16.*as uint8; give one"):
        picture(scene, heights, tmp_path / "p.png")


def test_the_program_ends_in_one_line_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, landcover = (str(write(tmp_path / f"{n}.tif", n, 4)) for n in (3, 1))
    cases = [
        ([], 2, "usage: python -m geoseg.preview SCENE MAP OUT.png"),
        (["--help"], 2, "usage: "),
        ([scene, str(tmp_path / "gone.tif"), str(tmp_path / "p.png")], 1, "gone.tif"),
        ([scene, landcover, str(tmp_path / "gone" / "p.png")], 1, "cannot write"),
    ]
    for arguments, code, said in cases:
        assert main(arguments) == code
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert main([scene, landcover, str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").is_file()
