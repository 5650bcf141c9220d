"""Outputs that cannot be written, and existing files that must not be lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rasterio
import rasterio.shutil

from tests.adversity.conftest import Predict
from tests.adversity.promises import check_map, check_refused, files_in
from tests.adversity.scenes import write_scene

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


def refused(predict: Predict, scene: Path, code: int, *arguments: object) -> str:
    before = files_in(scene.parent)
    return check_refused(predict(scene, *arguments), code, scene.parent, before)


@pytest.mark.parametrize("option", ["--out", "--confidence"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("here", "is a folder"),
        ("scene.tif/map.tif", "is a file, not a folder"),
        ("m" * 300 + ".tif", "name too long"),
        ("m" * 248 + ".tif", "name too long"),
        ("https://127.0.0.1/map.tif", "outputs must be local files"),
        ("/vsimem/map.tif", "outputs must be local files"),
    ],
)
def test_a_name_that_no_file_can_have(predict: Predict, scene: Path, option: str, name: str, says: str) -> None:
    (scene.parent / "here").mkdir()
    path = name if "://" in name or name.startswith("/vsi") else scene.parent / name
    others = ("--out", scene.parent / "map.tif") if option != "--out" else ()
    assert says.lower() in refused(predict, scene, 1, *others, option, path).lower()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files, such as /proc")
def test_a_folder_that_takes_no_files(predict: Predict, scene: Path) -> None:
    assert "cannot write /proc/map.tif" in refused(predict, scene, 1, "--out", "/proc/map.tif")
    assert "not a regular file" in refused(predict, scene, 1, "--out", os.devnull, "--overwrite")


def test_the_longest_name_that_fits_works(predict: Predict, scene: Path) -> None:
    target = scene.parent / ("m" * (255 - len(".tif.aux.xml")) + ".tif")
    outcome = predict(scene, "--out", target)
    assert outcome.code == 0, outcome
    check_map(target, scene)


def test_an_existing_map_stays(predict: Predict, scene: Path) -> None:
    (scene.parent / "map.tif").write_bytes(b"precious")
    assert "add --overwrite" in refused(predict, scene, 1, "--out", scene.parent / "map.tif")
    assert "add --overwrite" in refused(
        predict, scene, 1, "--out", scene.parent / "new.tif", "--confidence", scene.parent / "map.tif"
    )


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_the_scene_is_no_output(
    predict: Predict, scene: Path, monkeypatch: pytest.MonkeyPatch, overwrite: tuple[str, ...]
) -> None:
    monkeypatch.chdir(scene.parent)
    for name in (scene, "scene.tif", "../place/scene.tif"):
        refused(predict, scene, 2, "--out", name, *overwrite)
        refused(predict, scene, 2, "--out", "map.tif", "--confidence", name, *overwrite)


@needs_links
def test_links_to_the_scene_are_no_output(predict: Predict, scene: Path) -> None:
    link = scene.parent / "link.tif"
    link.symlink_to(scene)
    assert "is read by this run" in refused(predict, scene, 2, "--out", link, "--overwrite")
    assert "is read by this run" in refused(predict, link, 2, "--out", scene, "--overwrite")


@needs_links
def test_a_link_that_leads_in_a_circle_is_replaced(predict: Predict, scene: Path) -> None:
    circle = scene.parent / "circle.tif"
    circle.symlink_to(circle)
    assert predict(scene, "--out", circle).code == 0
    check_map(circle, scene)


@needs_links
def test_a_hard_link_to_the_scene_is_parted_from_it(predict: Predict, scene: Path) -> None:
    before = scene.read_bytes()
    os.link(scene, scene.parent / "hard.tif")
    assert predict(scene, "--out", scene.parent / "hard.tif", "--overwrite").code in {0, 2}
    assert scene.read_bytes() == before


def test_the_sources_of_a_virtual_scene_are_no_output(predict: Predict, scene: Path) -> None:
    inner, outer = scene.parent / "inner.vrt", scene.parent / "outer.vrt"
    rasterio.shutil.copy(scene, inner, driver="VRT")
    outer.write_text(inner.read_text().replace("scene.tif", "inner.vrt"))
    for name, said in (("scene.tif", "is read by this run"), ("inner.vrt", "GeoTIFF"), ("outer.vrt", "GeoTIFF")):
        assert said in refused(predict, outer, 2, "--out", scene.parent / name, "--overwrite")


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".aux.xml"])
def test_a_sidecar_of_the_map_is_no_scene(predict: Predict, folder: Path, suffix: str) -> None:
    scene = write_scene(folder / "scene.tif").rename(folder / f"map.tif{suffix}")
    assert "is read by this run" in refused(predict, scene, 2, "--out", folder / "map.tif")


def test_the_model_is_no_output(predict: Predict, scene: Path, model: Path) -> None:
    before = model.read_bytes()
    assert "must be a GeoTIFF" in refused(predict, scene, 2, "--out", model, "--overwrite")
    assert model.read_bytes() == before


def test_products_need_names_of_their_own(predict: Predict, scene: Path) -> None:
    for other in ("map.tif", "../place/map.tif", "map.tiff", "map.tif.aux.xml"):
        refused(predict, scene, 2, "--out", scene.parent / "map.tif", "--confidence", scene.parent / other)
    refused(predict, scene, 2, "--out", scene.parent / "map.qml")


def test_a_style_of_another_layer_stays(predict: Predict, scene: Path) -> None:
    style = scene.parent / "map.qml"
    style.write_text("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis>years of work</qgis>")
    assert "map.qml" in refused(predict, scene, 1, "--out", scene.parent / "map.tif")
    assert predict(scene, "--out", scene.parent / "map.tif", "--overwrite").code == 0
    assert "years of work" not in style.read_text()


def test_a_style_of_an_earlier_map_is_replaced(predict: Predict, scene: Path) -> None:
    assert predict(scene, "--out", scene.parent / "map.tif").code == 0
    (scene.parent / "map.tif").unlink()
    assert predict(scene, "--out", scene.parent / "map.tif").code == 0


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_folder_of_somebody_else_stays(predict: Predict, scene: Path, overwrite: tuple[str, ...]) -> None:
    (scene.parent / "map.tif.parts").mkdir()
    (scene.parent / "map.tif.parts" / "notes.txt").write_text("mine")
    before = files_in(scene.parent)
    outcome = predict(scene, "--out", scene.parent / "map.tif", *overwrite)
    assert outcome.code == 1
    assert "move it" in outcome.error
    assert files_in(scene.parent) == before


def test_a_file_where_the_parts_would_go(predict: Predict, scene: Path) -> None:
    (scene.parent / "map.tif.parts").write_text("mine")
    refused(predict, scene, 1, "--out", scene.parent / "map.tif")


def test_products_in_new_folders(predict: Predict, scene: Path) -> None:
    base = scene.parent
    assert (
        predict(
            scene,
            "--out",
            base / "a" / "map.tif",
            "--confidence",
            base / "b" / "c.tif",
            "--probabilities",
            base / "p.tif",
            "--mkdir",
        ).code
        == 0
    )
    for path in (base / "a" / "map.tif", base / "b" / "c.tif", base / "p.tif"):
        check_map(path, scene)
    assert not [name for name in files_in(base) if name.endswith(".tmp") or ".parts" in name]


def test_an_old_maps_overviews_and_masks_do_not_survive_it(predict: Predict, scene: Path) -> None:
    target = scene.parent / "map.tif"
    write_scene(target)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(target, "r+") as old:
        old.write_mask(old.dataset_mask() * 0)
    assert (scene.parent / "map.tif.msk").exists()
    (scene.parent / "map.tif.ovr").write_bytes(b"old")
    assert predict(scene, "--out", target, "--overwrite").code == 0
    check_map(target, scene)


@pytest.mark.parametrize("name", ["map.png", "map.JPG", "map.vrt", "map.img", "map.gpkg", "map.tif.zip"])
@pytest.mark.parametrize("option", ["--out", "--confidence", "--probabilities"])
def test_a_name_of_another_format_is_refused(predict: Predict, scene: Path, option: str, name: str) -> None:
    targets = {"--out": scene.parent / "m.tif", option: scene.parent / name}
    words = [word for pair in targets.items() for word in pair]
    assert "GeoTIFF" in refused(predict, scene, 2, *words)


def test_a_folder_that_is_not_there_is_refused(predict: Predict, scene: Path) -> None:
    assert "does not exist; check the path" in refused(predict, scene, 1, "--out", scene.parent / "no" / "map.tif")
    assert not (scene.parent / "no").exists()
