"""The polygons of a map that is made now: what is checked before it is begun, and what follows when it is there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from geoseg.atomic import same_file
from geoseg.errors import GeosegError, UsageError
from geoseg.inference.journal import parts_folder
from geoseg.progress import Progress
from geoseg.raster import Scene
from geoseg.vector import area, check_places, check_target, layer_name, length, sieve_weights, tolerance


@dataclass(frozen=True, slots=True)
class PolygonsAfter:
    """The polygons that shall follow a map."""

    target: str
    knobs: dict[str, Any]
    """Of `vectorize`."""

    @classmethod
    def of(
        cls,
        polygons: str | os.PathLike[str],
        knobs: dict[str, Any],
        confidence: str | os.PathLike[str] | None,
        *,
        overwrite: bool,
    ) -> Self:
        """Return the polygons that follow a map with a raster of confidence, or without one."""
        given = {name: value for name, value in knobs.items() if value not in (None, False)}
        sure = {} if confidence is None else {"confidence": os.fspath(confidence)}
        return cls(os.fspath(polygons), given | sure | {"overwrite": overwrite})

    def check(self, scene: str | os.PathLike[str] | Scene, products: Sequence[str], *, mkdir: bool) -> None:
        """Raise now what would be raised after a night of work; `mkdir`: its folder will be made."""
        folder = Path(self.target).absolute().parent
        if folder.resolve().is_relative_to(parts_folder(Path(products[0]).absolute()).resolve()):
            raise UsageError(f"{folder} is cleared when the map is whole; choose another file for the polygons")
        layer = layer_name(products[0], self.target, self.knobs.get("layer"))
        try:
            target = check_target(self.target, overwrite=self.knobs["overwrite"], layer=layer, mkdir=mkdir)
        except GeosegError as error:
            raise error.renamed(out="polygons") from None
        source = scene if isinstance(scene, Scene) else Scene.open(scene)
        if any(same_file(target, path) for path in [*map(Path, products), *source.local_files()]):
            raise UsageError(f"{target} is read or written by this run already; choose another file for the polygons")
        check_places(source)
        if "simplify" in self.knobs:
            tolerance(length(self.knobs["simplify"]), source.geobox)
        if "min_area" in self.knobs:
            sieve_weights(area(self.knobs["min_area"]), source.geobox)

    def write(
        self,
        landcover: Path,
        progress: Callable[[Progress], None] | None,
        announce: Callable[[str], None] | None,
    ) -> None:
        """Make them.

        The map is there: whatever happens, the message says so, and how to go on without a second run.
        """
        from geoseg.vector import vectorize  # noqa: PLC0415 - a refusal need not wait for the compiler

        try:
            vectorize(landcover, self.target, progress=progress, announce=announce, **self.knobs)
        except GeosegError as error:
            words = ["geoseg", "vectorize", str(landcover), "--out", self.target, *self._options()]
            way_on = f"the map is finished, go on by {shlex.join(words)}"
            raise type(error)(f"{error}; {way_on}") from error

    def _options(self) -> Iterator[str]:
        for name, value in self.knobs.items():
            if value is not False:
                yield f"--{name.replace('_', '-')}"
                yield from () if value is True else (str(value),)
