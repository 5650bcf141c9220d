"""The outputs of a run, and the checks that they can be written: the rasters of a map, and the polygons after it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from geoseg.atomic import check_free, check_unread, make_folders, output_error, probe_writable, same_file
from geoseg.compiled import load_compiler
from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.given import StrPath
from geoseg.inference.execution.journal import Shard, parts_folder, unfinished
from geoseg.inference.execution.map_item import Address, is_map_item
from geoseg.progress import Announce, Progress
from geoseg.raster import Scene
from geoseg.raster.landcover import ProductName, creation_options, files_beside, foreign_beside
from geoseg.store import Key
from geoseg.vector import PolygonOptions

_TIFF = (".tif", ".tiff", ".gtif", ".gtiff", ".tf8", ".btf")
"""The last two are for BigTIFF."""
_ITEM_SUFFIXES = (".json", ".geojson")


class OutputOptions(PolygonOptions, total=False):
    """Options for further outputs of a run, and how they are written; `predict` and `Plan.run` share them."""

    confidence: StrPath | None
    """A raster of the probability of each pixel's class, in percent, uint8, 255 = nodata."""
    probabilities: StrPath | None
    """A raster of the probabilities of all classes, one band each, in percent."""
    polygons: StrPath | None
    """The polygons of the map, as `geoseg.vectorize` writes them; with `confidence`, each gets its mean confidence."""
    stac: bool | StrPath | None
    """A STAC item of the map, with its classes, checksums and sources; True writes `landcover.json` next to
    `landcover.tif`."""
    mkdir: bool
    """Create missing folders."""
    overwrite: bool
    """Replace existing files, and restart an unfinished run that had other options."""
    shard: str | None
    """I/N maps the I-th of N equal shares of the tiles, for independent jobs that share a disk; the job that ends last
    assembles the map."""
    creation_options: Mapping[str, str] | None
    """How GDAL stores the rasters: {"COMPRESS": "ZSTD", "BLOCKSIZE": "256"}; lossy options are refused."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The absolute path of each product of a run; None if not wanted."""

    labels: Path
    confidence: Path | None
    probabilities: Path | None
    mkdir: bool
    overwrite: bool
    storage: Mapping[str, str]
    """The complete creation options."""
    polygons: PolygonsAfter | None
    shard: Shard | None = None
    stac: Path | None = None

    @classmethod
    def of(cls, out: StrPath, options: OutputOptions) -> Self:
        """Return the outputs of a run.

        UsageError for a name that implies a format other than GeoTIFF, and for invalid options; OutputError for
        anything that is not a local file in a folder.
        """
        storage = creation_options(options.get("creation_options") or {})
        mkdir, overwrite = options.get("mkdir", False), options.get("overwrite", False)
        confidence, probabilities = options.get("confidence"), options.get("probabilities")
        for name, path in (("out", out), ("confidence", confidence), ("probabilities", probabilities)):
            if path is not None:
                _check_tiff(name, path)
                probe_writable(path, mkdir=mkdir)
        polygons = PolygonsAfter.of(options)
        shard_text = options.get("shard")
        shard = None if shard_text is None else Shard.of(shard_text)
        item = item_place(out, options.get("stac"))
        if item is not None:
            probe_writable(item, mkdir=mkdir)
        return cls(
            labels=Path(out).absolute(),
            confidence=_absolute(confidence),
            probabilities=_absolute(probabilities),
            mkdir=mkdir,
            overwrite=overwrite,
            storage=storage,
            polygons=polygons,
            shard=shard,
            stac=_absolute(item),
        )

    @property
    def by_product(self) -> dict[ProductName, Path]:
        """The rasters wanted. The land-cover map comes last: once it is in place, everything is done."""
        paths: dict[ProductName, Path | None] = {
            "probabilities": self.probabilities,
            "confidence": self.confidence,
            "labels": self.labels,
        }
        return {name: path for name, path in paths.items() if path is not None}

    def check(self, scene: StrPath | Scene, aoi: object = None) -> None:
        """Raise what a run on a scene would raise about its outputs; products of an unfinished run may exist.

        `aoi` is the area of interest as given, which may be a file.
        """
        if self.polygons is not None:
            self.polygons.check(scene, self, aoi)
        self.check_inputs([scene.path if isinstance(scene, Scene) else scene, aoi])
        self.check_free(self.by_product if unfinished(self.labels) else ())

    def check_free(self, placing: Collection[str] = ()) -> None:
        """Raise UsageError if two products would share a file, OutputError if one exists or cannot be written.

        `placing` are products that this same run may have moved to their place before it was interrupted.
        """
        self._check_apart()
        self.check_item_free()
        for name, path in self.by_product.items():
            probe_writable(path, mkdir=self.mkdir)
            if self.overwrite or name in placing:
                continue
            parameter = _parameter(name)
            has_map = self.polygons is not None and self.labels.exists()
            instead = ", or make only its polygons with geoseg vectorize" if has_map else ""
            check_free(path, parameter, overwrite=False, aside=instead)
            for foreign in foreign_beside(path):
                raise foreign_error(foreign, parameter)

    def check_item_free(self) -> None:
        """Raise OutputError if another file is in the item's place; the item of an earlier map may be replaced."""
        if self.stac is None or self.overwrite:
            return
        try:
            foreign = self.stac.exists() and not is_map_item(self.stac.read_bytes())
        except OSError as error:
            raise output_error(self.stac, error) from error
        if foreign:
            raise OutputError(
                f"{self.stac} exists and is not a map's STAC item; add `overwrite=True` to replace it, or choose "
                "another `stac`",
                "stac",
            )

    def check_inputs(self, read: Collection[object]) -> None:
        """Raise UsageError if a product would replace a file that the run reads."""
        if self.stac is not None:
            check_unread(self.stac, "stac", *read)
        for name, path in self.by_product.items():
            for claimed in (path, *files_beside(path)):
                check_unread(claimed, _parameter(name), *read)

    def _check_apart(self) -> None:
        paths = list(self.by_product.values())
        claimed = [_followed(companion) for path in paths for companion in (path, *files_beside(path))]
        if self.stac is not None:
            claimed.append(_followed(self.stac))
        names = {os.path.normcase(path) for path in claimed}
        if len(names) < len(claimed):
            raise UsageError(
                f"each output needs its own path, even without its suffix, got {', '.join(map(str, paths))}"
            )
        parts = _followed(parts_folder(self.labels))
        if any(path.is_relative_to(parts) for path in claimed):
            raise UsageError(
                f"{parts} is deleted when the map is finished; choose another folder for the other outputs"
            )


