from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.errors import UsageError
from geoseg.legend import DEEPGLOBE
from geoseg.raster import GeoBox, Window
from geoseg.raster.landcover import DEFAULTS, PartFormat, build_cog, creation_options, labels
from tests.parts import write_part

SHAPE = (700, 900)


def built(folder: Path, asked: dict[str, str]) -> Path:
    codes = np.random.default_rng(5).integers(0, 7, SHAPE, dtype=np.uint8)
    folder.mkdir()
    product = labels(DEEPGLOBE)
    storage = creation_options(asked)
    write_part(folder, product, 0, codes, PartFormat.of(SHAPE, SHAPE, storage))
    box = GeoBox(*SHAPE, Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000), rasterio.crs.CRS.from_epsg(32631))
    return build_cog(folder, product, [Window(0, 0, *SHAPE)], box, {}, storage)


@pytest.mark.parametrize(
    ("asked", "compression", "block_px"),
    [
        ({}, "deflate", 512),
        ({"COMPRESS": "zstd", "zlevel": "1", "blocksize": "256"}, "zstd", 256),
        ({"COMPRESS": "LZW", "PREDICTOR": "YES", "NUM_THREADS": "1"}, "lzw", 512),
        ({"COMPRESS": "NONE", "BIGTIFF": "YES"}, None, 512),
        ({"COMPRESS": "LZMA"}, "lzma", 512),
    ],
)
def test_storage_is_as_asked_and_the_pixels_are_the_same(
    tmp_path: Path, asked: dict[str, str], compression: str | None, block_px: int
) -> None:
    usual, other = built(tmp_path / "usual", {}), built(tmp_path / "other", asked)
    with rasterio.open(usual) as first, rasterio.open(other) as second:
        assert (first.read() == second.read()).all()
        assert first.overviews(1) == second.overviews(1)
        assert first.colormap(1) == second.colormap(1)
        assert second.profile.get("compress") == compression
        assert second.block_shapes == [(block_px, block_px)]
    assert (other.read_bytes()[2] == 43) == (asked.get("BIGTIFF") == "YES")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("COMPRESS", "JPEG", "DEFLATE, ZSTD, LZW, LZMA, NONE: others change classes; got 'JPEG'"),
        ("COMPRESS", "LERC", "others change classes"),
        ("NBITS", "1", "'NBITS' may change the map"),
        ("TILING_SCHEME", "GoogleMapsCompatible", "'TILING_SCHEME' may change the map"),
        ("OVERVIEWS", "NONE", "'OVERVIEWS' may change the map"),
        ("RESAMPLING", "CUBIC", "'RESAMPLING' may change the map"),
        ("BLOCKSIZE", "500", "from 128 to 4096, a multiple of 16; got '500'"),
        ("BLOCKSIZE", "16", "from 128 to 4096"),
        ("LEVEL", "high", "a whole number from 1 to 22; got 'HIGH'"),
        ("LEVEL", "22", "DEFLATE has levels from 1 to 12, got 22"),
        ("NUM_THREADS", "-1", "from 1 to 1024"),
        ("BIGTIFF", "MAYBE", "YES, NO, IF_NEEDED, IF_SAFER"),
        ("PREDICTOR", "FLOATING_POINT", "YES, NO, STANDARD"),
    ],
)
def test_what_might_change_the_map_or_is_no_value_is_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match="creation option") as caught:
        creation_options({key: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_level_that_a_compression_does_not_know_is_left_out() -> None:
    assert "LEVEL" not in creation_options({"COMPRESS": "LZW"})
    assert creation_options({}) == DEFAULTS


def test_a_level_of_what_has_none_is_refused() -> None:
    with pytest.raises(UsageError, match="LZW has no levels, got 3"):
        creation_options({"COMPRESS": "LZW", "LEVEL": "3"})


def test_what_this_gdal_cannot_write_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["geoseg.raster.landcover.product"]._WORDS, "COMPRESS", ("UNHEARD-OF",))
    with pytest.raises(UsageError, match="this GDAL is built without COMPRESS=UNHEARD-OF") as caught:
        creation_options({"COMPRESS": "unheard-of"})
    assert "\n" not in str(caught.value)
