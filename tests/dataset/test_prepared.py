"""Prepared scenes: the same bits as a direct read, complete or absent, and numpy's values at another resolution."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.dataset import (
    Area,
    PreparedScene,
    band_statistics_of,
    class_px_of,
    open_dataset,
    prepare,
    split,
)
from geoseg.dataset.pair import reference_codes
from geoseg.dataset.prepare import _Axis, _NpyWriter, _resample_codes
from geoseg.errors import OutputError, SceneError, UsageError
from geoseg.progress import Progress
from geoseg.raster import Patch, Scene, Window

from .conftest import COLORS, MakeTile, noise, patchwork, write_raster

MakePair = Callable[..., np.ndarray]
PREPARE = sys.modules["geoseg.dataset.prepare"]


def _all(folder: Path, cache: Path, **how: Any) -> tuple[PreparedScene, ...]:
    dataset = open_dataset(folder)
    return prepare(dataset, split(dataset, "all").train, cache, **how)


def test_what_is_prepared_is_what_the_files_hold(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a", (150, 170))
    data = noise(4, 128, 160, dtype="uint16", seed=5, high=4000)
    data[:, 30:50, :40] = 0
    make_pair("b", seed=1)
    write_raster(tmp_path / "images" / "b.tif", data, nodata=0)
    dataset = open_dataset(tmp_path)
    for pair, scene in zip(dataset.pairs, _all(tmp_path, tmp_path / "cache"), strict=True):
        assert (scene.id, scene.shape, scene.gsd_m) == (pair.id, pair.scene.shape, 10.0)
        for window in (pair.whole, Window(-5, 100, 60, 90), Window(20, 20, 1, 1), Window(900, 0, 4, 4)):
            mine, direct = scene.read(window), pair.scene.read(window)
            assert np.array_equal(mine.data, direct.data)
            assert mine.data.dtype == direct.data.dtype
            assert np.array_equal(mine.valid, direct.valid)
            assert np.array_equal(scene.codes(window), reference_codes(pair, window))
        codes = reference_codes(pair, pair.whole)
        found, counts = np.unique(codes[codes != 255], return_counts=True)
        assert scene.class_px == dict(zip(found.tolist(), counts.tolist(), strict=True))


def test_a_real_tile_is_prepared_bit_for_bit(shared_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(shared_data / "deepglobe")
    pair = dataset.pair("119")
    (scene,) = prepare(dataset, [Area("119")], tmp_path)
    assert np.array_equal(scene.read(pair.whole).data, pair.scene.read(pair.whole).data)
    assert np.array_equal(scene.codes(pair.whole), reference_codes(pair, pair.whole))
    (small,) = prepare(dataset, [Area("119")], tmp_path, size_px=512)
    assert small.shape == (512, 512)
    assert small.gsd_m == pytest.approx(2448 / 512 * 0.5)


def test_areas_hide_all_else(tmp_path: Path, make_pair: MakePair) -> None:
    labels = make_pair("a")
    dataset = open_dataset(tmp_path)
    windows = (Window(3, 5, 70, 30), Window(80, 90, 40, 70))
    (scene,) = prepare(dataset, [Area("a", window) for window in windows], tmp_path / "cache")
    expected = np.full(labels.shape, 255, np.uint8)
    for window in windows:
        expected[window.rows, window.cols] = labels[window.rows, window.cols]
    assert np.array_equal(scene.codes(Window(0, 0, *labels.shape)), expected)
    counts = np.bincount(expected.ravel(), minlength=256)[:255]
    assert scene.class_px == {code: int(counts[code]) for code in np.flatnonzero(counts)}
    assert class_px_of([scene, scene]) == {code: 2 * pixels for code, pixels in scene.class_px.items()}
    (half,) = prepare(dataset, [Area("a", windows[0])], tmp_path / "cache", gsd_m=20.0)
    assert half.areas == (Window(2, 3, 34, 14),)


def test_statistics_are_those_of_all_valid_pixels(tmp_path: Path, make_pair: MakePair) -> None:
    for seed, name in enumerate("ab"):
        make_pair(name, seed=seed)
    scenes = _all(tmp_path, tmp_path / "cache")
    pixels = np.concatenate([scene.read(Window(0, 0, *scene.shape)).data.reshape(4, -1) for scene in scenes], axis=1)
    found = band_statistics_of(scenes)
    assert found.mean == pytest.approx(pixels.mean(axis=1))
    assert found.std == pytest.approx(pixels.std(axis=1))
    assert found.high == pytest.approx(np.percentile(pixels, 98, axis=1))


def test_a_prepared_scene_travels_as_a_path(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    (scene,) = _all(tmp_path, tmp_path / "cache")
    scene.read(Window(0, 0, 9, 9))
    sent = pickle.dumps(scene)
    assert len(sent) < 4000
    assert np.array_equal(pickle.loads(sent).codes(Window(0, 0, 9, 9)), scene.codes(Window(0, 0, 9, 9)))  # noqa: S301


def test_what_is_there_is_not_decoded_again_and_what_changed_is(
    tmp_path: Path, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair("a")
    make_pair("b")
    cache, moments = tmp_path / "cache", []
    first = _all(tmp_path, cache, progress=moments.append)
    assert [moment.pieces_done for moment in moments] == [1, 2]
    assert moments[-1].pixels_now == moments[-1].pixels_total == 2 * 128 * 160
    make_pair("b", seed=9)
    again: list[Progress] = []
    second = _all(tmp_path, cache, progress=again.append)
    assert again[-1].pixels_now == 128 * 160
    assert second[0].folder == first[0].folder
    assert second[1].folder != first[1].folder
    monkeypatch.setattr(PREPARE, "_write", None)
    assert _all(tmp_path, cache) == second


_KILLED = """
import os, signal, sys
from geoseg.dataset import open_dataset, prepare, split
from pathlib import Path