def foreign_error(foreign: Path | Key, parameter: str) -> OutputError:
    """Return the error for a file next to a map that geoseg did not write."""
    return OutputError(
        f"{foreign} was not made by geoseg and would be replaced; choose another `{parameter}`, or add "
        "`overwrite=True` to replace it",
        parameter,
    )


def item_place(out: StrPath, stac: bool | StrPath | None) -> str | None:  # noqa: FBT001 - `stac` is whether, or where
    """Return the path or URL of a map's item, or None. UsageError for a name that does not end in .json."""
    if stac is None or stac is False:
        return None
    if stac is True:
        path = os.fspath(out)
        suffix = Path(path).suffix
        return f"{path.removesuffix(suffix) if suffix.lower() in _TIFF else path}{_ITEM_SUFFIXES[0]}"
    if not os.fspath(stac).lower().endswith(_ITEM_SUFFIXES):
        raise UsageError(f"`stac` must be True, or the name of a .json file, got {os.fspath(stac)!r:.120}", "stac")
    return os.fspath(stac)


def _followed(path: Path) -> Path:
    """Return a path with its links followed; before Python 3.13 `resolve` fails on links that lead in a circle."""
    return Path(os.path.realpath(path))


def _absolute(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def _parameter(product: ProductName) -> str:
    """Return the parameter that names a product's path."""
    return "out" if product == "labels" else product


def _check_tiff(name: str, path: StrPath) -> None:
    """Raise UsageError for a suffix of another format; no suffix is fine, and so is one like `.2024`."""
    suffix = Path(path).suffix
    if suffix.lower() not in _TIFF and any(map(str.isalpha, suffix)):
        raise UsageError(
            f"`{name}` must be a GeoTIFF, got {os.fspath(path)}; name it {Path(path).with_suffix('.tif').name}", name
        )


@dataclass(frozen=True, slots=True)
class PolygonsAfter:
    """The polygons written after a map; everything is checked before the map is started."""

    target: str
    options: dict[str, Any]
    """Options of `vectorize`."""

    @classmethod
    def of(cls, options: OutputOptions) -> Self | None:
        """Return the polygons requested, or None; UsageError for polygon options without polygons."""
        options_by_name = {name: options.get(name) for name in PolygonOptions.__annotations__}
        chosen = {name: value for name, value in options_by_name.items() if value not in (None, False)}
        target, confidence = options.get("polygons"), options.get("confidence")
        if target is None:
            for name in chosen:
                raise UsageError(
                    f"`{name}` applies to polygons; add `polygons`, such as landcover.gpkg, or leave it out", name
                )
            return None
        confidence_option = {} if confidence is None else {"confidence": os.fspath(confidence)}
        return cls(os.fspath(target), chosen | confidence_option | {"overwrite": options.get("overwrite", False)})

    def check(self, scene: StrPath | Scene, outputs: Outputs, aoi: object = None) -> None:
        """Raise now what would otherwise be raised only after the map is finished, hours later."""
        from geoseg.vector import (  # noqa: PLC0415 - a map alone needs no compiler
            check_layer_unread,
            check_places,
            check_target,
            layer_name,
            parse_area,
            parse_length,
            sieve_weights,
            simplify_plane,
        )

        load_compiler()
        products = [*outputs.by_product.values(), *([] if outputs.stac is None else [outputs.stac])]
        folder = Path(self.target).absolute().parent
        if _followed(folder).is_relative_to(_followed(parts_folder(outputs.labels))):
            raise UsageError(
                f"{folder} is deleted when the map is finished; choose another file for `polygons`", "polygons"
            )
        layer = layer_name(str(outputs.labels), self.target, self.options.get("layer"))
        try:
            target = check_target(self.target, overwrite=self.options["overwrite"], layer=layer, mkdir=outputs.mkdir)
        except GeosegError as error:
            raise error.renamed(out="polygons") from None
        source = scene if isinstance(scene, Scene) else Scene.open(scene)
        if any(same_file(target, path) for path in products):
            raise UsageError(f"{target} is another output of this run; choose another file for `polygons`", "polygons")
        check_unread(target, "polygons", *source.local_files())
        check_layer_unread(target, "polygons", layer, aoi)
        check_places(source)
        if "simplify" in self.options:
            simplify_plane(parse_length(self.options["simplify"]), source.geobox)
        if "min_area" in self.options:
            sieve_weights(parse_area(self.options["min_area"]), source.geobox)

    def write(
        self, landcover: Path, progress: Callable[[Progress], None] | None, announce: Announce | None, *, mkdir: bool
    ) -> None:
        """Write the polygons of a finished map."""
        from geoseg.vector import vectorize  # noqa: PLC0415 - see above

        if mkdir:
            make_folders(self.target)
        vectorize(landcover, self.target, progress=progress, announce=announce, **self.options)

    def way_on(self, landcover: Path, address: Address, *, resumes: bool) -> str:
        """Return how to write the polygons alone: with the same command if it resumes, or from the files' addresses."""
        words = [address(landcover), "--out", address(Path(self.target)), *self._command_options(address)]
        again = "run the same command again, or" if resumes else "run"
        return f"the map is finished; to write only its polygons, {again} geoseg vectorize {shlex.join(words)}"

    def _command_options(self, address: Address) -> Iterator[str]:
        for name, value in self.options.items():
            if value is not False:
                yield f"--{name.replace('_', '-')}"
                yield from () if value is True else (address(Path(value)) if name == "confidence" else str(value),)
