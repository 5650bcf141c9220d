"""A file of polygons is complete or absent, and an existing file stays until the new one is complete."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyogrio
import pytest
from rasterio.crs import CRS

from geoseg.errors import OutputError, SceneError, UsageError
from geoseg.vector import check_target
from geoseg.vector.io.formats import write
from geoseg.vector.polygons import FeatureTable
from tests.vector.features import SUFFIXES, dissolved, layer, read, shapes, table, theirs

FORMATS = (".gpkg", ".parquet", ".fgb", ".geojson", ".geojsonl")


class Interrupted(BaseException):
    """An error that behaves like Ctrl-C."""


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("failure", [SceneError("the raster is cut short"), Interrupted(), OutputError("full")])
@pytest.mark.parametrize("there", [True, False])
def test_what_the_tables_raise_comes_out_and_leaves_nothing(
    tmp_path: Path, suffix: str, failure: BaseException, *, there: bool
) -> None:
    path = tmp_path / f"cover{suffix}"
    before = theirs(path) if there else b""
    target = check_target(path, overwrite=True)

    def tables() -> Iterator[FeatureTable]:
        yield table(*shapes(1))
        yield table(*shapes(2))
        raise failure

    with pytest.raises(type(failure)) as caught:
        write(target, layer(), tables())
    assert caught.value is failure
    assert [entry.name for entry in tmp_path.iterdir()] == ([path.name] if there else [])
    assert not there or path.read_bytes() == before


def style_of(path: Path) -> set[str]:
    """Return the name of the style file, or nothing for a GeoPackage, which contains its style."""
    return set() if path.suffix == ".gpkg" else {f"{path.stem}.qml"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_old_file_is_replaced_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cover{suffix}"
    path.write_bytes(b"" if suffix == ".gpkg" else b"theirs")
    write(check_target(path, overwrite=True), layer(), [table(*shapes(1))])
    assert len(read(path)) == len(shapes(1)[0])
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, *style_of(path)}


def test_folders_are_made_if_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; check the path"):
        check_target(tmp_path / "new" / "folder" / "cover.fgb")
    target = check_target(tmp_path / "new" / "folder" / "cover.fgb", mkdir=True)
    write(target, layer(), [table(*shapes(1))])
    assert target.is_file()


def test_the_names_of_layer_and_file_may_hold_anything(tmp_path: Path) -> None:
    for name in ("a b", 'quo"te', "semi;colon'", "bang!", "日本", "select", "x" * 60):
        for suffix in (".gpkg", ".fgb", ".GeoJSON"):
            target = check_target(tmp_path / name / f"{name}{suffix}", mkdir=True)
            write(target, layer(name=name), [table(*shapes(1))])
            plain = shutil.copy(target, tmp_path / f"plain{suffix}")  # pyogrio cannot read every name
            assert pyogrio.list_layers(plain)[0, 0] == name
            assert {entry.name for entry in target.parent.iterdir()} == {target.name, *style_of(target)}
            target.unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX's")
def test_a_disk_that_takes_no_more_is_one_line(tmp_path: Path) -> None:
    program = """
        import resource, signal, sys
        from geoseg.errors import OutputError
        from geoseg.vector.io.formats import check_target, write
        from tests.vector.features import layer, shapes, table
        given = table(*shapes(1, 200))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        for path in sys.argv[1:]:
            try:
                write(check_target(path, overwrite=True), layer(), [given])
            except OutputError as error:
                print(error)
    """
    paths = [tmp_path / f"cover{suffix}" for suffix in FORMATS]
    before = [theirs(path) for path in paths]
    run = _run(program, *map(str, paths))
    assert run.stderr == ""
    for line, path, content in zip(run.stdout.splitlines(), paths, before, strict=True):
        assert line.startswith(f"cannot write {path}: ")
        assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == len(paths)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_says_so(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geoseg.vector.io.formats.sync_file", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write(check_target(tmp_path / f"cover{suffix}"), layer(), [table(*shapes(1))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".fgb", ".geojson"])
def test_a_file_too_large_for_its_disk_is_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Only for FlatGeobuf is it an open question: GDAL removes its half-written files before it reports a failure."""
    resource = pytest.importorskip("resource", reason="Windows limits no sizes of files")
    monkeypatch.setattr("geoseg.vector.io.arrow._DISK_FULL_BYTES", 0)
    monkeypatch.setattr("geoseg.vector.io.arrow.free_space_bytes", lambda _folder: 50_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"riting (batch|feature)") as failed:
            write(check_target(tmp_path / f"cover{suffix}"), layer(), [table(*shapes(1, 200))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full" not in str(failed.value)
    assert ("is the disk full? " in str(failed.value)) == (suffix == ".fgb")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_run_leaves_no_file_at_the_final_name(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = """
        import os, signal, sys
        from geoseg.vector.io.formats import check_target, write
        from tests.vector.features import layer, shapes, table
        given = table(*shapes(1, 200))
        def tables():
            yield given
            os.kill(os.getpid(), signal.SIGKILL)
        write(check_target(sys.argv[1]), layer(), [given])  # GeoJSON: kernels are loaded once, and GDAL is not used
        os.unlink(sys.argv[1])
        for path in sys.argv[2:]:
            if not (child := os.fork()):
                write(check_target(path), layer(), tables())
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
    paths = [tmp_path / f"cover{suffix}" for suffix in FORMATS]
    once = tmp_path_factory.mktemp("once") / "once.geojson"
    assert _run(program, *map(str, [once, *paths])).stdout.split() == [str(-signal.SIGKILL)] * len(FORMATS)
    assert len(list(tmp_path.iterdir())) == len(FORMATS)
    assert all(entry.name.startswith(".geoseg-") for entry in tmp_path.iterdir())
    for path in paths:
        write(check_target(path), layer(), [table(*shapes(1))])
        assert len(read(path)) == len(shapes(1)[0])


def test_a_geopackage_opened_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cover.gpkg"
    before = theirs(path)
    target = check_target(path, overwrite=True)

    def tables() -> Iterator[FeatureTable]:
        path.with_name("cover.gpkg-wal").touch()
        yield table(*shapes(1))

    with pytest.raises(OutputError, match="another program"):
        write(target, layer(), tables())
    assert path.read_bytes() == before


def test_settings_of_gdal_are_put_back(tmp_path: Path) -> None:
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "NORMAL", "OGR_SQLITE_JOURNAL": None})
    try:
        write(check_target(tmp_path / "cover.gpkg"), layer(), [table(*shapes(1))])
        assert pyogrio.get_gdal_config_option("OGR_SQLITE_SYNCHRONOUS") == "NORMAL"
        assert pyogrio.get_gdal_config_option("OGR_SQLITE_JOURNAL") is None
    finally:
        pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": None})


def test_a_polygon_too_large_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.vector.io.geopackage._BLOB_BYTES", 1000)
    monkeypatch.setattr("geoseg.vector.io.arrow.GDAL_FEATURE_BYTES", 1000)
    for suffix in (".gpkg", ".fgb", ".geojson"):
        with pytest.raises(OutputError, match="vertices"):
            write(check_target(tmp_path / f"cover{suffix}"), layer(), [table(*shapes(1, 100))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_multipolygon_is_not_taken_for_a_polygon(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="multi"):
        write(check_target(tmp_path / f"cover{suffix}"), layer(), [table(*dissolved(*shapes(1)))])
    assert not list(tmp_path.iterdir())


def test_a_crs_without_a_way_to_it(tmp_path: Path) -> None:
    moon = CRS.from_proj4("+proj=longlat +R=1737400 +no_defs")
    with pytest.raises(UsageError, match=r"no transformation from EPSG:32631.* a format other than GeoJSON") as refused:
        write(check_target(tmp_path / "cover.gpkg"), layer(), [table(*shapes(1))], crs=moon)
    assert refused.value.parameter == "crs"
    assert not list(tmp_path.iterdir())


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