prepare_module = sys.modules["geoseg.dataset.prepare"]
whole, prepare_module._THREADS, count = prepare_module._strip, 1, 0
prepare_module._STRIP_PX = 64 * 160

def strip(*arguments):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)

prepare_module._strip = strip
dataset = open_dataset(sys.argv[1])
prepare(dataset, split(dataset, "all").train, Path(sys.argv[2]))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_kill_leaves_nothing_wrong(tmp_path: Path, make_pair: MakePair) -> None:
    for seed, name in enumerate("ab"):
        make_pair(name, seed=seed)
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(cache)]
    for strip in (2, 4):  # in the middle of the first scene, then of the second
        done = subprocess.run([*command, str(strip)], check=False, capture_output=True)
        assert done.returncode == -9, done.stderr
    assert len(list(cache.glob(".*.tmp"))) == 1
    dataset = open_dataset(tmp_path)
    for pair, scene in zip(dataset.pairs, _all(tmp_path, cache), strict=True):
        assert np.array_equal(scene.read(pair.whole).data, pair.scene.read(pair.whole).data)
        assert np.array_equal(scene.codes(pair.whole), reference_codes(pair, pair.whole))
    assert not list(cache.glob(".*.tmp"))


_WHOLE = _KILLED.replace("int(sys.argv[3])", "None")


def _read_all(folder: Path) -> None:
    for scene in _all(folder, folder / "cache"):
        scene.read(Window(0, 0, 4, 4))
        scene.codes(Window(0, 0, 4, 4))


@pytest.mark.parametrize("name", ["image.npy", "codes.npy", "cells.npy"])
@pytest.mark.parametrize("left", [None, b"", b"\x93NUMPY\x01"])
def test_a_file_that_left_the_cache_is_one_line(
    tmp_path: Path, make_pair: MakePair, name: str, left: bytes | None
) -> None:
    make_pair("a")
    (scene,) = _all(tmp_path, tmp_path / "cache")
    file = Path(scene.folder) / name
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    with pytest.raises(SceneError, match=rf"cannot read .*{name}: .*; remove the folder .* and run again"):
        _read_all(tmp_path)


def test_two_processes_may_prepare_at_once(tmp_path: Path, make_pair: MakePair) -> None:
    for seed, name in enumerate("abc"):
        make_pair(name, (300, 160), seed=seed)
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", _WHOLE, str(tmp_path), str(cache)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    scenes = _all(tmp_path, cache)
    assert {Path(scene.folder) for scene in scenes} == {path for path in cache.iterdir() if path.is_dir()}
    for pair, scene in zip(open_dataset(tmp_path).pairs, scenes, strict=True):
        assert np.array_equal(scene.read(pair.whole).data, pair.scene.read(pair.whole).data)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair("a")
    cache = tmp_path / "cache"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_NpyWriter, "write", full)
        with pytest.raises(OutputError, match="the disk is full"):
            _all(tmp_path, cache)
        assert [path.suffix for path in cache.iterdir()] == [".lock"]
    with monkeypatch.context() as patch:
        patch.setattr(PREPARE, "free_space_bytes", lambda _folder: 1000)
        with pytest.raises(OutputError, match=r"need \d\S* GB in .*, and only 1e-06 GB are free"):
            _all(tmp_path, cache)
    assert len(_all(tmp_path, cache)) == 1


