"""`make package`: build the wheel and source archive in dist/, install the wheel in a fresh environment and test it.

    python tools/package.py [--out dist] [--fresh]

The wheel is built from the source archive, which proves the archive complete. The test environment has the packages of
this Python and the wheel, not the checkout. With --fresh it has only what pip installs with the wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCENE = ROOT / "sample_data" / "scene.tif"
ROOMS = ("geoseg", "cli/geoseg_cli")


def main() -> None:
    """Build, check the contents, install, test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the files [default: dist]")
    parser.add_argument("--fresh", action="store_true", help="install the dependencies too, from the package index")
    chosen = parser.parse_args()
    wheel, archive = build(chosen.out)
    check_contents(wheel, archive)
    with tempfile.TemporaryDirectory(prefix="geoseg-wheel-") as folder:
        geoseg = install(wheel, Path(folder) / "env", fresh=chosen.fresh)
        try_out(geoseg, Path(folder))
    for each in (wheel, archive):
        print(f"{each} ({each.stat().st_size / 1e6:.1f} MB)")


def build(folder: Path) -> tuple[Path, Path]:
    """Return the wheel and the source archive."""
    with tempfile.TemporaryDirectory(prefix="geoseg-build-") as made:
        _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", made, str(ROOT)])
        folder.mkdir(parents=True, exist_ok=True)
        files = [Path(shutil.move(str(each), folder / each.name)) for each in Path(made).iterdir()]
    (wheel,) = (each for each in files if each.suffix == ".whl")
    (archive,) = (each for each in files if each.suffix == ".gz")
    return wheel, archive


def check_contents(wheel: Path, archive: Path) -> None:
    """Fail unless both contain every file of the library and the command, and the wheel no other."""
    ours = {
        path.relative_to((ROOT / room).parent).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as made:
        inside = {name for name in made.namelist() if ".dist-info/" not in name}
    if inside != ours:
        sys.exit(f"{wheel.name} differs from the sources: {sorted(inside ^ ours)}")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "tests/conftest.py", "sample_data/scene.tif"}
    if missing := wanted - names:
        sys.exit(f"{archive.name} lacks {sorted(missing)}")


def install(wheel: Path, folder: Path, *, fresh: bool) -> Path:
    """Return the command of an environment with the wheel."""
    venv.create(folder, with_pip=fresh)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    if fresh:
        _run([str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)])
        _run([str(python), "-m", "pip", "check"])
    else:
        (purelib,) = folder.rglob("site-packages")
        # paths in a .pth are added, but .pth files in them are not read, so an editable checkout stays out
        (purelib / "packages.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        _run([*pip, "--no-deps", "--no-index", "--force-reinstall", str(wheel)])
    return scripts / ("geoseg.exe" if os.name == "nt" else "geoseg")


def try_out(geoseg: Path, folder: Path) -> None:
    """Run the command as a user would, and the library from the wheel."""
    python = geoseg.with_name("python.exe" if os.name == "nt" else "python")
    where = _run([str(python), "-c", "import geoseg; print(geoseg.__file__)"], cwd=folder)
    if folder.resolve() not in Path(where.strip()).resolve().parents:
        sys.exit(f"not the wheel was tried, but {where.strip()}")
    _run([str(geoseg), "doctor"], cwd=folder)
    small = ["--bbox", "400000,4999744,400256,5000000", "--polygons", "map.gpkg", "--json"]
    figures = json.loads(_run([str(geoseg), "predict", str(SCENE), "--out", "map.tif", *small], cwd=folder))
    if figures["pixels"] != 512 * 512 or not figures["polygon_count"]:
        sys.exit(f"a strange map: {figures}")
    _run([str(geoseg), "preview", "map.tif", "--out", "map.html"], cwd=folder)


def _run(command: list[str], cwd: Path | None = None) -> str:
    """Return a command's output, or exit with its error."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
