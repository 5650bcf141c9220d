"""The zip that QGIS installs: complete, reproducible, and importing only the standard library and PyQGIS."""

from __future__ import annotations

import ast
import configparser
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import geoseg

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "qgis" / "geoseg_qgis"
SOURCES = sorted(PLUGIN.rglob("*.py"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import qgis_plugin  # noqa: PLC0415 - a program, on no path
    finally:
        sys.path.pop(0)
    return qgis_plugin


def test_the_zip_is_whole_and_the_same_each_time(tool: ModuleType, tmp_path: Path) -> None:
    first, missing = tool.build(tmp_path / "a")
    second, _ = tool.build(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert set(missing) <= {"email", "repository", "tracker"}  # the maintainer's own
    with zipfile.ZipFile(first) as made:
        names = set(made.namelist())
        read = configparser.ConfigParser(interpolation=None)
        read.read_string(made.read("geoseg_qgis/metadata.txt").decode())
    assert {name.split("/")[0] for name in names} == {"geoseg_qgis"}
    assert {f"geoseg_qgis/{path.relative_to(PLUGIN).as_posix()}" for path in SOURCES} <= names
    assert {"geoseg_qgis/LICENSE", "geoseg_qgis/icons/geoseg.svg"} <= names
    assert not [name for name in names if "__pycache__" in name]
    general = read["general"]
    assert general["version"] == geoseg.__version__
    assert general["hasProcessingProvider"] == "yes"
    assert (general["qgisMinimumVersion"], general["qgisMaximumVersion"]) == ("3.22", "4.99")
    assert f"geoseg_qgis/{general['icon']}" in names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PLUGIN).as_posix())
def test_a_file_is_for_python_3_8_and_imports_only_what_qgis_has(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.partition(".")[0] for module in modules}
    assert tops <= set(sys.stdlib_module_names) | {"qgis", "processing", "geoseg_qgis"}
    assert not {module for module in modules if module.startswith(("PyQt", "osgeo"))}  # qgis.PyQt is Qt 5 and Qt 6
    if path.parent.name == "command":
        assert "qgis" not in tops


def test_no_text_is_put_together_before_it_is_translated() -> None:
    texts = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                texts += 1
    assert texts > 50


@pytest.mark.parametrize("path", sorted((PLUGIN / "i18n").glob("*.ts")), ids=lambda path: path.name)
def test_translations_have_all_texts_and_their_places(tool: ModuleType, path: Path) -> None:
    """If it fails, update the files with `python tools/qgis_plugin.py --strings`."""
    tree = ET.parse(path)  # noqa: S314 - our own file
    messages = {each.findtext("source"): each.findtext("translation") for each in tree.iter("message")}
    assert set(messages) == set(tool.texts())
    for source, translation in messages.items():
        if translation:
            assert fields(translation) == fields(str(source)), source


def fields(text: str) -> list[str]:
    return sorted(part.partition("}")[0] for part in text.split("{")[1:])
