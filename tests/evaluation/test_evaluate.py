"""The verb: any grids, any codes, nodata, tiles; against numpy, rasterio, scikit-learn and pyproj."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject
from sklearn.metrics import confusion_matrix

import geoseg
from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import comparison, evaluate
from geoseg.legend import DEEPGLOBE, LandCover, Legend, Nomenclature
from tests.evaluation.rasters import HOLES, NODATA, UTM, as_floats, colored, patches, write, wrong

Pixels = NDArray[Any]
SHAPE = (150, 210)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_TILE_PX", 64 * 64)


def both(tmp_path: Path, mapped: Pixels, reference: Pixels, **options: Any) -> tuple[Path, Path]:
    return (
        write(tmp_path / "map.tif", mapped, **{**UTM, **options}),
        write(tmp_path / "reference.tif", reference, **{**UTM, **options}),
    )


def counts(reference: Pixels, mapped: Pixels, valid: Pixels | None = None, codes: Any = None) -> Pixels:
    there = np.ones(mapped.shape, bool) if valid is None else valid
    codes = sorted(set(np.unique(mapped[there])) | set(np.unique(reference[there]))) if codes is None else codes
    found: Pixels = confusion_matrix(reference[there], mapped[there], labels=codes)
    return found


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("blocks", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 16}])
def test_nodata_of_either_never_counts_and_is_said(tmp_path: Path, blocks: dict[str, Any]) -> None:
    reference = patches(0, *SHAPE)
    mapped = wrong(1, reference)
    mapped[:5], reference[:, :7] = NODATA, NODATA
    found = evaluate(*both(tmp_path, mapped, reference, **blocks))
    valid = (mapped != NODATA) & (reference != NODATA)
    np.testing.assert_array_equal(found.matrix.counts, counts(reference, mapped, valid))
    assert found.left_out.no_map == (mapped == NODATA).sum()
    assert found.left_out.no_reference == ((mapped != NODATA) & (reference == NODATA)).sum()
    assert found.metrics.pixels + found.left_out.total == mapped.size


def test_a_number_to_ignore_is_a_code_even_where_a_class_is_named_so(tmp_path: Path) -> None:
    paths, names = both(tmp_path, patches(0, *SHAPE), patches(0, *SHAPE)), {0: "1", 1: "2", 2: "3", 3: "4"}
    assert evaluate(*paths, legend=names, ignore=[1]).matrix.codes == (0, 2, 3)
    assert evaluate(*paths, legend=names, ignore="1").matrix.codes == (1, 2, 3)


@pytest.mark.parametrize("map_names", [{0: "a", 1: "b"}, {0: "a", 1: "b", 3: "d"}])
def test_unnamed_codes_of_the_reference_are_said_if_they_count_as_errors(
    tmp_path: Path, map_names: dict[int, str]
) -> None:
    """A code without a name in the reference is right where the map has the same code without one."""
    reference = patches(0, *SHAPE)
    mapped, names = np.where(reference == 2, np.uint8(0), reference), {0: "a", 1: "b"}
    found = evaluate(*both(tmp_path, mapped, reference), legend=map_names, reference_legend=names)
    lost = ["2"] if 3 not in map_names else ["2", "3"]
    assert [note.rpartition(": ")[2] for note in found.notes if "without a class" in note] == [", ".join(lost)]
    right = {each.name for each in found.metrics.classes if each.iou == 1.0}
    assert ("class 3" in right) is (3 not in map_names)


def test_many_unnamed_codes_are_not_compared_pair_by_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(900, dtype=np.uint16).reshape(30, 30)
    asked, look_up = [], Nomenclature.of
    monkeypatch.setattr(Nomenclature, "of", lambda names, code: asked.append(code) or look_up(names, code))
    evaluate(*both(tmp_path, codes, codes[::-1]), reference_legend={0: "a"}, legend={0: "a"})
    assert len(asked) < 30 * 900


def test_a_code_to_ignore_may_be_called_as_reports_name_it(tmp_path: Path) -> None:
    paths = both(tmp_path, patches(0, *SHAPE), patches(0, *SHAPE))
    assert evaluate(*paths, ignore=["class 1"]).matrix.codes == evaluate(*paths, ignore=[1]).matrix.codes


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint8"])
def test_any_integers(tmp_path: Path, dtype: str) -> None:
    codes = {"int16": (-5, 111, 312, 999), "uint16": (1, 300, 60_000, 7), "int32": (-70_000, 5, 9, 1 << 20)}
    chosen = np.array(codes.get(dtype, (0, 1, 128, 254)))
    reference = chosen[patches(2, *SHAPE)].astype(dtype)
    mapped = chosen[wrong(3, patches(2, *SHAPE))].astype(dtype)
    found = evaluate(*both(tmp_path, mapped, reference, nodata=None))
    assert found.matrix.codes == tuple(sorted(chosen.tolist()))
    np.testing.assert_array_equal(found.matrix.counts, counts(reference, mapped))


@pytest.mark.parametrize("nodata", [-9999, None, 300])
def test_small_codes_in_wide_types(tmp_path: Path, nodata: int | None) -> None:
    reference = patches(2, *SHAPE).astype(np.int16)
    mapped = wrong(3, patches(2, *SHAPE)).astype(np.int32)
    if nodata is not None:
        reference[:9], mapped[:, :9] = nodata, nodata
    found = evaluate(*both(tmp_path, mapped, reference, nodata=nodata))
    valid = (mapped != nodata) & (reference != nodata) if nodata is not None else None
    np.testing.assert_array_equal(found.matrix.counts, counts(reference, mapped, valid))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("dtype", "hole", "declared"),
    [(("float32", "float64")[number % 2], *hole) for number, hole in enumerate((*HOLES, HOLES[0]))],
)
def test_whole_floats_count_as_their_integers(tmp_path: Path, dtype: str, hole: float, *, declared: bool) -> None:
    reference = patches(1, *SHAPE, codes=(0, 1, 2, 3, NODATA))
    mapped = wrong(2, patches(1, *SHAPE, codes=(0, 1, 2, NODATA)))
    expected = evaluate(*both(tmp_path, mapped, reference)).matrix
    ours = as_floats(tmp_path / "ours.tif", mapped, dtype, hole, declared=declared)
    theirs = as_floats(tmp_path / "theirs.tif", reference, dtype, hole, declared=declared)
    for pair in ((ours, tmp_path / "reference.tif"), (tmp_path / "map.tif", theirs), (ours, theirs)):
        found = evaluate(*pair).matrix
        assert found.names == expected.names
        assert np.array_equal(found.counts, expected.counts)


@pytest.mark.parametrize("moved", [0, 3, 0.5])
def test_whole_floats_on_another_grid(tmp_path: Path, moved: float) -> None:
    mapped, reference = patches(0, *SHAPE), patches(1, *SHAPE, codes=(0, 1, 2, NODATA))
    there = {**UTM, "transform": UTM["transform"] @ Affine.translation(moved, moved) @ Affine.scale(1, 1 + moved / 9)}
    stored = np.where(reference == NODATA, np.float32(np.nan), reference.astype(np.float32))
    expected = evaluate(
        write(tmp_path / "map.tif", mapped, **UTM), write(tmp_path / "bytes.tif", reference, **there)
    ).matrix
    found = evaluate(tmp_path / "map.tif", write(tmp_path / "floats.tif", stored, nodata=None, **there)).matrix
    assert np.array_equal(found.counts, expected.counts)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("moved", [0, 5, 0.5])
@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette"])
def test_colors_of_the_legend_count_as_its_codes(tmp_path: Path, kind: str, moved: float) -> None:
    codes = DEEPGLOBE.codes if kind == "rgb" else (*DEEPGLOBE.codes, NODATA)
    reference = patches(1, *SHAPE, codes=codes)
    mapped = wrong(2, patches(1, *SHAPE, codes=(0, 1, 2, 3, 4, 5)))
    there = {**UTM, "transform": UTM["transform"] @ Affine.translation(moved, -moved)}
    ours = write(tmp_path / "map.tif", mapped, legend=DEEPGLOBE, **UTM)
    truth = write(tmp_path / "truth.tif", reference, legend=DEEPGLOBE, **there)
    expected = evaluate(ours, truth).matrix
    picture = colored(tmp_path / "picture.tif", reference, DEEPGLOBE, kind, **there)
    said: list[str] = []
    found = evaluate(ours, picture, announce=said.append).matrix
    assert (found.names, found.counts.tolist()) == (expected.names, expected.counts.tolist())
    assert any(line.endswith(("by its colors", "by the colors of its palette")) for line in said)
    # the map is the picture, and names come from the reference
    turned, back = evaluate(truth, ours).matrix, evaluate(picture, ours).matrix
    assert (back.names, back.counts.tolist()) == (turned.names, turned.counts.tolist())


def test_two_palettes_without_names_are_matched_by_their_colors(tmp_path: Path) -> None:
    codes = patches(1, *SHAPE, codes=(0, 1, 2))
    two = Legend(DEEPGLOBE.classes[:3])
    turned = Legend(tuple(LandCover(2 - each.code, each.name, each.color) for each in reversed(two.classes)))
    ours = colored(tmp_path / "ours.tif", codes, two, "palette", **UTM)
    theirs = colored(tmp_path / "theirs.tif", 2 - codes, turned, "palette", **UTM)
    with rasterio.open(ours) as a, rasterio.open(theirs) as b:
        assert not np.array_equal(a.read(), b.read())
    assert evaluate(ours, theirs).metrics.overall_accuracy == 1


def test_colors_that_indexes_share_are_told_apart_by_neither(tmp_path: Path) -> None:
    codes = patches(1, *SHAPE, codes=(0, 1, 2))
    two = Legend((*DEEPGLOBE.classes[:2], LandCover(2, "twin", DEEPGLOBE.classes[1].color)))
    ours = colored(tmp_path / "ours.tif", codes, two, "palette", **UTM)
    theirs = colored(tmp_path / "theirs.tif", codes, two, "palette", **UTM)
    assert evaluate(ours, theirs).metrics.overall_accuracy == 1


def test_a_palette_in_other_colors_is_its_indexes_and_said(tmp_path: Path) -> None:
    codes = patches(1, *SHAPE, codes=(0, 1, 2))
    gray = Legend(tuple(LandCover(2 - code, f"g{code}", (50 + code,) * 3) for code in (2, 1, 0)))
    ours = write(tmp_path / "map.tif", codes, legend=DEEPGLOBE, **UTM)
    theirs = colored(tmp_path / "theirs.tif", 2 - codes, gray, "palette", **UTM)
    said: list[str] = []
    assert evaluate(ours, theirs, announce=said.append).metrics.overall_accuracy == 1
    assert any("its indexes are the codes" in line for line in said)


def test_a_picture_in_other_colors_is_refused_with_some_of_them(tmp_path: Path) -> None:
    ours = write(tmp_path / "map.tif", patches(1, *SHAPE), legend=DEEPGLOBE, **UTM)
    other = Legend(tuple(LandCover(code, f"c{code}", (9, code, 7)) for code in range(4)))
    picture = colored(tmp_path / "picture.tif", patches(1, *SHAPE), other, "rgb", **UTM)
    with pytest.raises(SceneError, match=r"such as rgb\(9,\d,7\).*expected urban_land rgb\(0,255,255\)") as caught:
        evaluate(ours, picture)
    assert "gdal_translate" not in str(caught.value)
    assert evaluate(ours, picture, reference_legend=other, legend=other).metrics.overall_accuracy == 1


@pytest.mark.parametrize(("dtype", "code"), [("uint32", 2**31), ("int64", -(2**40)), ("uint64", 2**63)])
def test_codes_beyond_32_bits_are_refused_by_the_name_of_their_file(tmp_path: Path, dtype: str, code: int) -> None:
    pixels = patches(1, *SHAPE).astype(dtype)
    pixels[7, 7] = code
    wide = write(tmp_path / "wide.tif", pixels, nodata=None, **UTM)
    other = write(tmp_path / "other.tif", patches(1, *SHAPE), **UTM)
    for pair in ((wide, other), (other, wide)):
        with pytest.raises(SceneError, match=rf"wide\.tif holds the code {code}"):
            evaluate(*pair)


def test_black_and_white_is_no_map_without_a_legend(tmp_path: Path) -> None:
    two = Legend((LandCover(0, "ground", (0, 0, 0)), LandCover(1, "roof", (255, 255, 255))))
    codes = patches(1, *SHAPE, codes=(0, 1))
    picture = colored(tmp_path / "picture.tif", codes, two, "rgb", **UTM)
    plain = write(tmp_path / "map.tif", codes, **UTM)
    with pytest.raises(SceneError, match="black-and-white picture, which may be any mask; give a legend"):
        evaluate(plain, picture)
    assert evaluate(plain, picture, legend=two).metrics.overall_accuracy == 1


def test_masks_beside_the_nodata_value(tmp_path: Path) -> None:
    reference = patches(4, *SHAPE)
    mapped = wrong(5, reference)
    paths = both(tmp_path, mapped, reference, nodata=None)
    masked = np.random.default_rng(6).random(SHAPE) < 0.3
    for path, mask in zip(paths, (~masked, np.fliplr(~masked)), strict=True):
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    found = evaluate(*paths)
    np.testing.assert_array_equal(found.matrix.counts, counts(reference, mapped, ~masked & np.fliplr(~masked)))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (13, -20), (-30, 41)])
def test_a_reference_moved_by_whole_pixels_is_read_and_not_warped(tmp_path: Path, rows: int, cols: int) -> None:
    truth = patches(7, 400, 400)
    mapped = wrong(8, truth[100 : 100 + SHAPE[0], 100 : 100 + SHAPE[1]])
    there = truth[100 + rows : 200 + rows, 100 + cols : 220 + cols]
    moved = UTM["transform"] @ Affine.translation(cols, rows)
    first = write(tmp_path / "map.tif", mapped, **UTM)
    second = write(tmp_path / "reference.tif", there, **{**UTM, "transform": moved}, nodata=None)
    said: list[str] = []
    found = evaluate(first, second, announce=said.append)
    laid = np.full(SHAPE, 99, np.uint8)
    top, left = max(rows, 0), max(cols, 0)
    part = there[top - rows : SHAPE[0] - rows, left - cols : SHAPE[1] - cols]
    laid[top : top + part.shape[0], left : left + part.shape[1]] = part
    np.testing.assert_array_equal(found.matrix.counts, counts(laid, mapped, laid != 99))
    assert found.left_out.no_reference == (laid == 99).sum()
    assert not said


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("nodata", [NODATA, None])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32631", Affine(7, 0, 400_100, 0, -7, 4_999_900)),
        ("EPSG:4326", Affine(0.0001, 0, 1.745, 0, -0.0001, 45.145)),
        ("EPSG:3857", Affine(12, 4, 191_900, 4, -12, 5_644_600)),
    ],
)
def test_another_grid_is_warped_by_nearest_neighbour(
    tmp_path: Path, crs: str, transform: Affine, nodata: int | None
) -> None:
    truth = patches(9, 260, 260, side=13)
    if nodata is not None:
        truth[40:60] = nodata
    reference = write(tmp_path / "reference.tif", truth, crs=crs, transform=transform, nodata=nodata)
    laid = np.full(SHAPE, 99, np.uint8)
    place = {"src_transform": transform, "src_crs": crs, "dst_transform": UTM["transform"], "dst_crs": UTM["crs"]}
    options = {"resampling": Resampling.nearest, "src_nodata": nodata, "dst_nodata": 99, "init_dest_nodata": True}
    reproject(truth, laid, **place, **options, tolerance=0)
    mapped = wrong(10, np.where(laid == 99, 0, laid))
    said: list[str] = []
    found = evaluate(write(tmp_path / "map.tif", mapped, **UTM), reference, announce=said.append)
    wanted = counts(laid, mapped, laid != 99, found.matrix.codes)
    assert 0 < (laid != 99).sum() < laid.size
    assert np.abs(found.matrix.counts - wanted).sum() <= 0.002 * laid.size
    assert "nearest neighbor" in said[0]
    assert (crs in said[0]) == (crs != "EPSG:32631")
    assert said[0] in found.notes


def test_a_class_that_only_the_map_has_is_noted(tmp_path: Path) -> None:
    reference = np.tile(np.array([1, 2], np.uint8), (8, 4))
    mapped = reference.copy()
    mapped[0, :3] = 4
    found = evaluate(*both(tmp_path, mapped, reference))
    (note,) = (note for note in found.notes if "no pixel in the reference" in note)
    assert note.startswith("class 4 has")
    assert f"mIoU {found.metrics.miou_of_reference:.4f} without it" in note
    assert not any("no pixel in the reference" in note for note in evaluate(*both(tmp_path, reference, mapped)).notes)


@pytest.mark.parametrize("threads", [0, -1])
def test_at_least_one_thread_counts(tmp_path: Path, threads: int) -> None:
    path = write(tmp_path / "map.tif", np.ones((4, 5), np.uint8))
    with pytest.raises(UsageError, match=f"`threads` must be at least 1, got {threads}"):
        evaluate(path, path, threads=threads)


def test_a_legend_of_the_reference_that_is_none_is_called_so(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", np.ones((4, 5), np.uint8))
    with pytest.raises(UsageError, match="`reference_legend`: it holds no classes") as caught:
        evaluate(path, path, legend={1: "water"}, reference_legend={})
    assert caught.value.parameter == "reference_legend"
    picture = write(tmp_path / "picture.tif", np.full((3, 4, 5), 77, np.uint8), nodata=None)
    with pytest.raises(SceneError, match=r"picture\.tif is a picture") as refused:
        evaluate(path, picture)
    assert refused.value.parameter == "reference_legend"


def test_neither_tiles_nor_threads_change_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = patches(11, *SHAPE)
    place = {"crs": "EPSG:4326", "transform": Affine(0.001, 0, 5, 0, -0.002, 60)}
    paths = both(tmp_path, wrong(12, reference), reference, **place, tiled=True, blockxsize=16, blockysize=16)
    found = []
    for tile_px in (16 * 16, 48 * 48, 2**21):
        monkeypatch.setattr(comparison, "_TILE_PX", tile_px)
        found += [evaluate(*paths, areas=True, threads=threads) for threads in (1, 3)]
    assert all(each.matrix == found[0].matrix for each in found)
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert one.areas == other.areas
    for each in found:
        assert each.areas is not None
        assert found[0].areas is not None
        wanted = [area.area for area in found[0].areas.classes]
        np.testing.assert_allclose([area.area for area in each.areas.classes], wanted, rtol=1e-12)


def test_a_warped_reference_in_strips_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = patches(11, 256, 200)
    beside = {"crs": UTM["crs"], "transform": UTM["transform"] @ Affine.translation(0.3, 0.3)}
    mapped = write(tmp_path / "map.tif", wrong(12, codes), tiled=True, blockxsize=32, blockysize=32, **UTM)
    strips = write(tmp_path / "strips.tif", codes, blockysize=8, **beside)
    blocks = write(tmp_path / "blocks.tif", codes, tiled=True, blockxsize=32, blockysize=32, **beside)
    monkeypatch.setattr(comparison, "_TILE_PX", 32 * 64)
    widths: dict[str, set[int]] = {}
    read = comparison.WarpedRaster.read

    def noted(self: Any, window: Any) -> Any:
        widths.setdefault(Path(self.raster.scene.path).name, set()).add(window.width)
        return read(self, window)

    monkeypatch.setattr(comparison.WarpedRaster, "read", noted)
    assert evaluate(mapped, strips).matrix == evaluate(mapped, blocks).matrix
    assert widths["strips.tif"] == {200}
    assert max(widths["blocks.tif"]) == 32


def legend(*names: str, start: int = 0) -> Legend:
    return Legend(tuple(LandCover(start + i, name, (i, i, i)) for i, name in enumerate(names)))


def test_classes_are_matched_by_name_where_both_have_names(tmp_path: Path) -> None:
    truth = patches(13, *SHAPE, codes=(0, 1, 2))
    guess = wrong(14, truth)
    mapped = write(tmp_path / "map.tif", guess, legend=legend("water", "forest land", "Urban"), **UTM)
    ours_in_theirs = np.array([12, 10, 11], np.uint8)
    theirs = legend("forest_land", "urban", "WATER", start=10)
    reference = write(tmp_path / "reference.tif", ours_in_theirs[truth], legend=theirs, **UTM)
    found = evaluate(mapped, reference)
    assert found.matrix.names == ("water", "forest land", "Urban")
    np.testing.assert_array_equal(found.matrix.counts, counts(truth, guess))


def test_a_class_that_only_one_of_them_has_is_an_error_and_said(tmp_path: Path) -> None:
    truth = patches(15, *SHAPE, codes=(0, 1, 2))
    mapped = write(tmp_path / "map.tif", np.minimum(truth, 1), legend=legend("water", "forest"), **UTM)
    theirs = legend("forest", "water", "bog")  # 0 and 1 swapped; code 2 is bog
    swapped = np.array([1, 0, 2], np.uint8)[truth]
    reference = write(tmp_path / "reference.tif", swapped, legend=theirs, **UTM)
    said: list[str] = []
    found = evaluate(mapped, reference, announce=said.append)
    assert dict(found.matrix) == {0: "water", 1: "forest", 2: "bog"}
    assert found.metrics.classes[2].iou == 0
    assert found.matrix.counts[2].tolist() == [0, (truth == 2).sum(), 0]
    assert said == ["the legends differ, and pixels of these classes count as errors: only the reference has bog"]
    without = evaluate(mapped, reference, ignore="bog")
    assert without.metrics.overall_accuracy == 1
    assert without.left_out.ignored == (truth == 2).sum()


def test_a_code_without_name_is_a_class_of_its_own_raster(tmp_path: Path) -> None:
    truth = patches(16, *SHAPE, codes=(0, 1))
    mapped = write(tmp_path / "map.tif", truth, legend=legend("water", "forest"), **UTM)
    shifted = np.where(truth == 0, 1, 7).astype(np.uint8)  # water is 1, and 7 has no name
    reference = write(tmp_path / "reference.tif", shifted, legend=legend("bog", "water"), **UTM)
    found = evaluate(mapped, reference)
    assert found.matrix.names == ("water", "forest", "class 7")
    assert found.matrix.counts.tolist() == [[(truth == 0).sum(), 0, 0], [0, 0, 0], [0, (truth == 1).sum(), 0]]


def test_legends_given_in_files(tmp_path: Path) -> None:
    truth = patches(17, *SHAPE, codes=(0, 1, 2))
    paths = both(tmp_path, wrong(18, truth), np.array([30, 10, 20], np.uint8)[truth])
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    ours.write_text("code,name\n0,water\n1,forest\n2,town\n")
    theirs.write_text("code,name\n10,forest\n20,town\n30,water\n")
    found = evaluate(*paths, legend=ours, reference_legend=theirs)
    np.testing.assert_array_equal(found.matrix.counts, counts(truth, wrong(18, truth)))
    assert found.matrix.names == ("water", "forest", "town")
    by_code = evaluate(*paths, legend=ours)
    assert by_code.metrics.overall_accuracy == 0
    assert by_code.matrix.names == ("water", "forest", "town", "class 10", "class 20", "class 30")


def test_legends_without_a_class_in_common_are_refused(tmp_path: Path) -> None:
    truth = patches(19, *SHAPE, codes=(0, 1))
    mapped = write(tmp_path / "map.tif", truth, legend=legend("water", "forest"), **UTM)
    reference = write(tmp_path / "reference.tif", truth, legend=legend("eau", "bois"), **UTM)
    with pytest.raises(
        UsageError, match=r"share no class: the map has water \(0\), forest \(1\), the reference has eau"
    ):
        evaluate(mapped, reference)


def test_ignored_by_code_and_by_name(tmp_path: Path) -> None:
    truth = patches(20, *SHAPE, codes=(0, 1, 6))
    guess = wrong(21, truth)
    paths = (
        write(tmp_path / "map.tif", guess, legend=DEEPGLOBE, **UTM),
        write(tmp_path / "reference.tif", truth, legend=DEEPGLOBE, **UTM),
    )
    kept = (truth != 6) & (guess != 6)
    for ignore in ("unknown", "6", ["Unknown"], [6]):
        found = evaluate(*paths, ignore=ignore)
        np.testing.assert_array_equal(found.matrix.counts, counts(truth, guess, kept, range(6)))
        assert found.left_out.ignored == (~kept).sum()
    with pytest.raises(UsageError, match="`ignore`: no class is called 'bog'"):
        evaluate(*paths, ignore="bog")


def test_a_code_to_ignore_that_is_two_classes_is_refused(tmp_path: Path) -> None:
    truth = patches(22, *SHAPE, codes=(0, 1))
    mapped = write(tmp_path / "map.tif", truth, legend=legend("water", "forest"), **UTM)
    reference = write(tmp_path / "reference.tif", truth, legend=legend("forest", "water"), **UTM)
    with pytest.raises(UsageError, match="`ignore=0` is water in the map and forest in the reference"):
        evaluate(mapped, reference, ignore="0")


def test_some_classes_alone(tmp_path: Path) -> None:
    truth = patches(23, *SHAPE)
    guess = wrong(24, truth)
    paths = (write(tmp_path / "map.tif", guess, legend=DEEPGLOBE, **UTM), write(tmp_path / "ref.tif", truth, **UTM))
    whole = evaluate(*paths, areas=True)
    found = evaluate(*paths, classes="rangeland,0", areas=True)
    assert found.matrix.names == ("urban_land", "rangeland", "other classes")
    assert found.metrics.classes[1].iou == whole.metrics.classes[2].iou
    assert found.areas is not None
    assert whole.areas is not None
    assert found.areas.classes == (whole.areas.classes[0], whole.areas.classes[2])
    with pytest.raises(UsageError, match="did you mean 'water'"):
        evaluate(*paths, classes="watr")


def test_confidence(tmp_path: Path) -> None:
    truth = patches(25, *SHAPE)
    guess = wrong(26, truth)
    percent = np.random.default_rng(27).integers(40, 101, SHAPE).astype(np.uint8)
    percent[:9], truth[:, :3] = NODATA, NODATA
    paths = both(tmp_path, guess, truth)
    found = evaluate(*paths, confidence=write(tmp_path / "c.tif", percent, **UTM))
    counted = (percent != NODATA) & (truth != NODATA)
    bins = np.ceil(percent[counted] / 10).astype(int) - 1
    right = (truth == guess)[counted]
    error = sum(
        abs(right[bins == i].mean() - percent[counted][bins == i].mean() / 100) * (bins == i).mean()
        for i in np.unique(bins)
    )
    assert found.calibration is not None
    assert found.calibration.pixels == counted.sum()
    assert found.calibration.error == pytest.approx(error)
    fractions = np.where(percent == NODATA, np.nan, percent / 100).astype(np.float32)
    again = evaluate(*paths, confidence=write(tmp_path / "f.tif", fractions, nodata=np.nan, **UTM))
    assert again.calibration is not None
    assert again.calibration.error == pytest.approx(error, abs=1e-6)
    with pytest.raises(SceneError, match="not on the map's grid"):
        evaluate(*paths, confidence=write(tmp_path / "g.tif", percent[1:], **UTM))


@pytest.mark.parametrize("lacking", ["confidence", "map"])
def test_a_part_of_a_map_takes_the_confidence_of_the_whole_where_one_crs_is_missing(
    tmp_path: Path, lacking: str
) -> None:
    truth = patches(25, *SHAPE)
    guess = wrong(26, truth)
    percent = np.random.default_rng(27).integers(40, 101, SHAPE).astype(np.uint8)
    whole = write(tmp_path / "c.tif", percent, **UTM | ({"crs": None} if lacking == "confidence" else {}))
    window = geoseg.Window(11, 22, 33, 44)
    place = UTM | {"transform": UTM["transform"] @ Affine.translation(window.col, window.row)}
    place |= {"crs": None} if lacking == "map" else {}
    paths = both(tmp_path, guess[window.rows, window.cols], truth[window.rows, window.cols], **place)
    part = write(tmp_path / "part.tif", percent[window.rows, window.cols], **place)
    found, expected = (evaluate(*paths, confidence=path).calibration for path in (whole, part))
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.count_px, expected.count_px)
    bare = {"crs": None, "transform": Affine.identity()}
    paths = both(tmp_path, guess[:9, :9], truth[:9, :9], **bare)
    with pytest.raises(SceneError, match="is not on the map's grid"):
        evaluate(*paths, confidence=write(tmp_path / "c.tif", percent, **bare))


def test_areas_of_a_census_are_those_on_the_ellipsoid(tmp_path: Path) -> None:
    truth = patches(28, 40, 30, codes=(0, 1, 2))
    transform = Affine(0.5, 0, -3, 0, -0.5, 62)
    paths = both(tmp_path, wrong(29, truth), truth, crs="EPSG:4326", transform=transform)
    found = evaluate(*paths, areas=True)
    geod = Geod(ellps="WGS84")
    rows = []
    for row in range(40):
        top, bottom = 62 - 0.5 * row, 61.5 - 0.5 * row
        # parallels are not great circles, so many short steps
        lons = np.linspace(0, 0.5, 400)
        ring = [*zip(lons, np.full(400, bottom), strict=True), *zip(lons[::-1], np.full(400, top), strict=True)]
        rows.append(abs(geod.polygon_area_perimeter(*zip(*ring, strict=True))[0]))
    weights = np.repeat(np.array(rows)[:, None], 30, axis=1)
    assert found.areas is not None
    for each in found.areas.classes:
        assert each.area == pytest.approx(weights[truth == each.code].sum(), rel=1e-7)
        assert each.mapped == pytest.approx(weights[wrong(29, truth) == each.code].sum(), rel=1e-7)
        assert each.standard_error == 0
    assert found.areas.total == pytest.approx(weights.sum(), rel=1e-7)


def test_areas_from_half_the_map_are_of_the_whole(tmp_path: Path) -> None:
    truth = patches(30, *SHAPE, codes=(0, 1, 2), side=3)
    guess = wrong(31, truth, 0.3)
    sample = np.where(np.random.default_rng(32).random(SHAPE) < 0.5, truth, NODATA).astype(np.uint8)
    said: list[str] = []
    found = evaluate(*both(tmp_path, guess, sample), areas=True, announce=said.append)
    assert found.areas is not None
    assert found.areas.total == truth.size * 100
    for each in found.areas.classes:
        assert each.low <= (truth == each.code).sum() * 100 <= each.high
        assert each.mapped == (guess == each.code).sum() * 100
    assert any("not a random sample" in line for line in said)


def test_areas_without_a_place_are_in_pixels(tmp_path: Path) -> None:
    truth = patches(33, *SHAPE)
    paths = write(tmp_path / "a.tif", truth), write(tmp_path / "b.tif", truth)
    found = evaluate(*paths, areas=True)
    assert found.areas is not None
    assert found.areas.unit == "px"
    assert [each.area for each in found.areas.classes] == np.bincount(truth.ravel()).tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transform": Affine(10, 0, 900_000, 0, -10, 5_000_000)}, "do not overlap"),
        ({"crs": "EPSG:32655"}, "do not overlap"),
        ({"crs": None, "transform": Affine.identity(), "pixels": patches(0, 9, 9)}, "georeference them"),
        ({"pixels": np.zeros((2, *SHAPE), np.uint8)}, "has 2 bands"),
        ({"pixels": np.full(SHAPE, 0.5, np.float32)}, "holds 0.5; class codes must be whole"),
        (
            {"pixels": np.full(SHAPE, NODATA, np.uint8)},
            r"no pixel counts \(\d+ without a class in the reference\); check that",
        ),
        ({"pixels": np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.int32)}, "more than 1024 codes"),
    ],
)
def test_rasters_that_cannot_be_compared(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    mapped = write(tmp_path / "map.tif", patches(0, *SHAPE), **UTM)
    pixels = change.pop("pixels", patches(0, *SHAPE))
    reference = write(tmp_path / "reference.tif", pixels, **{**UTM, **change})
    with pytest.raises(SceneError, match=words) as caught:
        evaluate(mapped, reference, tmp_path / "report")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


def test_where_every_pixel_is_ignored_the_way_out_is_said(tmp_path: Path) -> None:
    maps = both(tmp_path, np.ones((4, 5), np.uint8), np.ones((4, 5), np.uint8))
    with pytest.raises(SceneError, match="nothing to compare: no pixel counts \\(20 ignored\\); check `ignore`"):
        evaluate(*maps, ignore=1)


@pytest.mark.parametrize("whose", ["map", "reference"])
def test_points_that_cannot_place_a_raster_are_said(tmp_path: Path, whose: str) -> None:
    placed, bare = write(tmp_path / "placed.tif", patches(0, *SHAPE), **UTM), tmp_path / "bare.tif"
    points = [GroundControlPoint(10, col, 400_000 + col, 5e6) for col in (0, 10, 20)]
    write(bare, patches(0, 9, 9), gcps=points, crs=UTM["crs"])
    with pytest.raises(SceneError, match=f"; the {whose}'s 3 ground control points cannot place it: their pixels all"):
        evaluate(*((bare, placed) if whose == "map" else (placed, bare)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reference": None}, "got neither"),
        ({"sample": "points.csv"}, "add `areas=True`"),
        ({"column": "class"}, "`column` is for a sample or polygons"),
        ({"reference": None, "sample": "points.csv", "confidence": "c.tif"}, "`confidence` needs a reference"),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate("map.tif", **{"reference": "reference.tif", **options})


def test_a_damaged_tile_is_one_line(tmp_path: Path) -> None:
    truth = patches(35, 512, 512)
    mapped, reference = both(tmp_path, truth, truth, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = bytearray(reference.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    reference.write_bytes(content)
    with pytest.raises(SceneError, match=r"cannot read .*reference.tif") as caught:
        evaluate(mapped, reference)
    assert "\n" not in str(caught.value)


def test_progress_ends_with_all_pixels(tmp_path: Path) -> None:
    truth = patches(36, *SHAPE)
    seen: list[geoseg.Progress] = []
    evaluate(*both(tmp_path, truth, truth), progress=seen.append)
    assert (seen[-1].pixels_done, seen[-1].pieces_done) == (truth.size, seen[-1].pieces_total)


def test_a_run_that_is_stopped_stops_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_TILE_PX", 16 * 210)
    truth = patches(38, 900, 210)

    def stop(_state: geoseg.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(*both(tmp_path, truth, truth), progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geoseg-evaluate")]


def test_neither_torch_nor_matplotlib_is_loaded(tmp_path: Path) -> None:
    truth = patches(37, *SHAPE)
    paths = both(tmp_path, truth, truth)
    program = (
        "import sys, geoseg; geoseg.evaluate(*sys.argv[1:]); "
        "print([name for name in ('torch', 'matplotlib', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_map_of_a_real_reference(shared_data: Path, tmp_path: Path) -> None:
    """A map made from a mask's colors is right everywhere by that mask, a picture without georeference."""
    masks = sorted((shared_data / "deepglobe").rglob("*_mask.png"))
    if not masks:
        pytest.skip("no DeepGlobe masks here")
    with rasterio.open(masks[0]) as file:
        colors = file.read()
    codes = np.full(colors.shape[1:], NODATA, np.uint8)
    for cover in DEEPGLOBE:
        codes[np.all(colors == np.array(cover.color)[:, None, None], axis=0)] = cover.code
    path = write(tmp_path / "truth.tif", codes, legend=DEEPGLOBE)
    found = evaluate(path, masks[0])
    assert found.metrics.overall_accuracy == 1
    assert found.matrix.reference_px.tolist() == [(codes == code).sum() for code in range(7)]


