"""The scenes of a run, from files, folders, patterns and lists, and the name of each scene's map."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from geoseg.errors import SceneError, UsageError, listed
from geoseg.given import delimiter_in, rows_of, text_of
from geoseg.raster import Scene, is_item, is_remote, item_names, opened, public_name

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

RASTER_ENDS = frozenset(
    {".tif", ".tiff", ".gtif", ".gtiff", ".btf", ".tf8", ".vrt", ".gti", ".jp2", ".j2k", ".img", ".ecw", ".sid"}
    | {".ntf", ".nitf", ".png", ".jpg", ".jpeg", ".webp", ".bil", ".bip", ".bsq"}
)  # fmt: skip
"""Extensions of the rasters that a folder is searched for; a file given by name may have any."""
_PATTERN = re.compile(r"[*?[]")
_NO_FILE = re.compile(r"/vsi|\w{2,}://")
"""Prefixes of GDAL's own names, in which ? is not a wildcard: vrt://scene.tif?bands=3,2,1."""
_STANDS_FOR_NAME = "{name}"
_IN_FILE_NAMES = re.compile(r"[^\w.()+,=@-]+")
_LONGEST_END = 5
_SHOWN = 3


def find_scenes(given: SceneLike | Iterable[SceneLike]) -> list[SceneLike]:
    """Return every scene that the arguments name, each once, in the order given.

    A folder stands for the rasters directly in it, sorted by name; a pattern (`*.tif`, `**` for subfolders) for the
    files that match. UsageError for a folder or a pattern without rasters.
    """
    is_one = isinstance(given, str | os.PathLike) or getattr(given, "ndim", None) == 0
    sources = [given] if is_one or not isinstance(given, Iterable) else list(given)
    scenes: list[SceneLike] = []
    for source in sources:
        scenes += _expanded(source) if isinstance(source, str | os.PathLike) else [source]
    unique = {os.fspath(scene) if isinstance(scene, str | os.PathLike) else id(scene): scene for scene in scenes}
    return list(unique.values())


def _expanded(source: str | os.PathLike[str]) -> list[SceneLike]:
    path = os.fspath(source)
    if not path.strip():
        raise UsageError("the name of a scene is empty; give a path", "scenes")
    if is_item(path):
        return [*item_names(path)]
    is_file, is_folder = os.path.isfile(path), os.path.isdir(path)  # noqa: PTH112, PTH113 - Path raises for long names
    if is_remote(path) or path.lstrip().startswith("<") or _NO_FILE.match(path) or is_file:
        return [source]
    if is_folder:
        return _in_folder(Path(path))
    if _PATTERN.search(path):
        files = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207 - Path.glob refuses absolute patterns
        rasters: list[SceneLike] = [name for name in files if _is_raster_name(name)]
        if not rasters:
            raise UsageError(f"no raster matches {path}; check the pattern", "scenes")
        return rasters
    return [source]


def _in_folder(folder: Path) -> list[SceneLike]:
    """Return the rasters in a folder, or the folder itself if it is a raster, like an Esri grid.

    Hidden files are skipped: macOS keeps a `._scene.tif` next to each file on foreign disks.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_raster_name(entry.name) and entry.is_file())
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read: {error.strerror}; list the files", "scenes") from None
    rasters: list[SceneLike] = [str(folder / name) for name in names if not name.startswith(".")]
    if rasters:
        return rasters
    try:
        with opened(str(folder)):
            return [str(folder)]
    except SceneError:
        kinds = "TIFF, VRT, JPEG2000, PNG or the like"
        raise UsageError(f"the folder {folder} contains no raster ({kinds}); list the files", "scenes") from None


def _is_raster_name(name: str) -> bool:
    return Path(name).suffix.lower() in RASTER_ENDS


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Return the scenes of a list file, one per line; empty lines and those starting with # are skipped.

    For a table, like that of a data set, returns its column `scene`. `-` is standard input. Names are looked up in the
    current folder, then next to the list. UsageError for a list that cannot be read, or is empty.
    """
    name = os.fspath(path)
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(path).read_bytes()
        lines = _scene_column(text_of(raw).splitlines())
    except OSError as error:
        raise UsageError(
            f"the list {name} cannot be read: {error.strerror or error}; check the path", "list_file"
        ) from None
    except UnicodeError:
        raise UsageError(f"the list {name} is not text; give a file with one scene per line", "list_file") from None
    except ValueError as error:
        raise UsageError(f"the list {name} {error}; give a file with one scene per line", "list_file") from None
    scenes = [line for line in lines if line and not line.startswith("#")]
    if not scenes:
        raise UsageError(f"the list {name} contains no scene; write one per line", "list_file")
    list_folder = Path() if name == "-" else Path(path).parent
    return [_placed(scene, list_folder) for scene in scenes]


