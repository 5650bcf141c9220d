"""The scenes to measure, made once and kept in a work folder.

    python benchmarks/scenes.py FOLDER ROWS COLS [REPEATS]

Runs as a separate process, so that it is not measured.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SEED = 7
_STRIP_PX = 512


def scene(folder: Path, height_px: int, width_px: int, repeats: int = 1) -> Path:
    """Return a synthetic scene of that size, `repeats` of it stacked; make it if it does not exist yet."""
    path = _path(folder, height_px, width_px, repeats)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name}, kept for the next time", file=sys.stderr, flush=True)
        sizes = [str(number) for number in (height_px, width_px, repeats)]
        subprocess.run([sys.executable, __file__, str(folder), *sizes], check=True)
    return path


def _path(folder: Path, height_px: int, width_px: int, repeats: int) -> Path:
    return folder / f"scene-{height_px * repeats}x{width_px}{f'-of-{repeats}' * (repeats > 1)}.tif"


def _make(folder: Path, height_px: int, width_px: int, repeats: int) -> None:
    path = _path(folder, height_px, width_px, repeats)
    unfinished = path.with_suffix(".unfinished.tif")
    if repeats > 1:
        _repeat(scene(folder, height_px, width_px), unfinished, repeats)
    else:
        from geoseg.synthetic import Landscape, write_landscape

        write_landscape(Landscape(_SEED, height_px, width_px), unfinished)
    unfinished.replace(path)


def _repeat(source_path: Path, path: Path, repeats: int) -> None:
    """Write a scene several times, one below the other, because a tall landscape takes long to draw."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(source_path) as source:
        profile = {**source.profile, "height": source.height * repeats, "BIGTIFF": "IF_SAFER"}
        with rasterio.open(path, "w", **profile) as target:
            for row in range(0, source.height * repeats, _STRIP_PX):
                pixels = source.read(window=Window(0, row % source.height, source.width, _STRIP_PX))
                target.write(pixels, window=Window(0, row, source.width, _STRIP_PX))


if __name__ == "__main__":
    _make(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
