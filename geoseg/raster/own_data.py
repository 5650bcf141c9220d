"""Use the PROJ and GDAL data bundled in rasterio's wheel if the environment points to those of another installation.

QGIS, PostGIS, OSGeo4W and ArcGIS set PROJ_LIB, PROJ_DATA, GDAL_DATA and GDAL_DRIVER_PATH for every process they start.
Each PROJ release reads only databases of its own layout. A rasterio without bundled data (conda, Debian) is left
unchanged: its variables may be right.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from geoseg.errors import warn

_PROJ_VARIABLES = ("PROJ_DATA", "PROJ_LIB")
"""The first wins; PROJ before 9.1 knows only the second."""
_LAYOUT = "SELECT value FROM metadata WHERE key LIKE 'DATABASE.LAYOUT.VERSION.M%OR' ORDER BY key"  # major, minor


@cache
def use_own_proj_data() -> str | None:
    """Point PROJ to its own database if the environment names an unreadable one; then warn and return a line.

    Only PROJ_DATA is set, for this process and its children: other copies of PROJ read newer databases too.
    """
    own = _bundled_folder("proj_data")
    named = next(((name, os.environ[name]) for name in _PROJ_VARIABLES if os.environ.get(name)), None)
    if own is None or named is None or _is_readable(Path(named[1]), own):
        return None
    os.environ["PROJ_DATA"] = str(own)
    if "rasterio" in sys.modules:  # it has already read the variables
        from rasterio._env import set_proj_data_search_path  # noqa: PLC0415 - loads GDAL

        set_proj_data_search_path(str(own))
    line = (
        f"{named[0]}={named[1]} belongs to another PROJ than the one geoseg uses, which reads its own data; unset "
        f"{named[0]}"
    )
    warn(f"{line} to silence this warning")
    return line


def own_gdal_options() -> dict[str, object]:
    """Return GDAL settings that override the environment if it names the data of another GDAL."""
    own = _bundled_folder("gdal_data")
    return {"GDAL_DATA": str(own)} if own is not None and os.environ.get("GDAL_DATA") else {}


def keep_to_own_data() -> None:
    """Keep GDAL from loading another copy's plugins, and let PROJ find its data, in a process that geoseg starts.

    Call it before anything is loaded. GDAL's GeoTIFF library uses a PROJ context that rasterio does not configure: it
    knows only the variable, and without it complains on stderr about every CRS in kilometers.
    """
    if os.environ.get("GDAL_DRIVER_PATH") and _bundled_folder("gdal_data") is not None:
        os.environ["GDAL_DRIVER_PATH"] = "disable"
    own = _bundled_folder("proj_data")
    if own is not None and not any(map(os.environ.get, _PROJ_VARIABLES)):
        os.environ["PROJ_DATA"] = str(own)


@cache
def _bundled_folder(name: str) -> Path | None:
    spec = find_spec("rasterio")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((Path(folder, name) for folder in folders if Path(folder, name).is_dir()), None)


def _is_readable(folder: Path, own: Path) -> bool:
    """Return whether the PROJ of `own` reads a folder's database: of the same layout version, or a later minor one."""
    folder_layout, own_layout = _layout(folder), _layout(own)
    return own_layout is None or (
        folder_layout is not None and folder_layout[0] == own_layout[0] and folder_layout[1] >= own_layout[1]
    )


def _layout(folder: Path) -> tuple[int, int] | None:
    try:
        with closing(sqlite3.connect(f"{(folder / 'proj.db').absolute().as_uri()}?mode=ro", uri=True)) as database:
            major, minor = (int(value) for (value,) in database.execute(_LAYOUT))
    except (OSError, ValueError, sqlite3.Error):
        return None
    return major, minor