@pytest.mark.parametrize("west", [-180.0, 0.0])
@pytest.mark.parametrize(
    ("crs", "x", "y", "pixel"),
    [
        ("EPSG:32631", 400_000, 5_000_000, 1000),
        ("EPSG:32714", 400_000, 8_000_000, 1000),
        ("EPSG:4326", 179.9, 10, 0.01),
        ("EPSG:4326", -180.1, 10, 0.01),
        ("EPSG:4326", 200, 10, 0.01),
    ],
)
def test_a_reference_of_the_whole_world_covers_any_map(
    tmp_path: Path, crs: str, x: float, y: float, pixel: float, west: float
) -> None:
    place = Affine(pixel, 0, x, 0, -pixel, y)
    landcover = write(tmp_path / "map.tif", np.ones((20, 20), np.uint8), crs=crs, transform=place)
    everywhere = Affine(1, 0, west, 0, -1, 90)
    world = write(tmp_path / "world.tif", np.ones((180, 360), np.uint8), crs="EPSG:4326", transform=everywhere)

    assert evaluate(landcover, world).matrix.counts.sum() == 400


def test_a_reference_on_pixels_of_the_map_s_size_covers_both_sides_of_the_180th_meridian(tmp_path: Path) -> None:
    codes = patches(5, 20, 20)
    for name, west in (("map", 179.9), ("reference", -180.1)):
        write(tmp_path / f"{name}.tif", codes, crs="EPSG:4326", transform=Affine(0.01, 0, west, 0, -0.01, 10))
    matrix = evaluate(tmp_path / "map.tif", tmp_path / "reference.tif").matrix
    assert matrix.counts.trace() == matrix.counts.sum() == 400
