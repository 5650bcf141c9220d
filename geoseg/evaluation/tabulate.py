"""The verb `tabulate`: the area of each class, in a whole map, by district, or by the class of an earlier map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geoseg import features
from geoseg.atomic import check_target, check_unread, make_folders, write_durably
from geoseg.counts import NONE, PairCounts
from geoseg.errors import GeosegError, SceneError, UsageError, numbered
from geoseg.evaluation.comparison import Comparison, count
from geoseg.evaluation.matching import Matching
from geoseg.evaluation.reference import BurnedPolygons, are_polygons, zone_codes
from geoseg.given import CrsLike, StrPath, is_frame, plain_arguments
from geoseg.legend import GivenLegend, Nomenclature, given_names
from geoseg.progress import Progress, announcer
from geoseg.raster import ClassRaster, Ground, ShiftedRaster, WarpedRaster, align, as_scene, local_files, shown

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

    from geoseg.features import LayerChoice
    from geoseg.features.area_of_interest import Aoi
    from geoseg.raster.scene import SceneLike

_CSV = ".csv"


@plain_arguments()
def tabulate(  # noqa: PLR0913 - the options of the verb
    landcover: SceneLike,
    by: SceneLike | geopandas.GeoDataFrame | None = None,
    out: StrPath | None = None,
    *,
    column: str | None = None,
    layer: LayerChoice = None,
    legend: GivenLegend | None = None,
    by_legend: GivenLegend | None = None,
    aoi: Aoi | None = None,
    aoi_crs: CrsLike | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Sum the area of each class: of a whole map, in each zone of polygons, or by the classes of another map.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset or xarray.DataArray
        Any raster of classes that GDAL reads, or a part of one, from `geoseg.within` or `geoseg.crop`.
    by : path, GeoDataFrame, or as `landcover`, optional
        The zones: polygons (anything that GDAL or pyarrow reads) whose `column` names the zone, or a raster of classes,
        such as the map of an earlier date. Polygons with the same name are one zone. A pixel is in the last zone that
        contains its center.
    out : path, optional
        A CSV file of the table.
    column, layer : str, optional
        For polygons: the column that names the zones, and the layer or layers.
    legend, by_legend : path, dict of names by code, Legend or Nomenclature, optional
        Names of the codes of the map, and of a raster of zones; by default their own.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only pixels whose centers lie inside count; `aoi_crs` is the CRS if the polygons state none.
    mkdir, overwrite : bool
        Create missing folders; replace an existing file.
    threads : int, optional
        Number of tiles that are counted at once.
    progress, announce : callable, optional
        Called with a `Progress` after each tile, and with lines for people.

    Returns
    -------
    pandas.DataFrame
        A row for each class in each zone that has a pixel of it: zone (only with `by`; an integer if the column holds
        integers, else text), code, name, pixels, area_m2 (area_px if the map is not georeferenced), and share (of the
        zone's area that has a class).

    Raises
    ------
    UsageError, SceneError, OutputError
        Nothing new is left at `out`.

    Notes
    -----
    Areas are measured on the ground, in any CRS, and as mapped: `evaluate(..., areas=True)` corrects them for the
    map's errors. The map is read once, tile by tile.

    Examples
    --------
    >>> table = geoseg.tabulate("landcover.tif", "districts.gpkg", column="district")  # doctest: +SKIP
    >>> table.pivot(index="zone", columns="name", values="area_m2")  # doctest: +SKIP

    """
    announce = announcer(announce)
    landcover = as_scene(landcover, "landcover")
    target = None if out is None else _check_target(out, mkdir=mkdir, overwrite=overwrite)
    if target is not None:
        check_unread(target, "out", *local_files(landcover), landcover, by, legend, by_legend, aoi)
    raster, names = features.open_map(landcover, legend, aoi, aoi_crs)
    zones = _Zones.of(by, column, layer, by_legend, raster)
    ground = Ground.of(raster.scene.geobox)
    comparison = Comparison(raster, zones.source, Matching(names, zones.names, by_name=False), None, ground)
    counts, _ = count(comparison, threads=threads, progress=progress)
    table = _table(counts, comparison, zones)
    for line in (raster.note, *zones.notes, *_notes(counts, zones)):
        if line:
            announce(line)
    if target is not None:
        if mkdir:
            make_folders(target)
        write_durably(target, table.to_csv(index=False, lineterminator="\n").encode())
    return table


