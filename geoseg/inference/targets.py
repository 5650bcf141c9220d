"""Where the products of a run go, and whether they may go there."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from geoseg.atomic import probe_writable, same_file
from geoseg.errors import OutputError, UsageError
from geoseg.inference.journal import parts_folder
from geoseg.raster.landcover import ProductName, files_beside, foreign_beside

_TIFF = (".tif", ".tiff", ".gtif", ".gtiff", ".tf8", ".btf")
"""The last two are BigTIFF's."""


def _check_tiff(name: str, path: str | os.PathLike[str]) -> None:
    """Refuse a name that says another format than is written; none at all says nothing, and neither does `.2024`."""
    suffix = Path(path).suffix
    if suffix.lower() not in _TIFF and any(map(str.isalpha, suffix)):
        raise UsageError(
            f"{name} is written as a GeoTIFF, got {os.fspath(path)}; name it {Path(path).with_suffix('.tif').name}"
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """Where each product of a run goes, absolute; None = not wanted."""

    labels: Path
    confidence: Path | None = None
    probabilities: Path | None = None
    mkdir: bool = False
    """Make the folders that are not there."""

    @classmethod
    def of(
        cls,
        labels: str | os.PathLike[str],
        confidence: str | os.PathLike[str] | None,
        probabilities: str | os.PathLike[str] | None,
        *,
        mkdir: bool = False,
    ) -> Targets:
        """Return the targets as absolute paths.

        UsageError for a name of another format than GeoTIFF, OutputError for what is no local file in a folder.
        """
        wanted = {"out": labels, "confidence": confidence, "probabilities": probabilities}
        for name, path in wanted.items():
            if path is not None:
                _check_tiff(name, path)
                probe_writable(path, mkdir=mkdir)
        sure, every = (None if path is None else Path(path).absolute() for path in (confidence, probabilities))
        return cls(Path(labels).absolute(), sure, every, mkdir)

    @property
    def by_product(self) -> dict[ProductName, Path]:
        """The paths wanted; the land-cover map last: when it stands at its place, all is done."""
        paths: dict[ProductName, Path | None] = {
            "probabilities": self.probabilities,
            "confidence": self.confidence,
            "labels": self.labels,
        }
        return {name: path for name, path in paths.items() if path is not None}

    def check(self, *, overwrite: bool, placing: Collection[str] = ()) -> None:
        """Raise UsageError where two products would share a file, OutputError where one exists or cannot be written.

        `placing` are products that this very run may have moved to their place before it was interrupted.
        """
        self._check_apart()
        for name, path in self.by_product.items():
            probe_writable(path, mkdir=self.mkdir)
            if overwrite or name in placing:
                continue
            if path.exists():
                raise OutputError(f"{path} exists; add `overwrite=True` to replace it, or choose another `out`")
            for foreign in foreign_beside(path):
                raise OutputError(
                    f"{foreign} is not of geoseg's making and would be replaced; choose another `out`, "
                    "or add `overwrite=True` to replace it"
                )

    def check_inputs(self, read: Collection[Path]) -> None:
        """Raise UsageError when a product would replace a file that the run reads."""
        for path in self.by_product.values():
            for claimed in (path, *files_beside(path)):
                if any(same_file(claimed, file) for file in read):
                    raise UsageError(
                        f"{claimed} is read by this run and would be replaced by its output; choose another `out`"
                    )

    def _check_apart(self) -> None:
        paths = list(self.by_product.values())
        claimed = [beside.resolve() for path in paths for beside in (path, *files_beside(path))]
        names = {os.path.normcase(path) for path in claimed}
        if len(names) < len(claimed):
            raise UsageError(
                f"each product needs a path of its own, also without its suffix, got {', '.join(map(str, paths))}"
            )
        parts = parts_folder(self.labels).resolve()
        if any(path.is_relative_to(parts) for path in claimed):
            raise UsageError(f"{parts} is cleared when the map is whole; choose another place for the other products")
