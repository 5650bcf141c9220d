"""The guarantees after any failure: one clear line, the right exit code, nothing lost, nothing half-written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rio_cogeo.cogeo import cog_validate

from geoseg.legend import NODATA

ONE_PIXEL_WIDE = "Invalid Decimation 1 for overview level 0"
"""rio_cogeo's complaint about maps one pixel wide: it measures overviews by width, but only heights can be halved."""
Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The exit code and output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The error line. Fails unless there is exactly one and every other line is a warning."""
        lines = [line for line in self.stderr.splitlines() if not line.startswith("geoseg: warning: ")]
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith(("geoseg: error: ", "geoseg: interrupted: ")), self.stderr
        assert "Traceback" not in self.stderr
        assert "unexpected" not in lines[0], "nobody has thought of this one"
        return lines[0]


def files_in(folder: Path) -> Files:
    """Return the bytes of every file below a folder by relative path; links are followed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_refused(outcome: Outcome, code: int, folder: Path, before: Files) -> str:
    """Fail unless a command printed one error line, exited with `code` and left the folder unchanged.

    Return the line. Only the parts of an unfinished map may be new: a lock, a journal and at least one whole tile.
    """
    assert outcome.code == code, outcome
    line = outcome.error
    now = files_in(folder)
    parts = {name: content for name, content in now.items() if ".parts/" in name}
    assert {name: now[name] for name in now.keys() - parts.keys()} == before
    if parts:
        assert any(name.endswith("journal.jsonl") and b'{"tile": ' in content for name, content in parts.items()), parts
        assert any("labels_" in name for name in parts)
    return line


def check_map(path: Path, scene: Path, bands: tuple[int, ...] = (1, 2, 3)) -> None:
    """Fail unless a map is a valid COG on the scene's own grid, with 255 exactly where the scene is not valid."""
    is_cog, errors, complaints = cog_validate(path, quiet=True)
    if errors != [ONE_PIXEL_WIDE]:
        assert (is_cog, errors, complaints) == (True, [], [])
    with rasterio.open(scene) as source, rasterio.open(path) as land_cover:
        assert land_cover.shape == source.shape
        assert land_cover.transform == source.transform
        points, places = source.gcps[0], land_cover.gcps[0]
        assert [(p.row, p.col, p.x, p.y) for p in places] == [(p.row, p.col, p.x, p.y) for p in points]
        assert land_cover.gcps[1] == source.gcps[1]
        if not points:  # a GeoTIFF keeps one CRS: that of the control points, if it has some
            assert land_cover.crs == source.crs
        valid = source.dataset_mask() != 0
        data = source.read(bands)
        if np.issubdtype(data.dtype, np.floating):
            valid &= np.isfinite(data).all(axis=0)
        labels = land_cover.read(1)
    np.testing.assert_array_equal(labels != NODATA, valid)
