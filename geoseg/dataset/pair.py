"""A scene and its labels: one example to learn from or to be judged by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.dataset.color_mask import ColorMask
from geoseg.dataset.decoded import Decoded
from geoseg.dataset.features import FeatureFile, FeatureFrame, FeatureTable
from geoseg.dataset.label_polygons import LabelPolygons
from geoseg.dataset.label_raster import LabelRaster
from geoseg.dataset.mapped_labels import MappedLabels, OwnLabels
from geoseg.dataset.whole_label import WholeLabel
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import Scene, Strays, Window, digest, files_behind, local_file, shown, stamps

Labels = OwnLabels | MappedLabels

_STRIP_PX = 4 * 1024**2
_SAMPLE_BYTES = 16 * 1024**2
"""Of a file larger than three times this, its first, middle and last bytes stand for all."""
_SIDECARS = (".aux.xml", ".ovr", ".msk")


@dataclass(frozen=True, slots=True)
class Pair:
    """Imagery and labels. Both are paths, so it travels to other processes."""

    id: str
    scene: Scene
    labels: Labels
    gsd_m: float | None
    part: str | None = None
    """train, valid or test where the layout says so."""

    @property
    def whole(self) -> Window:
        """The window of the whole scene."""
        return Window(0, 0, *self.scene.shape)

    @property
    def files(self) -> list[str]:
        """The files of imagery and labels, the imagery's first."""
        labels = self.own_labels
        if isinstance(labels, WholeLabel):
            return [self.scene.path]
        return [self.scene.path, *(labels.source.files if isinstance(labels, LabelPolygons) else [labels.scene.path])]

    @property
    def own_labels(self) -> OwnLabels:
        """The labels as their files have them, before they are mapped to another legend."""
        return self.labels.own if isinstance(self.labels, MappedLabels) else self.labels

    @property
    def labels_path(self) -> str:
        """The file that holds the labels, or lies where they say; of a GeoDataFrame how messages call it."""
        labels = self.own_labels
        if isinstance(labels, LabelPolygons):
            return labels.source.path if isinstance(labels.source, FeatureFile) else labels.source.name
        return labels.path if isinstance(labels, WholeLabel) else labels.scene.path

    def decode(self, window: Window) -> Decoded:
        """Return the labels in a window inside the scene, whether the scene is valid there or not. SceneError."""
        return self.labels.decode(self.scene.geobox, window)

    def strips(self) -> list[Window]:
        """Return windows that cover the scene from its top, whole rows of its blocks, a few megapixels each."""
        height, width = self.scene.shape
        block = self.scene.block_shape[0]
        rows = max(1, _STRIP_PX // width)
        rows = rows if block * width > 4 * _STRIP_PX else max(1, rows // block) * block
        return [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]

    def judge(self, strays: Strays) -> str | None:
        """Return a line about pixels that the legend does not know, if any; SceneError when they are too many."""
        labels = self.own_labels
        tolerance = 1.0 if isinstance(labels, LabelPolygons | WholeLabel) else labels.tolerance
        return strays.judge(shown(self.labels_path), tolerance)

    def stamp(self) -> str:
        """Return hex that changes whenever imagery or labels may have: by name, size and time of all files behind."""
        return digest([self.scene.fingerprint(), _stamp_of(self.labels)])

    def image_digest(self) -> str:
        """Return hex of the bytes of the imagery alone: the same whatever its labels, and however it is opened.

        Of a VRT its text and its sources; sidecars, which GDAL may write at any time, do not count. SceneError.
        """
        path = self.scene.path
        files = files_behind(path) if path.lower().endswith(".vrt") else [path]
        return digest([_file_digest(name) for name in files if not name.lower().endswith(_SIDECARS)])

    def content(self) -> str:
        """Return hex of what the files hold, wherever and whenever they were copied. SceneError if they are gone."""
        sources = [_content_of(self.scene), repr(self.scene.band_indexes), repr(_meaning(self.labels))]
        labels = self.own_labels
        if isinstance(labels, LabelPolygons):
            sources += [_file_digest(name) for name in labels.source.files] or [repr(_state(labels.source))]
        elif not isinstance(labels, WholeLabel):
            sources.append(_content_of(labels.scene))
        return digest([self.id, *sources])


def reference_codes(pair: Pair, window: Window) -> NDArray[np.uint8]:
    """Return the class codes (row, col) in a window of the scene's own grid, which may stick out.

    255 where there is no label, where the scene is not valid, and outside of it. SceneError where a file is damaged,
    or holds more than a tolerated share of colours or codes that are not of the legend: all of it is looked at once.
    """
    check_labels(pair)
    codes = np.full(window.shape, NODATA, np.uint8)
    inside = window.intersection(pair.whole)
    if inside is not None:
        found = pair.decode(inside).codes
        found[~pair.scene.valid(inside)] = NODATA
        place = inside.relative_to(window)
        codes[place.rows, place.cols] = found
    return codes


def check_labels(pair: Pair) -> str | None:
    """Look at all labels of a pair; return a line if some are ignored, SceneError when those are too many."""
    if isinstance(pair.own_labels, LabelPolygons | WholeLabel):
        return None
    return _checked(pair, repr(stamps([pair.labels_path])))


@lru_cache(maxsize=4096)
def _checked(pair: Pair, _stamp: str) -> str | None:
    """Return what `check_labels` does; of the same file once."""
    strays = Strays()
    for window in pair.strips():
        strays += pair.decode(window).strays
    return pair.judge(strays)


def _stamp_of(labels: Labels) -> list[object]:
    match labels:
        case LabelPolygons():
            return [_state(labels.source), repr(_meaning(labels))]
        case ColorMask() | LabelRaster():
            return [labels.scene.fingerprint(), repr(_meaning(labels))]
        case WholeLabel():
            return [repr(_meaning(labels))]
        case MappedLabels():
            return [*_stamp_of(labels.own), repr((labels.table, labels.built_up))]


def _meaning(labels: Labels) -> object:
    match labels:
        case ColorMask():
            meaning = labels.legend, labels.tolerance
            return meaning if labels.palette is None else (*meaning, labels.palette)
        case LabelRaster():
            return labels.codes, labels.tolerance
        case LabelPolygons():
            layers = labels.source.layers if isinstance(labels.source, FeatureFile) else ()
            return labels.column, labels.codes, layers
        case WholeLabel():
            return labels.code
        case MappedLabels():
            return _meaning(labels.own), labels.table, labels.built_up


def _state(source: FeatureTable) -> object:
    """Return what tells one state of polygons from another: the files behind them, else what they hold."""
    if isinstance(source, FeatureFrame):
        return source.stamp
    return stamps(source.files) or source.path


def _content_of(scene: Scene) -> str:
    names = files_behind(scene.path)
    if any(local_file(name) is None for name in names):
        return scene.fingerprint()
    return digest([_file_digest(name) for name in names])


def _file_digest(name: str) -> str:
    """Return hex of a file's bytes, of an archive's that it is in, or of what its server says. SceneError."""
    file = local_file(name)
    if file is None and "://" not in name and not name.startswith("/vsi"):
        raise SceneError(f"{shown(name)}: no such file; it was there when the data set was opened")
    try:
        return digest(stamps([name])) if file is None else _hashed(file)
    except OSError as error:
        raise SceneError(f"cannot read {shown(name)}: {error.strerror or error}") from None


def _hashed(file: Path) -> str:
    size = file.stat().st_size
    hashed = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        if size <= 3 * _SAMPLE_BYTES:
            hashed.update(opened.read())
        else:
            for start in (0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES):
                opened.seek(start)
                hashed.update(opened.read(_SAMPLE_BYTES))
    return hashed.hexdigest()
