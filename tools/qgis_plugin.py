"""`make qgis-plugin`: build the zip for QGIS and its plugin repository; `--strings` collects the texts.

    python tools/qgis_plugin.py [--out dist] [--strings]

Homepage, tracker and repository come from [project.urls] of pyproject.toml. Translations are `i18n/geoseg_xx.ts`; Qt's
`lrelease`, if installed, compiles them for QGIS.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "qgis" / "geoseg_qgis"
WANTED = ("name", "description", "about", "version", "qgisMinimumVersion", "author", "email", "repository", "tracker")
"""The fields that the plugin repository requires."""
LINKS = ("homepage", "tracker", "repository")
_WHEN = (2026, 1, 1, 0, 0, 0)
"""One date for all files: the same sources give the same zip."""


def main() -> None:
    """Build the zip, or collect the texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the zip [default: dist]")
    parser.add_argument("--strings", action="store_true", help="bring the .ts files up to date, and write no zip")
    chosen = parser.parse_args()
    if chosen.strings:
        for path in sorted((PLUGIN / "i18n").glob("*.ts")):
            print(f"{path.name}: {update_translation(path)} texts without a translation")
        return
    made, missing = build(chosen.out)
    print(f"The plugin: {made} (in QGIS: Plugins > Manage and Install Plugins > Install from ZIP)")
    if missing:
        print(f"The plugin repository also wants {', '.join(missing)}: see packaging/README.md", file=sys.stderr)


def build(folder: Path) -> tuple[Path, list[str]]:
    """Write the zip; return its path and the required fields that are missing."""
    metadata, missing = metadata_text()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"geoseg_qgis-{geoseg_version()}.zip"
    files = {f"geoseg_qgis/{file.relative_to(PLUGIN).as_posix()}": file.read_bytes() for file in plugin_files()}
    files["geoseg_qgis/metadata.txt"] = metadata.encode()
    files["geoseg_qgis/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files |= compiled_translations()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in sorted(files):
            made.writestr(zipfile.ZipInfo(name, _WHEN), files[name], zipfile.ZIP_DEFLATED)
    return path, missing


def plugin_files() -> list[Path]:
    """Return the files of the plugin that QGIS needs."""
    left_out = {"__pycache__", ".mypy_cache"}
    files = [each for each in PLUGIN.rglob("*") if each.is_file() and not left_out & set(each.parts)]
    return sorted(each for each in files if each.suffix in {".py", ".svg"})


def metadata_text() -> tuple[str, list[str]]:
    """Return metadata.txt with the version and the links of the project, and the names of missing fields."""
    text = (PLUGIN / "metadata.txt").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    filled = {"version": geoseg_version(), "tracker": urls.get("issues") or urls.get("tracker")}
    filled |= {name: urls.get(name) for name in ("homepage", "repository")}
    filled["email"] = next((each["email"] for each in project.get("authors", []) if "email" in each), None)
    for name, value in filled.items():
        if value:
            text = re.sub(rf"(?m)^{name}=.*$", lambda _, name=name, value=value: f"{name}={value}", text)
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign] # keys of QGIS are case-sensitive
    read.read_string(text)
    return text, [name for name in WANTED if not read["general"].get(name)]


def geoseg_version() -> str:
    """Return the version of geoseg, from its only source."""
    text = (ROOT / "geoseg" / "version.py").read_text(encoding="utf-8")
    return re.findall(r'VERSION = "([^"]+)"', text)[0]


def texts() -> dict[str, str]:
    """Return the texts shown to users, each with the file that first uses it."""
    found: dict[str, str] = {}
    for path in sorted(PLUGIN.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_text = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr"
            if is_text and isinstance(node.args[0], ast.Constant):
                found.setdefault(str(node.args[0].value), path.relative_to(PLUGIN).as_posix())
    return found


def update_translation(path: Path) -> int:
    """Add all texts to a .ts file, keep its translations, and return how many are missing."""
    tree = ET.parse(path)  # noqa: S314 - our own file
    known = {each.findtext("source", ""): each.findtext("translation", "") for each in tree.iter("message")}
    root = ET.Element("TS", {"version": "2.1", "language": path.stem.partition("_")[2]})
    context = ET.SubElement(root, "context")
    ET.SubElement(context, "name").text = "geoseg"
    missing = 0
    for text, file in texts().items():
        message = ET.SubElement(context, "message")
        ET.SubElement(message, "location", {"filename": f"../{file}"})
        ET.SubElement(message, "source").text = text
        translation = ET.SubElement(message, "translation")
        translation.text = known.get(text) or None
        if not translation.text:
            translation.set("type", "unfinished")
            missing += 1
    ET.indent(root, "    ")
    body = ET.tostring(root, encoding="unicode")
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n{body}\n', encoding="utf-8")
    return missing


def compiled_translations() -> dict[str, bytes]:
    """Return the compiled translations for QGIS; none if Qt's lrelease is missing."""
    program = next(filter(None, map(shutil.which, ("lrelease", "lrelease6", "lrelease-qt5"))), None)
    made: dict[str, bytes] = {}
    for path in sorted((PLUGIN / "i18n").glob("*.ts")) if program else ():
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"{path.stem}.qm"
            done = subprocess.run([str(program), "-silent", str(path), "-qm", str(target)], check=False)
            if done.returncode == 0 and target.is_file():
                made[f"geoseg_qgis/i18n/{target.name}"] = target.read_bytes()
    return made


if __name__ == "__main__":
    main()
