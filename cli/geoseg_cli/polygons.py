"""`geoseg predict --polygons`: what is checked before the map is begun, and what follows when it is there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from geoseg.errors import GeosegError, UsageError
from geoseg_cli.vectorize import write_polygons

_KNOBS = ("layer", "min_area", "simplify", "smooth")


@dataclass(frozen=True, slots=True)
class PolygonsAfter:
    """The polygons that shall follow a map."""

    target: str
    knobs: dict[str, Any]

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> Self | None:
        """Take their options out of those given to predict; None where no polygons are asked for."""
        target = given.pop("polygons", None)
        knobs = {name: value for name in _KNOBS if (value := given.pop(name, None)) not in (None, False)}
        if target is None and knobs:
            option = f"--{next(iter(knobs))}".replace("_", "-")
            raise UsageError(f"{option} is about polygons; add --polygons landcover.gpkg, or leave it out")
        if target is None:
            return None
        after = {name: given[name] for name in ("confidence",) if name in given}
        return cls(target, knobs | after | {"overwrite": given["overwrite"]})

    def check(self, scene: str, products: list[str]) -> None:
        """Raise now what would be raised after a night of work."""
        from geoseg.inference.journal import parts_folder
        from geoseg.raster.durable import same_file
        from geoseg.raster.scene import Scene
        from geoseg.vector.formats import check_target
        from geoseg.vector.order import layer_name
        from geoseg.vector.pixel_size import sieve_weights, tolerance
        from geoseg.vector.units import area, length

        layer = layer_name(products[0], self.target, self.knobs.get("layer"))
        try:
            target = check_target(self.target, overwrite=self.knobs["overwrite"], layer=layer)
        except GeosegError as error:
            raise type(error)(str(error).replace("--out", "--polygons")) from None
        source = Scene.open(scene)
        if any(same_file(target, path) for path in [*map(Path, products), *source.local_files()]):
            raise UsageError(f"{target} is read or written by this run already; choose another --polygons")
        if target.resolve().is_relative_to(parts_folder(Path(products[0]).absolute()).resolve()):
            raise UsageError(f"{target.parent} is cleared when the map is whole; choose another --polygons")
        if "simplify" in self.knobs:
            tolerance(length(self.knobs["simplify"]), source.geobox)
        if "min_area" in self.knobs:
            sieve_weights(area(self.knobs["min_area"]), source.geobox)

    def write(self, landcover: Path, *, quiet: bool) -> dict[str, Any]:
        """Make them, and return their path and number.

        The map is there: whatever happens, the message says so, and how to go on without a second run.
        """
        try:
            made = write_polygons(str(landcover), self.target, self.knobs, quiet=quiet)
        except GeosegError as error:
            words = ["geoseg", "vectorize", str(landcover), "--out", self.target, *self._options()]
            way_on = f"the map is finished, go on by {shlex.join(words)}"
            raise type(error)(f"{error}; {way_on}") from error
        return {"polygons": self.target, "polygon_count": made.get("polygons")}

    def _options(self) -> Iterator[str]:
        for name, value in self.knobs.items():
            if value is not False:
                yield f"--{name.replace('_', '-')}"
                yield from () if value is True else (str(value),)
