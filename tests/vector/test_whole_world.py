"""Polygons of any projection in longitude and latitude: valid and as large as their pixels, also at poles and 180."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.vector import vectorize
from tests.vector.features import read

pytestmark = pytest.mark.filterwarnings("ignore::geoseg.errors.GeosegWarning")  # of areas that are not the ground's
GEOD = pyproj.Geod(ellps="WGS84")
_POLAR, _OFF = Affine(2e5, 0, -24e5, 0, -2e5, 24e5), Affine(2e5, 0, -2433e3, 0, -2e5, 2412345)
_SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m"
PLACES: dict[str, tuple[str, Affine]] = {
    "a corner at the north pole": ("EPSG:3413", _POLAR),
    "the north pole in a pixel": ("EPSG:3413", _OFF),
    "a corner at the south pole": ("EPSG:3031", _POLAR),
    "the south pole in a pixel": ("EPSG:3031", _OFF),
    "EASE grid": ("EPSG:6931", _POLAR),
    "the pole on a side": ("EPSG:3995", Affine(2e5, 0, -24e5, 0, -2e5, 2433e3)),
    "UTM 1": ("EPSG:32601", Affine(5e3, 0, 150_000, 0, -5e3, 7e6)),
    "UTM 60": ("EPSG:32660", Affine(5e3, 0, 770_000, 0, -5e3, 7e6)),
    "Fiji": ("EPSG:3832", Affine(5e3, 0, 3_280_000, 0, -5e3, -17e5)),
    "Europe": ("EPSG:3035", Affine(1e5, 0, 25e5, 0, -1e5, 55e5)),
    "Mollweide": ("ESRI:54009", Affine(4e5, 0, -5e6, 0, -4e5, 5e6)),
    "a MODIS tile": (_SINUSOIDAL, Affine(46331.27, 0, 0, 0, -46331.27, 5559752.6)),
    "Web Mercator": ("EPSG:3857", Affine(16e5, 0, -20037508.342789244, 0, -12e5, 15e6)),
    "the world to 360": ("EPSG:4258", Affine(15, 0, 0, 0, -7.5, 90)),
    "the world to 180": ("EPSG:4258", Affine(15, 0, -180, 0, -7.5, 90)),
}


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_valid_and_as_large_as_their_pixels(tmp_path: Path, place: str) -> None:
    path, classes = _map(tmp_path, *PLACES[place])
    pixels = _pixel_areas(*PLACES[place])
    for out in ("map.geojson", "map.gpkg"):
        found = _written(path, tmp_path / out)
        for code in np.unique(classes):
            total = sum(_area(geometry) for geometry in found.geometry[found.code == code])
            assert total == pytest.approx(pixels[classes == code].sum(), rel=1e-3), (out, code)


@pytest.mark.parametrize(
    "place", ["a corner at the north pole", "the south pole in a pixel", "the pole on a side", "UTM 1"]
)
@pytest.mark.parametrize("knobs", [{"simplify": "1.5px"}, {"smooth": True}, {"simplify": "1px", "dissolve": True}])
def test_simplified_polygons_are_valid_and_cover_the_raster(tmp_path: Path, place: str, knobs: dict[str, Any]) -> None:
    path, _ = _map(tmp_path, *PLACES[place])
    found = _written(path, tmp_path / "map.fgb", **knobs)
    assert sum(map(_area, found.geometry)) == pytest.approx(_pixel_areas(*PLACES[place]).sum(), rel=1e-3)


@pytest.mark.parametrize("place", ["Europe", "Mollweide"])
def test_neighbours_share_the_vertices_of_sides_that_bend(tmp_path: Path, place: str) -> None:
    path, _ = _map(tmp_path, *PLACES[place])
    found = _written(path, tmp_path / "map.fgb", simplify=0)
    plain = vectorize(path, simplify=0)
    assert shapely.get_num_coordinates(found.geometry).sum() > shapely.get_num_coordinates(plain.geometry).sum()
    assert shapely.coverage_is_valid(found.geometry.to_numpy())


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:6933", "EPSG:4258"])
def test_sides_of_half_the_world_and_more_stay_where_they_are(tmp_path: Path, crs: str) -> None:
    east, north = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(180, 80)
    classes = np.uint8([[1, 1, 2, 2], [1, 1, 1, 2], [3, 4, 4, 3], [5, 5, 5, 5]])
    place = Affine(east / 2, 0, -east, 0, -north / 2, north)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 4, "width": 4}
    with rasterio.open(tmp_path / "map.tif", "w", crs=crs, transform=place, **profile) as file:
        file.write(classes, 1)

    vectorize(tmp_path / "map.tif", tmp_path / "out.gpkg", crs="EPSG:4326", layer="cover")

    found = read(tmp_path / "out.gpkg")
    assert all(map(shapely.is_valid, found.geometry))
    # parallels and meridians are straight lines there
    plane = pyproj.Transformer.from_crs("EPSG:4326", "+proj=cea", always_xy=True)
    flat = shapely.transform(np.asarray(found.geometry, object), lambda xy: np.column_stack(plane.transform(*xy.T)))
    edges = pyproj.Transformer.from_crs(crs, "+proj=cea", always_xy=True)
    xs, ys = edges.transform(np.linspace(-east, east, 5), np.linspace(north, -north, 5))
    pixels = np.abs(np.outer(np.diff(ys), [np.ptp(xs) / 4] * 4))
    for code in range(1, 6):
        total = sum(shapely.area(flat)[np.asarray(found.code) == code])
        assert total == pytest.approx(pixels[classes == code].sum(), rel=1e-3), code


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258"])
@pytest.mark.parametrize("west", [0, -187.5, -180])
def test_a_class_at_both_ends_of_the_world_is_valid(tmp_path: Path, crs: str, west: float) -> None:
    place = Affine(15, 0, west, 0, -7.5, 90)
    path, classes = _map(tmp_path, crs, place)
    found = _written(path, tmp_path / "map.geojson", dissolve=True)
    areas = [_area(geometry) for geometry in found.geometry]
    pixels = _pixel_areas(crs, place)
    assert areas == pytest.approx([pixels[classes == code].sum() for code in found.code], rel=1e-3)


@pytest.mark.parametrize("code", [3413, 3575])
def test_another_map_of_the_pole_needs_no_cut(tmp_path: Path, code: int) -> None:
    path, _ = _map(tmp_path, "EPSG:3995", _OFF)
    vectorize(path, tmp_path / "map.fgb", crs=f"EPSG:{code}")
    found = read(tmp_path / "map.fgb")
    assert found.is_valid.all()
    assert set(found.geom_type) == {"Polygon"}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("crs", "place", "target", "said"),
    [
        ("ESRI:54009", Affine(1e6, 0, -18e6, 0, -1e6, 9e6), "EPSG:4326", "cannot be transformed to EPSG:4326"),
        (_SINUSOIDAL, Affine(1e5, 0, -18e6, 0, -1e5, 55e5), "EPSG:4326", "lies beyond the edge of the world"),
        ("EPSG:3413", _OFF, "EPSG:3857", "EPSG:3857 tears a polygon apart"),
        ("EPSG:3413", _POLAR, "EPSG:3857", r"cannot be transformed to EPSG:3857|tears a polygon apart"),
        ("EPSG:3832", Affine(5e3, 0, 3_280_000, 0, -5e3, -17e5), "EPSG:3857", "EPSG:3857 tears a polygon apart"),
    ],
)
def test_what_cannot_be_told_is_refused_in_a_line(
    tmp_path: Path, crs: str, place: Affine, target: str, said: str
) -> None:
    path, _ = _map(tmp_path, crs, place)
    with pytest.raises(SceneError, match=said) as caught:
        vectorize(path, tmp_path / "map.gpkg", crs=target)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "map.gpkg").exists()


def _map(folder: Path, crs: str, place: Affine) -> tuple[Path, NDArray[np.uint8]]:
    coarse = np.random.default_rng(3).integers(0, 3, (8, 8), dtype=np.uint8)
    classes = np.kron(coarse, np.ones((3, 3), np.uint8))
    classes[10:16, 9:15] = 0  # the classes around the middle of the raster
    classes[12, 12] = 2
    path = folder / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=24, height=24, count=1, dtype="uint8", crs=crs, transform=place
    ) as dataset:
        dataset.write(classes, 1)
    return path, classes


def _written(path: Path, out: Path, **knobs: Any) -> Any:
    vectorize(path, out, crs="EPSG:4326", layer="cover" if out.suffix == ".gpkg" else None, **knobs)
    found = read(out)
    assert found.is_valid.all()
    west, south, east, north = found.total_bounds
    assert (west, south) >= (-180, -90)
    assert (east, north) <= (180, 90)
    parts = found.geometry.explode()
    assert all(shapely.is_ccw(shapely.get_exterior_ring(parts.to_numpy())))
    return found


def _area(geometry: Any) -> float:
    """Return the geodesic area of polygons whose sides are straight in longitude and latitude."""
    total = 0.0
    for part in shapely.get_parts(shapely.segmentize(geometry, 0.25)):
        rings = [abs(GEOD.geometry_area_perimeter(shapely.Polygon(ring))[0]) for ring in shapely.get_rings(part)]
        total += rings[0] - sum(rings[1:])
    return total


def _pixel_areas(crs: str, place: Affine) -> NDArray[np.float64]:
    """Return (row, col) areas of pixels: 8 by 8 parallelograms each, on a sphere of the ellipsoid's area."""
    steps = 24 * 8
    cols, rows = np.meshgrid((np.arange(steps) + 0.5) / 8, (np.arange(steps) + 0.5) / 8)
    half = 1 / 16
    across = _on_sphere(crs, place, cols + half, rows) - _on_sphere(crs, place, cols - half, rows)
    along = _on_sphere(crs, place, cols, rows + half) - _on_sphere(crs, place, cols, rows - half)
    areas = np.linalg.norm(np.cross(across, along, axis=0), axis=0)
    return np.asarray(areas.reshape(24, 8, 24, 8).sum(axis=(1, 3)))


def _on_sphere(crs: str, place: Affine, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions (3, ...) on the authalic sphere (Snyder 1987, eq. 3-11 to 3-13)."""
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = np.radians(to_degrees.transform(place.a * cols + place.c, place.e * rows + place.f))
    e = np.sqrt(GEOD.es)

    def q(sine: Any) -> Any:
        return (1 - e * e) * (sine / (1 - (e * sine) ** 2) - np.log((1 - e * sine) / (1 + e * sine)) / (2 * e))

    beta = np.arcsin(np.clip(q(np.sin(lat)) / q(1.0), -1, 1))
    radius = GEOD.a * np.sqrt(q(1.0) / 2)
    return np.asarray(radius * np.stack([np.cos(beta) * np.cos(lon), np.cos(beta) * np.sin(lon), np.sin(beta)]))
