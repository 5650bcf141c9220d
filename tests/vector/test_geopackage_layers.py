"""Writing polygons into an existing GeoPackage replaces one layer and leaves everything else unchanged."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import shapely
from rasterio.crs import CRS

from geoseg.errors import OutputError, UsageError
from geoseg.vector import check_target, vectorize
from geoseg.vector.io import formats, geopackage
from geoseg.vector.io.formats import write
from tests.buckets import Bucket
from tests.vector.features import PLACE, UTM, layer, shapes, table, theirs

_OTHERS = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT,
  f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT, ui TEXT, update_time DATETIME);
INSERT INTO layer_styles (f_table_name, styleName, styleQML, useAsDefault) VALUES ('my parcels', 'a', '<qgis/>', 1);
CREATE TABLE qgis_projects (name TEXT PRIMARY KEY, metadata BLOB, content BLOB);
INSERT INTO qgis_projects VALUES ('project', 'm', x'00FF');
CREATE TABLE notes (id INTEGER PRIMARY KEY, cover INTEGER REFERENCES "Cover" (fid) ON DELETE CASCADE);
INSERT INTO notes VALUES (1, 1);
CREATE VIEW seen AS SELECT * FROM "my parcels";
CREATE TRIGGER counted AFTER INSERT ON notes BEGIN UPDATE qgis_projects SET metadata = 'n'; END;
INSERT INTO gpkg_metadata (md_scope, md_standard_uri, mime_type, metadata) VALUES ('dataset', 'x', 'text/xml', '<a/>');
INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) VALUES ('table', 'my parcels', 1);
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a GeoPackage with a layer `Cover` among many other contents."""
    path = tmp_path / "project.gpkg"
    boxes = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=[shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)], crs=UTM)
    odd = CRS.from_proj4("+proj=laea +lat_0=47 +lon_0=8")
    for name, crs in (("my parcels", UTM), ("Cover", UTM), ('it"s', odd)):
        boxes.to_crs(crs).to_file(path, layer=name)
    pixels = np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32)
    with rasterio.open(
        path, "w", driver="GPKG", width=32, height=32, count=3, dtype="uint8", crs=UTM, transform=PLACE,
        APPEND_SUBDATASET="YES", RASTER_TABLE="photo", TILE_FORMAT="PNG",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    with closing(sqlite3.connect(path)) as database, database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        others = _OTHERS if "gpkg_metadata" in tables else _OTHERS[: _OTHERS.index("INSERT INTO gpkg_metadata")]
        database.executescript(others)
    return path


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("name", "crs"),
    [
        ("Cover", UTM),
        ("cover", CRS.from_proj4("+proj=laea +lat_0=30 +lon_0=9")),
        ("new", None),
        ("日本 'a'", UTM),
        ("1st", UTM),
    ],
)
def test_everything_else_is_as_it_was(project: Path, name: str, crs: CRS | None) -> None:
    project.chmod(0o640)
    before = _content(project, name)
    target = check_target(project, overwrite=True, layer=name)
    for seed in (1, 2):  # the second time over what the first one wrote
        polygons, codes = shapes(seed)
        write(target, layer(name=name, crs=crs), [table(polygons, codes)])
    after = _content(project, name)
    # The layer may add its reference system; existing ones stay.
    assert set(before.pop("gpkg_spatial_ref_sys")) <= set(after.pop("gpkg_spatial_ref_sys"))
    assert after == before
    found = pyogrio.read_dataframe(project, layer=name)
    assert shapely.to_wkb(shapely.normalize(found.geometry)).tolist() == [
        shapely.to_wkb(one) for one in shapely.normalize(polygons)
    ]
    assert found.code.tolist() == codes.tolist()
    assert (found.crs is None) == (crs is None)
    if crs is not None:
        assert CRS.from_wkt(found.crs.to_wkt()) == crs
    assert [row for row in _styles(project) if row[0] == name] == [(name, name, 1)]
    with closing(sqlite3.connect(project)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        index = database.execute(f'SELECT count(*) FROM "rtree_{name}_geometry"').fetchone()[0]  # noqa: S608 - our names
    assert index == len(found)
    assert [entry.name for entry in project.parent.iterdir()] == [project.name]
    if os.name != "nt":
        assert stat.S_IMODE(project.stat().st_mode) == 0o640
    assert set(pyogrio.list_layers(project)[:, 0]) >= {"my parcels", 'it"s', name}


def test_what_is_no_file_gives_its_layer_a_name_too(tmp_path: Path) -> None:
    path = _map(tmp_path)
    with rioxarray.open_rasterio(path) as array:
        vectorize(array, tmp_path / "cover.gpkg")
    assert pyogrio.list_layers(tmp_path / "cover.gpkg")[:, 0].tolist() == ["cover", "layer_styles"]
    vrt = tmp_path / "map.vrt"
    rasterio.shutil.copy(path, vrt, driver="VRT")
    vectorize(vrt.read_text().replace('relativeToVRT="1">', f'relativeToVRT="0">{tmp_path}/'), tmp_path / "text.gpkg")
    assert pyogrio.list_layers(tmp_path / "text.gpkg")[:, 0].tolist() == ["map", "layer_styles"]


def test_an_old_layer_needs_leave_and_a_new_one_does_not(project: Path) -> None:
    before = project.read_bytes()
    for name in ("Cover", "COVER", "my parcels"):
        with pytest.raises(OutputError, match=f"layer '{name}'.*overwrite.*keeps all other layers"):
            check_target(project, layer=name)
    assert check_target(project, layer="new") == project
    assert project.read_bytes() == before


@pytest.mark.parametrize("name", ["photo", "notes", "seen", "counted", "qgis_projects2"])
def test_what_is_no_layer_of_features_is_not_replaced(project: Path, name: str) -> None:
    with closing(sqlite3.connect(project)) as database:
        database.execute("CREATE TABLE qgis_projects2 (a)")
    before = project.read_bytes()
    with pytest.raises(OutputError, match=f"named '{name}', which is not replaced; choose another `layer`"):
        check_target(project, layer=name, overwrite=True)
    assert project.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["layer_styles", "gpkg_contents", "sqlite_sequence", "rtree_a", "qgis_projects", "", " ", "a\nb", '"a"']
)
def test_a_name_that_no_layer_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"^`layer.*(choose another|such as landcover)$"):
        vectorize(_map(tmp_path), tmp_path / "new.gpkg", layer=name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.tif"]


@pytest.mark.parametrize("out", ["map.fgb", "map.geojson", "map.parquet", None])
def test_files_without_layers_refuse_one(tmp_path: Path, out: str | None) -> None:
    with pytest.raises(UsageError, match=r"`layer` .*\.gpkg"):
        vectorize(_map(tmp_path), None if out is None else tmp_path / out, layer="landcover")


@pytest.mark.parametrize("content", [b"theirs", b"SQLite format 3\0" + bytes(84), "sqlite", "tiff"])
def test_what_is_no_geopackage_is_left_alone(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "project.gpkg"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "tiff":
        _map(tmp_path).rename(path)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE dear (to_somebody)")
    before = path.read_bytes()
    with pytest.raises(OutputError) as caught:
        check_target(path, overwrite=True)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_layer_has_the_maps_name(project: Path) -> None:
    said: list[str] = []
    vectorize(_map(project.parent), project, announce=said.append)
    assert "project.gpkg keeps its other layers; only 'map' is written" in said
    vectorize(project.parent / "map.tif", project, layer="Other")
    vectorize(project.parent / "map.tif", project, overwrite=True)
    with pytest.raises(OutputError, match="layer 'map'"):
        vectorize(project.parent / "map.tif", project)
    names = pyogrio.list_layers(project)[:, 0].tolist()
    assert names.count("map") == names.count("Other") == 1
    assert len(read_layer(project, "map")) == len(read_layer(project, "Other"))


def test_a_file_of_one_layer_has_no_others_to_keep(tmp_path: Path) -> None:
    said: list[str] = []
    for overwrite in (False, True):
        vectorize(_map(tmp_path), tmp_path / "map.gpkg", overwrite=overwrite, announce=said.append)
    assert not [line for line in said if "other layers" in line]


def test_a_style_of_theirs_stays_the_default(project: Path) -> None:
    target = check_target(project, overwrite=True, layer="cover")
    write(target, layer(), [table(*shapes(1))])
    with closing(sqlite3.connect(project)) as database, database:
        database.execute(
            "INSERT INTO layer_styles (f_table_name, styleName, styleQML, useAsDefault) VALUES ('cover', 'b', 'c', 1)"
        )
    write(target, layer(), [table(*shapes(2))])
    assert [row for row in _styles(project) if row[0] == "cover"] == [("cover", "b", 1), ("cover", "cover", 0)]


def test_only_a_file_in_use_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(geopackage, "_check_kind", refuse)
    with pytest.raises(OutputError, match="Permission denied; check the folder and its permissions"):
        geopackage.check_file(tmp_path / "locked.gpkg", "cover", overwrite=False)


def test_a_file_that_is_being_written_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geopackage, "_LOCK_TIMEOUT_S", 0.1)
    before = project.read_bytes()
    target = check_target(project, layer="new")
    with closing(sqlite3.connect(project, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for attempt in (
            lambda: check_target(project, layer="new"),
            lambda: write(target, layer(name="new"), [table(*shapes(1))]),
        ):
            with pytest.raises(OutputError, match="written by another program"):
                attempt()
    assert project.read_bytes() == before


def test_nobody_else_writes_while_the_copy_is_made(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = []

    def sync_file(_path: Path) -> None:
        with closing(sqlite3.connect(project, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("INSERT INTO notes VALUES (2, 2)")
        locked.append(True)

    monkeypatch.setattr(formats, "sync_file", sync_file)
    write(check_target(project, layer="new"), layer(name="new"), [table(*shapes(1))])
    assert locked == [True]


def test_a_change_by_other_means_is_not_lost(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = project.read_bytes()

    def sync_file(_path: Path) -> None:
        project.write_bytes(content + bytes(4096))

    monkeypatch.setattr(formats, "sync_file", sync_file)
    with pytest.raises(OutputError, match="changed by another program"):
        write(check_target(project, layer="new"), layer(name="new"), [table(*shapes(1))])
    assert project.read_bytes() == content + bytes(4096)


def test_a_file_in_wal_mode_keeps_its_content(project: Path) -> None:
    with closing(sqlite3.connect(project)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO notes VALUES (5, 5)")
        database.commit()
    write(check_target(project, layer="new"), layer(name="new"), [table(*shapes(1))])
    with closing(sqlite3.connect(project)) as database:
        assert database.execute("SELECT id FROM notes").fetchall() == [(1,), (5,)]
    assert len(read_layer(project, "new")) == len(shapes(1)[0])


def test_a_file_in_wal_mode_gets_several_layers(project: Path) -> None:
    """SQLite's log of the old file would count as one of a program that has the new file open."""
    with closing(sqlite3.connect(project)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    for name in ("first", "second"):
        write(check_target(project, layer=name), layer(name=name), [table(*shapes(1))])
        assert not list(project.parent.glob(f"{project.name}-*"))


def test_too_little_room_for_a_copy_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geopackage, "free_space_bytes", lambda _folder: 1000)
    before = project.read_bytes()
    with pytest.raises(OutputError, match=r"a copy of it with the new layer needs .* GB.* are free"):
        write(check_target(project, layer="new"), layer(name="new"), [table(*shapes(1))])
    assert project.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "project.gpkg", tmp_path / "link.gpkg"
    real.parent.mkdir()
    theirs(real)
    link.symlink_to(real)
    write(check_target(link, layer="new"), layer(name="new"), [table(*shapes(1))])
    assert link.is_symlink()
    assert set(pyogrio.list_layers(real)[:, 0]) == {"parcels", "new", "layer_styles"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_run_leaves_the_old_file(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The run is killed at each moment in turn, in forks of a process that has not used GDAL before."""
    program = """
        import os, signal, sys
        from geoseg.vector.io import formats, geopackage
        from tests.vector.features import layer, shapes, table
        given = table(*shapes(1))
        formats.write(formats.check_target(sys.argv[2]), layer(), [given])  # kernels are loaded once
        def die(before, room, name):
            work = getattr(room, name)
            def killed(*arguments, **named):
                if not before:
                    work(*arguments, **named)
                os.kill(os.getpid(), signal.SIGKILL)
            for each in (formats, geopackage):
                if hasattr(each, name):
                    setattr(each, name, killed)
            target = formats.check_target(sys.argv[1], overwrite=True, layer="cover")
            formats.write(target, layer(name="cover"), [given])
        def content():
            with open(sys.argv[1], "rb") as file:
                return file.read()
        before = content()
        for moment in (
            (True, geopackage, "move_layer"),
            (False, geopackage, "remove_layer"),
            (False, geopackage, "copy_gdal"),
            (False, formats, "sync_file"),
        ):
            if not (child := os.fork()):
                die(*moment)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(moment[2], ended == -signal.SIGKILL, content() == before, flush=True)
    """
    before, once = project.read_bytes(), tmp_path_factory.mktemp("once") / "once.geojson"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(project), str(once)],
        check=False, cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    moments = ("move_layer", "remove_layer", "copy_gdal", "sync_file")
    assert run.stdout.splitlines() == [f"{moment} True True" for moment in moments]
    assert project.read_bytes() == before
    beside = [entry.name for entry in project.parent.iterdir() if entry != project]
    assert all(name.startswith(".geoseg-") for name in beside)
    write(check_target(project, overwrite=True, layer="cover"), layer(name="cover"), [table(*shapes(1))])


def read_layer(path: Path, name: str) -> geopandas.GeoDataFrame:
    return pyogrio.read_dataframe(path, layer=name)


def test_a_file_in_a_store_with_other_layers_is_not_replaced(bucket: Bucket, project: Path, tmp_path: Path) -> None:
    before = project.read_bytes()
    bucket.write("project.gpkg", before)
    bucket.write("notes.gpkg", b"mine")
    url, landcover = bucket.url("project.gpkg"), _map(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=f"{url} holds more than the layer 'cover', .*qgis_projects") as refused:
            vectorize(landcover, url, layer="cover", overwrite=overwrite)
        assert refused.value.parameter == "out"
    with pytest.raises(OutputError, match=r"notes\.gpkg exists and is not a GeoPackage"):
        vectorize(landcover, bucket.url("notes.gpkg"), overwrite=True)
    assert bucket.read("project.gpkg") == before
    assert bucket.read("notes.gpkg") == b"mine"


def test_a_file_in_a_store_with_that_layer_alone_is_replaced_when_asked(bucket: Bucket, tmp_path: Path) -> None:
    url, landcover = bucket.url("map.gpkg"), _map(tmp_path)
    assert vectorize(landcover, url) == url
    with pytest.raises(OutputError, match=f"{url} exists; add `overwrite=True`"):
        vectorize(landcover, url)
    with pytest.raises(OutputError, match=f"{url} holds more than the layer 'more', .*: map;"):
        vectorize(landcover, url, layer="more", overwrite=True)
    vectorize(landcover, url, layer="MAP", overwrite=True)
    vectorize(landcover, bucket.url("street.gpkg"), layer="STRASSE")
    with pytest.raises(OutputError, match=r"street\.gpkg holds more than the layer 'straße', .*: STRASSE;"):
        vectorize(landcover, bucket.url("street.gpkg"), layer="straße", overwrite=True)

    def change(*_arguments: object) -> None:
        bucket.write("map.gpkg", b"changed")

    with pytest.raises(OutputError, match=f"another program wrote {url}"):
        vectorize(landcover, url, overwrite=True, progress=change)
    assert bucket.read("map.gpkg") == b"changed"


def _map(folder: Path) -> Path:
    path = folder / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", crs=UTM, transform=PLACE
    ) as dataset:
        dataset.write(np.random.default_rng(1).integers(0, 3, (8, 8)).astype(np.uint8), 1)
    return path


def _styles(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(
            "SELECT f_table_name, styleName, useAsDefault FROM layer_styles ORDER BY 1, 2"
        ).fetchall()


def _content(path: Path, without: str) -> dict[str, Any]:
    """Return the contents of a GeoPackage row for row, except one layer and its entries."""
    with closing(sqlite3.connect(path)) as database:
        entries = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        content: dict[str, Any] = {}
        for kind, name, of, sql in entries:
            own = f"rtree_{without}_".casefold() in name.casefold() or without.casefold() in {
                name.casefold(),
                of.casefold(),
            }
            if own or name == "sqlite_sequence":
                continue
            content[f"{kind} {name}"] = sql
            if kind == "table":
                quoted = name.replace('"', '""')
                rows = database.execute(f'SELECT * FROM "{quoted}"').fetchall()  # noqa: S608 - a test's own file
                content[name] = sorted(repr(row) for row in rows if not _tells_of(row, without))
    return content


def _tells_of(row: tuple[Any, ...], name: str) -> bool:
    return any(isinstance(value, str) and value.casefold() == name.casefold() for value in row)