def test_damaged_images_are_one_line_and_the_others_stay(tmp_path: Path, make_tile: MakeTile) -> None:
    for name in ("1", "2"):
        make_tile(tmp_path, name, (400, 300))
    whole = (tmp_path / "2_sat.jpg").read_bytes()
    (tmp_path / "2_sat.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SceneError, match=r"2_sat.jpg") as caught:
        _all(tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob(".*.tmp"))
    (tmp_path / "2_sat.jpg").write_bytes(whole)
    mask = (tmp_path / "1_mask.png").read_bytes()
    (tmp_path / "1_mask.png").write_bytes(mask[: len(mask) // 2])
    with pytest.raises(SceneError, match=r"1_mask.png"):
        _all(tmp_path, tmp_path / "cache")


def test_stray_colours_are_counted_said_and_refused(tmp_path: Path, make_tile: MakeTile) -> None:
    codes = make_tile(tmp_path, "7")
    picture = COLORS[codes].transpose(2, 0, 1).copy()
    picture[:, 0, :5] = 99
    write_raster(tmp_path / "7_mask.png", picture)
    said: list[str] = []
    for _ in range(2):
        (scene,) = _all(tmp_path, tmp_path / "cache", announce=said.append)
    assert sum(scene.class_px.values()) == codes.size - 5
    assert len(said) == 2
    assert "5 pixels (0.07%) with rgb(99,99,99)" in said[0]
    picture[:, 0, :9] = 98
    write_raster(tmp_path / "7_mask.png", picture)
    with pytest.raises(SceneError, match=r"9 pixels \(0.12%\)"):
        _all(tmp_path, tmp_path / "cache")


def test_options_that_cannot_be_right(tmp_path: Path, make_tile: MakeTile, make_pair: MakePair) -> None:
    make_pair("a")
    dataset = open_dataset(tmp_path)
    for how, message in (
        ({"gsd_m": 1.0, "size_px": 4}, "not both"),
        ({"gsd_m": 0.0}, "more than 0"),
        ({"size_px": 0}, "at least 1 pixel"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare(dataset, [Area("a")], tmp_path / "cache", **how)
    with pytest.raises(UsageError, match="no scene 'z'"):
        prepare(dataset, [Area("z")], tmp_path / "cache")
    write_raster(tmp_path / "s.png", noise(3, 20, 20))
    flat = write_raster(tmp_path / "t.png", patchwork((20, 20), 2)[None])
    with pytest.raises(UsageError, match="give `data_gsd_m`"):
        _ = prepare(
            (other := open_dataset(tmp_path / "s.png", labels=flat)),
            split(other, "all").train,
            tmp_path / "cache",
            gsd_m=2.0,
        )
    make_tile(tmp_path / "d", "1")


def _overlaps(length: int, new_length: int) -> np.ndarray:
    """Return (new, old): the fraction of each new pixel that each old pixel covers."""
    edges = np.arange(new_length + 1) * length / new_length
    old = np.arange(length)
    inside = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return inside.clip(0) * new_length / length


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.data())
def test_shrinking_takes_the_majority_of_classes(height: int, width: int, data: Any) -> None:
    rows = _Axis(height, data.draw(st.integers(1, height)))
    cols = _Axis(width, data.draw(st.integers(1, width)))
    rng = np.random.default_rng(height * 100 + width)
    down, across = _overlaps(height, rows.new_length), _overlaps(width, cols.new_length)
    start = data.draw(st.integers(0, rows.new_length - 1))
    stop = data.draw(st.integers(start + 1, rows.new_length))
    first, after = rows.source(start, stop)
    codes = rng.choice(np.array([0, 1, 4, 255], np.uint8), (height, width))
    found = _resample_codes(codes[first:after], rows, cols, start, stop)
    shares = {code: (down @ (codes == code) @ across.T)[start:stop] for code in (0, 1, 4, 255)}
    for place in np.ndindex(found.shape):
        mine = {code: table[place] for code, table in shares.items()}
        ignored = mine.pop(255)
        if found[place] == 255:
            assert ignored > 0.5 - 1e-6
        else:
            assert ignored < 0.5 + 1e-6
            assert mine[int(found[place])] >= max(mine.values()) - 1e-6


def test_growing_invents_no_class() -> None:
    codes = patchwork((4, 5), 3, patch_px=1)
    grown = _resample_codes(codes, _Axis(4, 12), _Axis(5, 10), 0, 12)
    assert np.array_equal(grown, codes.repeat(3, axis=0).repeat(2, axis=1))
    first, after = _Axis(4, 12).source(5, 8)
    assert np.array_equal(_resample_codes(codes[first:after], _Axis(4, 12), _Axis(5, 10), 5, 8), grown[5:8])


def test_the_height_of_strips_does_not_matter(
    tmp_path: Path, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair("a", (700, 300))
    whole = Window(0, 0, 253, 108)
    (first,) = _all(tmp_path, tmp_path / "one", gsd_m=27.7)
    monkeypatch.setattr(PREPARE, "_STRIP_PX", 300 * 80)
    (second,) = _all(tmp_path, tmp_path / "two", gsd_m=27.7)
    assert first.shape == whole.shape
    assert first.gsd_m == 27.7
    assert np.array_equal(first.read(whole).data, second.read(whole).data)
    assert np.array_equal(first.codes(whole), second.codes(whole))
    assert np.array_equal(first.cells, second.cells)


def test_statistics_read_only_the_pixels_that_are_sampled(tmp_path: Path) -> None:
    with (tmp_path / "image.npy").open("wb") as file:
        head = {"descr": "|u1", "fortran_order": False, "shape": (1, 300, 1_000_000)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + 300_000_000)
    area, cells = Window(0, 0, 300, 1_000_000), np.zeros((0, 1, 1), np.uint16)
    scene = PreparedScene("wide", str(tmp_path), area.shape, 1, "uint8", None, True, (area,), (), cells)
    tracemalloc.start()
    try:
        assert band_statistics_of([scene]).mean == (0.0,)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


def test_statistics_of_many_bands_need_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "image.npy").open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (100, 1000, 1000)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + 4 * 100 * 1000 * 1000)
    area, cells = Window(0, 0, 1000, 1000), np.zeros((0, 1, 1), np.uint16)
    scene = PreparedScene("deep", str(tmp_path), area.shape, 100, "float32", None, True, (area,), (), cells)
    tracemalloc.start()
    try:
        assert band_statistics_of([scene]).high == (0.0,) * 100
        assert tracemalloc.get_traced_memory()[1] < 250e6
    finally:
        tracemalloc.stop()


def test_statistics_of_areas_take_each_nth_valid_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).normal(50, 9, (2, 150, 170)).astype(np.float32)
    valid = np.random.default_rng(1).random((150, 170)) < 0.7
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "valid.npy", valid)
    areas, cells = (Window(3, 5, 70, 30), Window(80, 90, 41, 70)), np.zeros((0, 1, 1), np.uint16)
    scene = PreparedScene("a", str(tmp_path), (150, 170), 2, "float32", None, False, areas, (), cells)
    monkeypatch.setattr(sys.modules["geoseg.dataset.prepared_scene"], "_SAMPLES", sum(area.size for area in areas) / 9)
    taken = [np.s_[area.row : area.row_stop : 3, area.col : area.col_stop : 3] for area in areas]
    pixels = np.concatenate([image[:, *part][:, valid[part]] for part in taken], axis=1).astype(float)
    found = band_statistics_of([scene])
    assert found.mean == pytest.approx(pixels.mean(axis=1), rel=1e-12)
    assert found.low == pytest.approx(np.percentile(pixels, 2, axis=1), rel=1e-12)


def test_statistics_of_few_valid_pixels_between_the_sampled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = np.zeros((150, 170), np.bool_)
    valid[45, 53] = True
    np.save(tmp_path / "image.npy", np.full((2, 150, 170), 7, np.uint8))
    np.save(tmp_path / "valid.npy", valid)
    area, cells = Window(0, 0, 150, 170), np.zeros((0, 1, 1), np.uint16)
    scene = PreparedScene("sparse", str(tmp_path), (150, 170), 2, "uint8", None, False, (area,), (), cells)
    monkeypatch.setattr(sys.modules["geoseg.dataset.prepared_scene"], "_SAMPLES", area.size / 36)
    assert band_statistics_of([scene]).mean == (7, 7)


def test_scenes_of_many_bands_are_prepared_in_lower_strips(
    tmp_path: Path, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair("a", (512, 128))
    data = noise(16, 512, 128, dtype="uint16", high=4000)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    write_raster(tmp_path / "images" / "a.tif", data, **tiled)
    monkeypatch.setattr(PREPARE, "_STRIP_BYTES", 1 << 20)
    read, taken = Scene.read, []

    def noted(scene: Scene, window: Window) -> Patch:
        patch = read(scene, window)
        taken.append(patch.data.nbytes)
        return patch

    monkeypatch.setattr(Scene, "read", noted)
    (scene,) = _all(tmp_path, tmp_path / "cache")
    assert max(taken) <= 1 << 20
    assert np.array_equal(scene.read(Window(0, 0, 512, 128)).data, data)