def _scene_column(lines: Sequence[str]) -> list[str]:
    """Return the column `scene` of a table with a header; without one, the lines themselves."""
    heading = lines[0] if lines else ""
    delimiter = delimiter_in(heading)
    titles = [title.strip(' "').casefold() for title in heading.split(delimiter)]
    if "scene" not in titles:
        return [line.strip().strip('"') for line in lines]
    column = titles.index("scene")
    return [row[column] for row in rows_of(lines[1:], delimiter) if len(row) > column]


def _placed(scene: str, folder: Path) -> str:
    """Return a name as found in the current folder, or else in another one; unchanged if it is in neither."""
    is_local = not is_remote(scene) and "://" not in scene and not scene.startswith("/vsi")
    if not is_local or os.path.exists(scene):  # noqa: PTH110 - Path raises for a line that is too long
        return scene
    return str(folder / scene) if os.path.exists(folder / scene) else scene  # noqa: PTH110 - as above


def map_names(scenes: Sequence[SceneLike]) -> list[str]:
    """Return the name of each scene's map: the scene's own, without folder and extension.

    Scenes of the same name, ignoring case as many disks do, get as many parent folders as prefix as it takes to tell
    them apart: `2024_rgb` and `2025_rgb`. UsageError if even all folders do not.
    """
    path_parts = [[*_folders(scene), _stem(scene)] for scene in scenes]
    names = [_map_name(parts, 1) for parts in path_parts]
    for count in range(2, max(map(len, path_parts), default=0) + 1):
        for index in _duplicates(names):
            names[index] = _map_name(path_parts[index], count)
    if duplicates := _duplicates(names):
        same = [index for index in duplicates if names[index].casefold() == names[duplicates[0]].casefold()]
        paths = [_path_or_name(scenes[index]) for index in same]
        raise UsageError(
            f"the maps of {listed(paths, _SHOWN)} would have the same name, {_map_name(path_parts[same[0]], 1)}; "
            "rename them, or map them into separate folders",
            "scenes",
        )
    return names


def _map_name(parts: Sequence[str], count: int) -> str:
    return _IN_FILE_NAMES.sub("_", "_".join(parts[-count:])) or "scene"


def _duplicates(names: Sequence[str]) -> list[int]:
    """Return the indexes of names that occur more than once."""
    count = Counter(name.casefold() for name in names)
    return [index for index, name in enumerate(names) if count[name.casefold()] > 1]


def _folders(scene: SceneLike) -> list[str]:
    """Return the folders that contain a scene, outermost first."""
    path = _path_or_name(scene).rpartition("#")[0] or _path_or_name(scene)
    path = public_name(path) if is_remote(path) else os.path.abspath(path)  # noqa: PTH100 - does not resolve links
    return [part for part in re.split(r"[/\\]", path)[:-1] if part]


def _stem(scene: SceneLike) -> str:
    path, _, item = _path_or_name(scene).rpartition("#")
    if path and is_item(path):
        return item
    name = re.split(r"[/\\]", public_name(_path_or_name(scene)))[-1]
    name = unquote(name) if is_remote(_path_or_name(scene)) else name
    stem, _, end = name.rpartition(".")
    return stem if stem and end.isalnum() and not end.isdigit() and len(end) <= _LONGEST_END else name


def _path_or_name(scene: SceneLike) -> str:
    if isinstance(scene, str | os.PathLike):
        return os.fspath(scene)
    return scene.path if isinstance(scene, Scene) else str(getattr(scene, "name", None) or "scene")


def named(pattern: str | os.PathLike[str], name: str, parameter: str) -> str:
    """Return the path that a pattern with `{name}` gives for one of several scenes."""
    path = os.fspath(pattern)
    if _STANDS_FOR_NAME not in path:
        example = str(Path(path).with_name(f"{_STANDS_FOR_NAME}_{Path(path).name}"))
        raise UsageError(
            f"each scene needs its own `{parameter}`, got {path}; write {_STANDS_FOR_NAME} where the scene's name "
            f"goes: {example}",
            parameter,
        )
    return path.replace(_STANDS_FOR_NAME, name)
