"""The data files of PROJ and GDAL that rasterio's wheel brings along, where the environment names those of others.

QGIS, PostGIS, OSGeo4W and ArcGIS set PROJ_LIB, PROJ_DATA, GDAL_DATA and GDAL_DRIVER_PATH for whatever runs beside them.
Each release of PROJ reads the database of its own layout alone. A rasterio without data of its own (conda, Debian) is
left as it is: there the variables may be right.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import warnings
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from geoseg.errors import GeosegWarning

_PROJ_VARIABLES = ("PROJ_DATA", "PROJ_LIB")
"""The first wins; PROJ before 9.1 knows the second alone."""
_LAYOUT = "SELECT value FROM metadata WHERE key LIKE 'DATABASE.LAYOUT.VERSION.M%OR' ORDER BY key"  # major, minor


@cache
def use_own_proj_data() -> str | None:
    """Have PROJ's own database read; warn, and return a line, where the environment names one that cannot be read.

    Only PROJ_DATA is set, for this process and those that it starts: other copies of PROJ read newer databases too.
    """
    own = _own("proj_data")
    named = next(((name, os.environ[name]) for name in _PROJ_VARIABLES if os.environ.get(name)), None)
    if own is None or named is None or _is_readable(Path(named[1]), own):
        return None
    os.environ["PROJ_DATA"] = str(own)
    if "rasterio" in sys.modules:  # it has read the variables already
        from rasterio._env import set_proj_data_search_path  # noqa: PLC0415 - loads GDAL

        set_proj_data_search_path(str(own))
    line = f"{named[0]}={named[1]} is not of the PROJ that geoseg uses, which reads its own data; unset {named[0]}"
    warnings.warn(f"{line} to be rid of this line", GeosegWarning, stacklevel=2)
    return line


def own_gdal_options() -> dict[str, object]:
    """Return GDAL's settings where the environment names the data of another GDAL; they win over it."""
    own = _own("gdal_data")
    return {"GDAL_DATA": str(own)} if own is not None and os.environ.get("GDAL_DATA") else {}


def keep_to_own_data() -> None:
    """Have no copy of GDAL load the plugins of another, and PROJ's data found: for a process of geoseg's own.

    To be called before anything is loaded. GDAL's GeoTIFF library asks a PROJ of its own, to which rasterio does not
    tell where its data lie: it knows the variable alone, and complains on stderr of each kilometre without.
    """
    if os.environ.get("GDAL_DRIVER_PATH") and _own("gdal_data") is not None:
        os.environ["GDAL_DRIVER_PATH"] = "disable"
    own = _own("proj_data")
    if own is not None and not any(map(os.environ.get, _PROJ_VARIABLES)):
        os.environ["PROJ_DATA"] = str(own)


@cache
def _own(name: str) -> Path | None:
    found = find_spec("rasterio")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    return next((Path(folder, name) for folder in folders if Path(folder, name).is_dir()), None)


def _is_readable(folder: Path, own: Path) -> bool:
    """Return whether the PROJ of `own` reads the database in a folder: of the same layout, or one of a later minor."""
    theirs, ours = _layout(folder), _layout(own)
    return ours is None or (theirs is not None and theirs[0] == ours[0] and theirs[1] >= ours[1])


def _layout(folder: Path) -> tuple[int, int] | None:
    try:
        with closing(sqlite3.connect(f"{(folder / 'proj.db').absolute().as_uri()}?mode=ro", uri=True)) as database:
            major, minor = (int(value) for (value,) in database.execute(_LAYOUT))
    except (OSError, ValueError, sqlite3.Error):
        return None
    return major, minor
