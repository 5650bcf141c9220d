"""Made-up landscapes as a data set: written once to the cache, then opened like any other."""

from __future__ import annotations

import uuid
from pathlib import Path

from geoseg.atomic import output_error
from geoseg.dataset.dataset import Dataset, open_dataset
from geoseg.dataset.mixture_file import Synthetic
from geoseg.legend import DEEPGLOBE
from geoseg.model import cache_folder
from geoseg.raster import digest
from geoseg.synthetic import Landscape, write_landscape

_VERSION = 1
"""Of the painters; landscapes of another one are painted again."""


def landscapes(said: Synthetic) -> Dataset:
    """Return landscapes, those of them that are not there made now. OutputError where the cache cannot be written."""
    folder = cache_folder() / "landscapes" / digest([_VERSION, said.size_px, said.gsd_m])[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table = ["scene,labels,id"]
        for seed in range(said.seed, said.seed + said.scenes):
            names = f"{seed}_image.tif", f"{seed}_label.tif"
            _write(Landscape(seed, said.size_px, said.size_px, said.gsd_m), *(folder / name for name in names))
            table.append(f"{names[0]},{names[1]},{seed}")
        file = folder / f"{said.seed}_{said.scenes}.csv"
        file.write_text("\n".join(table) + "\n", encoding="utf-8")
    except OSError as error:
        raise output_error(folder, error) from error
    return open_dataset(file, legend=DEEPGLOBE)


def _write(landscape: Landscape, scene: Path, labels: Path) -> None:
    """Write a landscape unless it is there, whole; the labels, which come last, say so."""
    if labels.exists():
        return
    mark = uuid.uuid4().hex[:8]
    parts = [path.with_name(f".{mark}.{path.name}") for path in (scene, labels)]
    try:
        write_landscape(landscape, *parts)
        for part, path in zip(parts, (scene, labels), strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