def _check_target(out: StrPath, *, mkdir: bool, overwrite: bool) -> Path:
    path = Path(out)
    if path.suffix.lower() != _CSV:
        raise UsageError(f"the table must be a {_CSV} file, got {path}", "out")
    return check_target(out, mkdir=mkdir, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class _Zones:
    """The zones that divide a map."""

    source: ShiftedRaster | WarpedRaster | BurnedPolygons | None
    """None if the map is not divided."""
    names: Nomenclature
    """Names of the zones' codes."""
    notes: tuple[str | None, ...] = ()
    are_numbered: bool = False
    """Whether their names are integers."""

    @classmethod
    def of(
        cls,
        by: Any,  # noqa: ANN401 - a path, or a GeoDataFrame, slow to import
        column: str | None,
        layer: LayerChoice,
        legend: GivenLegend | None,
        raster: ClassRaster,
    ) -> Self:
        """Open zones. UsageError or SceneError if they are no zones, or lie outside the map."""
        if not (by is None or is_frame(by)):
            by = as_scene(by, "by")
        is_polygons = are_polygons(by)
        for name, value in (("column", column), ("layer", layer)):
            if value is not None and not is_polygons:
                raise UsageError(f"`{name}` is for polygons; leave it out, or give `by` a file of polygons", name)
        if legend is not None and (by is None or is_polygons):
            raise UsageError("`by_legend` is for zones from a raster; leave it out", "by_legend")
        if by is None:
            return cls(None, Nomenclature())
        grid, path = raster.scene.geobox, raster.scene.path
        if is_polygons:
            burned = BurnedPolygons.open(by, column, layer, grid, path, zone_codes, "zones")
            return cls(burned, burned.names, (burned.note,), burned.source.is_integer(burned.column))
        try:
            given_legend = given_names(legend)
            zones = ClassRaster.open(by, given_legend or raster.names)
        except GeosegError as error:
            raise error.renamed(legend="by_legend") from None
        aligned = align(zones, grid)
        return cls(aligned, zones.names if given_legend is None else given_legend, (zones.note, aligned.note))


def _table(counts: PairCounts, comparison: Comparison, zones: _Zones) -> pd.DataFrame:
    """Return the table that `tabulate` describes. SceneError if no pixel has both a class and a zone."""
    import pandas as pd  # noqa: PLC0415 - half a second, which an error need not wait for

    is_divided, names, areas = zones.source is not None, comparison.matching.map_names, comparison.areas(counts)
    column = "area_px" if comparison.ground is None else f"area_{comparison.ground.unit}"
    pairs = sorted(pair for pair in counts.pixels if pair[1] != NONE and not (is_divided and pair[0] == NONE))
    if not pairs:
        place = " in a zone" if is_divided else ""
        raise SceneError(
            f"{shown(comparison.mapped.scene.path)} has no pixel with a class{place}; check its nodata value, its "
            "place, and the area of interest"
        )
    zone_areas: defaultdict[int, float] = defaultdict(float)
    for zone, code in pairs:
        zone_areas[zone] += areas[zone, code]
    class_names = {code: names.of(code).name for code in {code for _, code in pairs}}
    rows = [
        {"zone": int(zones.names.of(zone).name) if zones.are_numbered else zones.names.of(zone).name}
        | {"code": code, "name": class_names[code], "pixels": counts.pixels[zone, code]}
        | {column: areas[zone, code], "share": areas[zone, code] / zone_areas[zone]}
        for zone, code in pairs
    ]
    table = pd.DataFrame(rows)
    return table if is_divided else table.drop(columns="zone")


def _notes(counts: PairCounts, zones: _Zones) -> Iterator[str]:
    """Yield notes on pixels in no zone or in several, and on zones without pixels of the map."""
    if zones.source is None:
        return
    mapped_px = sum(pixels for (_, code), pixels in counts.pixels.items() if code != NONE)
    outside_px = sum(pixels for (zone, code), pixels in counts.pixels.items() if code != NONE and zone == NONE)
    if outside_px:
        yield f"outside all zones: {numbered(outside_px, 'pixel')} of the map ({outside_px / mapped_px:.2%})"
    if counts.contested:
        yield f"in several zones: {numbered(counts.contested, 'pixel')}, where the last polygon counts"
    empty_zones = len(zones.names) - len({zone for zone, code in counts.pixels if NONE not in (zone, code)})
    if empty_zones and isinstance(zones.source, BurnedPolygons):
        yield f"{empty_zones} of {len(zones.names)} zones {'has' if empty_zones == 1 else 'have'} no pixel with a class"
