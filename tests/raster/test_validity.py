"""Hidden pixels: every kind of mask, file and reader, compared with numpy on the bands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from geoseg.raster import ClassRaster, Scene, Window, crop, masked, mosaic, scaled, warped
from tests.raster.conftest import NORTH_UP, UTM

SHAPE = (24, 32)
COARSE = 4
"""Pixels are hidden in whole squares of this side, so that the mean of a square is either hidden or not."""
UNDEFINED = ColorInterp.undefined


@dataclass(frozen=True)
class Kind:
    """A raster, the bands to use, and everything that may hide its pixels."""

    dtype: str
    count: int
    alphas: tuple[int, ...] = ()
    """1-based."""
    nodata: float | None = None
    mask: str = ""
    """internal, .msk or empty."""
    bands: tuple[int, ...] | None = None
    colors: tuple[ColorInterp, ...] = ()
    transparent: float = 0
    opaque: tuple[float, ...] = (1, 200)
    numbers: tuple[float, ...] = ()
    """Values that are not finite, scattered over the bands."""
    used: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = tuple(band for band in range(1, self.count + 1) if band not in self.alphas)
        object.__setattr__(self, "used", self.bands or every)


def kinds() -> Iterator[Any]:
    """Yield combinations of masks, types, numbers of bands and positions of the alpha band."""
    types = ("uint8", "uint16", "int16", "float32", "int8", "uint32", "float64", "int32")
    for number, count in enumerate((2, 3, 4, 5, 6, 9)):
        for dtype in (types[number % 4], types[(number + 3) % 8]):
            opaque = (0.25, 1.0) if dtype.startswith("float") else (1, 100)
            for alpha in {1, count // 2 + 1, count}:
                yield Kind(dtype, count, alphas=(alpha,), opaque=opaque)
            yield Kind(dtype, count, alphas=(count,), nodata=7, opaque=opaque)
            yield Kind(dtype, count, nodata=7)
            yield Kind(dtype, count, nodata=7, bands=(count, 1))
            yield Kind(dtype, count, nodata=7, mask="internal")
            yield Kind(dtype, count, mask=".msk", bands=(1,))
    yield Kind("float32", 4, alphas=(4,), transparent=float("nan"), opaque=(0.5, -1.0))
    yield Kind("uint8", 5, alphas=(4, 5), mask="internal", nodata=0)
    yield Kind("uint8", 1, nodata=0)
    for nodata in (-9999.0, 1e9, 7.5, float("nan"), float("inf")):
        yield Kind("uint8", 3, nodata=nodata)
    yield Kind("float32", 3, numbers=(np.nan, np.inf))
    for nodata in (float("nan"), -3.4028234663852886e38, 0.1, -3.40282306074e38):
        yield Kind("float32", 3, nodata=nodata, numbers=(np.nan, np.inf, -np.inf))
    yield Kind("float64", 2, alphas=(2,), nodata=-9999, numbers=(np.nan, np.inf))
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    for fourth in (UNDEFINED, ColorInterp.gray, ColorInterp.nir):  # GDAL: a shadow nodata value
        yield Kind("uint8", 4, nodata=0, colors=(*rgb, fourth))
        yield Kind("uint16", 4, nodata=0, bands=(1, 2, 3), colors=(*rgb, fourth))
    yield Kind("uint8", 5, nodata=0, bands=(1, 2, 3), colors=(*rgb, UNDEFINED, UNDEFINED))
    yield Kind("uint8", 4, alphas=(4,), nodata=0, bands=(3, 2, 1), colors=(*rgb, ColorInterp.alpha))


def name_of(kind: Kind) -> str:
    return f"{kind.dtype}-{kind.count}-a{kind.alphas}-n{kind.nodata}-{kind.mask}-{kind.bands}"


KINDS = list(dict.fromkeys(kinds()))


def squares(number: int) -> NDArray[np.bool_]:
    """Return a mask (row, col) of about a third of all squares, different for each number."""
    chosen = np.random.default_rng(number).random((SHAPE[0] // COARSE, SHAPE[1] // COARSE)) < 0.35
    return chosen.repeat(COARSE, 0).repeat(COARSE, 1)


def write(kind: Kind, path: Path) -> tuple[Path, NDArray[np.bool_]]:
    """Write a raster; return its path and the mask (row, col) of valid pixels."""
    rng = np.random.default_rng(kind.count)
    data = rng.integers(20, 90, (kind.count, *SHAPE)).astype(kind.dtype)
    stored = np.dtype(kind.dtype)
    can_be = kind.nodata is not None and (stored.kind == "f" or kind.nodata in range(256))
    everywhere = squares(0)
    for band in range(1, kind.count + 1):
        if band in kind.alphas:
            data[band - 1] = np.where(squares(50 + band), kind.transparent, rng.choice(kind.opaque, SHAPE))
        elif can_be:
            hidden = squares(band) | (everywhere if band in kind.used else squares(99))
            data[band - 1][hidden] = kind.nodata
        for number, value in enumerate(kind.numbers):
            if band not in kind.alphas:
                data[band - 1][squares(10 * band + number) & squares(77)] = value
    mask = squares(3)
    colors = kind.colors or tuple(
        ColorInterp.alpha if band in kind.alphas else UNDEFINED if band > 1 else ColorInterp.gray
        for band in range(1, kind.count + 1)
    )
    shape = {"count": kind.count, "height": SHAPE[0], "width": SHAPE[1], "dtype": kind.dtype}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind.mask == "internal"),
        rasterio.open(
            path, "w", driver="GTiff", crs=UTM, transform=NORTH_UP, nodata=kind.nodata if can_be else None, **shape
        ) as file,
    ):
        file.colorinterp = colors
        file.write(data)
        if kind.mask:
            file.write_mask(mask)
    if kind.nodata is not None and not can_be:
        path = _declared(path, kind.nodata)
    return path, _expected(kind, data, mask)


def _declared(path: Path, nodata: float) -> Path:
    """Return a VRT with a nodata value that no pixel can have; rasterio refuses to write it."""
    return as_vrt(path, ("<ColorInterp>", f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>"))


def _expected(kind: Kind, data: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    valid = np.isfinite(data[[band - 1 for band in kind.used]].astype(float)).all(axis=0)
    if kind.nodata is not None and np.isfinite(kind.nodata):
        near = [np.isclose(data[band - 1].astype(float), kind.nodata, rtol=3e-7, atol=0) for band in kind.used]
        valid &= ~np.logical_and.reduce(near)
    for band in kind.alphas:
        valid &= (data[band - 1] != 0) & ~np.isnan(data[band - 1].astype(float))
    return np.asarray(valid & mask if kind.mask else valid)


def _halves(scene: Scene) -> NDArray[np.bool_]:
    """Return the mask of two reads, of the upper and the lower half, checked against one read of both.

    The arrays have gaps between rows, and the lower half extends below the scene. A mask of None means all valid.
    """
    (height, width), data = scene.shape, np.full((len(scene.band_indexes), 3 * SHAPE[0], 2 * SHAPE[1]), 9, scene.dtype)
    parts = [Window(0, 0, height // 2, width), Window(height // 2, 0, height, width)]
    halves = scene.read_into([(part, data[:, part.rows, :width]) for part in parts])
    assert (halves[0] is None) == scene.validity.hides_nothing
    assert halves[1] is not None
    valid = np.concatenate([np.ones(parts[0].shape, np.bool_) if halves[0] is None else halves[0], halves[1]])
    whole = scene.read(Window(0, 0, height + height // 2, width))
    np.testing.assert_array_equal(data[:, : height + height // 2, :width], whole.data)
    assert (data[:, :, width:] == 9).all()
    assert not valid[height:].any()
    return valid[:height]


READERS: dict[str, Callable[[Scene], NDArray[np.bool_]]] = {
    "read": lambda scene: scene.read(Window(0, 0, *scene.shape)).valid,
    "read into": _halves,
    "valid": lambda scene: scene.valid(Window(0, 0, *scene.shape)),
    "overview": lambda scene: scene.overview(max(scene.shape)).valid,
    "view": lambda scene: (
        Scene.open(masked(scene), bands=range(1, len(scene.band_indexes) + 1)).read(Window(0, 0, *scene.shape)).valid
    ),
    "mosaic": lambda scene: mosaic([scene]).read(Window(0, 0, *scene.shape)).valid,
    "crop": lambda scene: crop(scene, (0, 0, 1e9, 1e9)).read(Window(0, 0, *scene.shape)).valid,
}


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_all_that_reads_a_scene_agrees_with_its_bands_on_what_is_valid(tmp_path: Path, kind: Kind) -> None:
    path, expected = write(kind, tmp_path / "scene.tif")
    scene = Scene.open(path, bands=kind.bands)
    assert scene.band_indexes == kind.used
    for name, reader in READERS.items():
        np.testing.assert_array_equal(reader(scene), expected, err_msg=name)
    np.testing.assert_array_equal(READERS["crop"](Scene.open(path)), READERS["read"](Scene.open(path)))
    small = scaled(scene, 1 / COARSE)
    np.testing.assert_array_equal(small.read(Window(0, 0, *small.shape)).valid, expected[::COARSE, ::COARSE])
    large = scaled(scene, 2.0)
    inner = large.read(Window(0, 0, *large.shape)).valid
    np.testing.assert_array_equal(inner[::2, ::2], expected, err_msg="large")
    statistics = scene.statistics()
    if not expected.any():
        assert statistics is None
        return
    assert statistics is not None
    with rasterio.open(path) as file:
        pixels = file.read(kind.used)[:, expected].astype(np.float64)
    np.testing.assert_allclose(statistics.mean, pixels.mean(axis=1))


def assert_all_agree(scene: Scene, expected: NDArray[np.bool_]) -> None:
    for name, reader in READERS.items():
        np.testing.assert_array_equal(reader(scene), expected, err_msg=name)
    small = scaled(scene, 1 / COARSE)
    np.testing.assert_array_equal(small.read(Window(0, 0, *small.shape)).valid, expected[::COARSE, ::COARSE])


def as_vrt(path: Path, *changes: tuple[str, str]) -> Path:
    """Write a VRT of a raster with changes to its text."""
    vrt = path.with_suffix(".vrt")
    rasterio.shutil.copy(path, vrt, driver="VRT")
    text = vrt.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    vrt.write_text(text)
    return vrt


def write_bands(path: Path, *bands: NDArray[Any], **more: Any) -> Path:
    shape = {"count": len(bands), "height": SHAPE[0], "width": SHAPE[1], "dtype": bands[0].dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=NORTH_UP, **shape, **more) as file:
        file.write(np.stack(bands))
    return path


def bytes_hidden(*numbers: int) -> list[NDArray[np.uint8]]:
    """Return a band for each number: 7 in its squares, 50 elsewhere."""
    return [np.where(squares(number), 7, 50).astype(np.uint8) for number in numbers]


@pytest.mark.parametrize("bands", [(1, 2, 3), (1, 2), (3, 1), (2,)])
def test_nodata_of_some_bands_only(tmp_path: Path, bands: tuple[int, ...]) -> None:
    data = bytes_hidden(1, 1, 2)
    path = as_vrt(
        write_bands(tmp_path / "scene.tif", *data),
        ('band="1">', 'band="1"><NoDataValue>7</NoDataValue>'),
        ('band="3">', 'band="3"><NoDataValue>50</NoDataValue>'),
    )
    nodata = {1: 7, 3: 50}
    hidden = [data[band - 1] == nodata.get(band, -1) for band in bands]
    assert_all_agree(Scene.open(path, bands=bands), ~np.logical_and.reduce(hidden))


@pytest.mark.parametrize(
    ("dtype", "nodata", "beside"),
    [
        ("int32", 2**24, 2**24 + 1),
        ("uint32", 2**32 - 2, 2**32 - 1),
        ("int64", -(2**63), 5),
        ("int64", 10**17, 10**17 + 1000),
        ("float64", 0.1, 0.1000001),
        ("float64", -1.7976931348623157e308, 1e300),
    ],
)
@pytest.mark.parametrize("bands", [(1, 2), (1,), (2,)])
@pytest.mark.parametrize("has_mask", [True, False])
def test_nodata_values_that_single_precision_does_not_hold(
    tmp_path: Path, dtype: str, nodata: float, beside: float, bands: tuple[int, ...], *, has_mask: bool
) -> None:
    data = [np.where(squares(number), nodata, beside).astype(dtype) for number in (1, 2)]
    path = write_bands(tmp_path / "scene.tif", *data)
    hidden = np.logical_and.reduce([squares(number) for number in bands])
    if has_mask:
        with rasterio.open(path, "r+") as file:
            file.write_mask(~squares(3))
        hidden |= squares(3)
    vrt = as_vrt(path)
    vrt.write_text(re.sub(r'(band="\d"[^>]*>)', rf"\1<NoDataValue>{nodata}</NoDataValue>", vrt.read_text()))
    for name, reader in READERS.items():
        np.testing.assert_array_equal(reader(Scene.open(vrt, bands=bands)), ~hidden, err_msg=name)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int32"])
def test_one_nodata_value_of_integers_is_left_to_the_mask_of_gdal(tmp_path: Path, dtype: str) -> None:
    data = [band.astype(dtype) for band in bytes_hidden(1, 2)]
    view = masked(Scene.open(write_bands(tmp_path / "scene.tif", *data, nodata=7)), alpha=True)
    assert "LUT" not in view  # tables take twice as long
    assert "Float64" not in view


def test_nodata_values_of_the_whole_file_are_those_of_its_bands(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "scene.tif", *bytes_hidden(1, 1, 2))
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="7 7 50")
    assert_all_agree(Scene.open(path), ~squares(1) | squares(2))
    assert_all_agree(Scene.open(path, bands=[2, 1]), ~squares(1))


def test_masks_of_single_bands_hide_where_all_of_them_do(tmp_path: Path) -> None:
    for number in (4, 5):
        write_bands(tmp_path / f"mask{number}.tif", np.where(squares(number), 0, 255).astype(np.uint8))
    path = write_bands(tmp_path / "scene.tif", *bytes_hidden(1, 1))
    masks = [
        '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">'
        f"mask{number}.tif</SourceFilename></SimpleSource></VRTRasterBand></MaskBand>"
        for number in (4, 5)
    ]
    vrt = as_vrt(path, ('band="1">', f'band="1">{masks[0]}'), ('band="2">', f'band="2">{masks[1]}'))
    assert_all_agree(Scene.open(vrt), ~(squares(4) & squares(5)))
    assert_all_agree(Scene.open(vrt, bands=[2]), ~squares(5))


def test_an_alpha_of_another_type_than_the_bands(tmp_path: Path) -> None:
    data = [band.astype(np.float32) for band in bytes_hidden(1, 2)]
    alpha = np.where(squares(3), 0, 255).astype(np.float32)
    vrt = as_vrt(
        write_bands(tmp_path / "scene.tif", *data, alpha),
        ('dataType="Float32" band="3"', 'dataType="Byte" band="3"'),
    )
    vrt.write_text(re.sub(r'(band="3"[^>]*>)', r"\1<ColorInterp>Alpha</ColorInterp>", vrt.read_text()))
    assert_all_agree(Scene.open(vrt), ~squares(3))


def test_an_alpha_that_is_asked_for_is_data_for_all_that_reads_it(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "scene.tif", *bytes_hidden(1, 2), np.where(squares(3), 0, 9).astype(np.uint8))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray, UNDEFINED, ColorInterp.alpha]
    scene = Scene.open(path, bands=[3, 1])
    assert_all_agree(scene, np.ones(SHAPE, np.bool_))
    np.testing.assert_array_equal(crop(scene, (0, 0, 1e9, 1e9)).read(Window(0, 0, *SHAPE)).data[0] == 0, squares(3))
    assert_all_agree(Scene.open(path, bands=[1, 2]), ~squares(3))


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_another_grid_sees_the_same(tmp_path: Path, kind: Kind) -> None:
    path, expected = write(kind, tmp_path / "scene.tif")
    scene = Scene.open(path, bands=kind.bands)
    shifted = replace(scene.geobox, transform=NORTH_UP @ Affine.translation(0.2, -0.2))
    patch = warped(scene, shifted)
    np.testing.assert_array_equal(patch.valid[1:-1, 1:-1], expected[1:-1, 1:-1])
    np.testing.assert_array_equal(patch.data[0][patch.valid], scene.read(Window(0, 0, *SHAPE)).data[0][patch.valid])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_a_transparent_pixel_of_a_map_has_no_class(tmp_path: Path, dtype: str) -> None:
    codes = np.where(squares(1), 3, 50)
    path = write_bands(tmp_path / "map.tif", codes.astype(dtype), np.where(squares(3), 0, 1).astype(dtype))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    raster = ClassRaster.open(path)
    strips = np.concatenate(list(raster.strips()))
    np.testing.assert_array_equal(strips, np.where(squares(3), raster.background, codes))


def test_a_view_of_a_masked_scene_sees_what_becomes_of_the_file(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "scene.tif", np.full(SHAPE, 5, np.float32))
    small = scaled(Scene.open(path), 1 / COARSE)
    window = Window(0, 0, *small.shape)
    assert (small.read(window).data == 5).all()
    write_bands(path, np.full(SHAPE, 7, np.float32), compress="deflate")
    assert (small.read(window).data == 7).all()
