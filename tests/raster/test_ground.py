from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import rasterio.warp
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from geoseg.raster import GeoBox, Ground, Window, geobox
from geoseg.raster.geobox import GroundControlPoint

GEOD = Geod(ellps="WGS84")
PLACES = {
    "web mercator": ("EPSG:3857", Affine(500, 0, 900e3, 0, -500, 8e6), (300, 400)),
    "web mercator, a small scene": ("EPSG:3857", Affine(0.5, 0, 900e3, 0, -0.5, 8e6), (30, 40)),
    "web mercator, south up": ("EPSG:3857", Affine(500, 0, 900e3, 0, 500, 8e6), (300, 400)),
    "web mercator, all the world": (
        "EPSG:3857",
        Affine(40075016 / 720, 0, -20037508, 0, -40075016 / 720, 2e7),
        (718, 720),
    ),
    "polar, around the pole": ("EPSG:3413", Affine(9000, 0, -1.8e6, 0, -9000, 1.8e6), (400, 400)),
    "utm, far from its zone": ("EPSG:32632", Affine(100, 20, 2e6, 25, -90, 5e6), (500, 300)),
    "utm, one zone off": ("EPSG:32632", Affine(100, 0, 11e5, 0, -100, 3e6), (300, 400)),
    "plate carrée in meters": ("EPSG:4087", Affine(1000, 0, 1e6, 0, -1000, 6.5e6), (200, 300)),
    "over the 180th meridian": ("EPSG:3832", Affine(1000, 0, 2.9e6, 0, -1000, 5e6), (300, 400)),
    "degrees": ("EPSG:4326", Affine(0.01, 0, 8, 0, -0.01, 60), (300, 400)),
    "degrees, rotated": ("EPSG:4326", Affine(0.01, 0.004, 8, -0.003, -0.01, 60), (300, 400)),
    "equal area": ("EPSG:3035", Affine(1000, 0, 3e6, 0, -1000, 3e6), (300, 400)),
}
GEOGRAPHIC = [name for name in PLACES if name.startswith("degrees")]


def box(name: str) -> GeoBox:
    crs, transform, shape = PLACES[name]
    return GeoBox(*shape, transform, CRS.from_user_input(crs))


def on_the_ground(geobox: GeoBox, ring: np.ndarray) -> tuple[float, float]:
    """Return geodesic area and length of a ring (vertex, 2) of (col, row), each edge split into 300 pieces."""
    dense = np.concatenate([np.linspace(a, b, 300, endpoint=False) for a, b in pairwise(ring)])
    x, y = geobox.transform @ (dense[:, 0], dense[:, 1])
    lon, lat = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True).transform(x, y)
    area, length = GEOD.polygon_area_perimeter(lon, lat)
    return abs(area), length


def outline(window: Window) -> np.ndarray:
    top, bottom, left, right = window.row, window.row_stop, window.col, window.col_stop
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], float)


def areas(ground: Ground, window: Window) -> float:
    return float(np.broadcast_to(ground.areas(window), window.shape).sum())


@pytest.mark.parametrize("name", [name for name in PLACES if "world" not in name])
def test_pixels_sum_to_the_geodesic_area_of_their_window(name: str) -> None:
    geobox = box(name)
    height, width = geobox.shape
    ground = Ground.of(geobox)
    for window in (
        Window(0, 0, height, width),
        Window(0, width // 2, height // 3, width // 2),
        Window(height - 5, 3, 5, 2),
    ):
        assert areas(ground, window) == pytest.approx(on_the_ground(geobox, outline(window))[0], rel=1e-3)


def test_the_pixels_of_the_world_are_the_world() -> None:
    geobox = box("web mercator, all the world")
    equal_area = Transformer.from_crs("EPSG:3857", "EPSG:6933", always_xy=True)
    (left, right), (top, bottom) = equal_area.transform([-20037508, 20037508], [2e7, (geobox.transform @ (0, 718))[1]])
    assert areas(Ground.of(geobox), Window(0, 0, *geobox.shape)) == pytest.approx(
        (right - left) * (top - bottom), rel=1e-3
    )


@pytest.mark.parametrize(
    "name", [name for name in PLACES if name not in {*GEOGRAPHIC, "equal area", "web mercator, all the world"}]
)
def test_a_ring_measures_what_it_does_on_the_ground(name: str) -> None:
    geobox = box(name)
    height, width = geobox.shape
    ring = np.array([(0.1, 0.2), (0.8, 0.1), (0.9, 0.7), (0.5, 0.4), (0.3, 0.9), (0.1, 0.2)]) * (width, height)
    ground = Ground.of(geobox)
    assert ground.surface is None
    both = np.concatenate([ring, outline(Window(3, 4, 1, 1))])
    xy = np.stack(geobox.transform @ (both[:, 0], both[:, 1]), axis=1)
    found, length = ground.measure(xy, np.array([0, 6, 11]))
    assert (found[0], length[0]) == pytest.approx(on_the_ground(geobox, ring), rel=1e-3)
    assert found[1] == pytest.approx(areas(ground, Window(3, 4, 1, 1)), rel=1e-5)


def test_rings_of_pixels_measure_the_sum_of_the_pixels() -> None:
    geobox = box("polar, around the pole")
    ground = Ground.of(geobox)
    windows = [Window(0, 0, 400, 400), Window(190, 10, 20, 380), Window(7, 300, 350, 1)]
    corners = np.concatenate([outline(window) for window in windows])
    found, _ = ground.measure(np.stack(geobox.transform @ (corners[:, 0], corners[:, 1]), axis=1), np.arange(4) * 5)
    assert found == pytest.approx([areas(ground, window) for window in windows], rel=1e-5)


@pytest.mark.parametrize(
    ("crs", "unit_m"), [("EPSG:32632", 1), ("EPSG:3035", 1), ("EPSG:2263", 1200 / 3937), ("EPSG:27700", 1)]
)
def test_square_meters_of_a_true_grid_are_the_grids_own(crs: str, unit_m: float) -> None:
    x, y = {"EPSG:32632": (4e5, 5.3e6), "EPSG:3035": (4e6, 3e6), "EPSG:2263": (1e6, 2e5), "EPSG:27700": (4e5, 3e5)}[crs]
    ground = Ground.of(GeoBox(50, 60, Affine(10, 0, x, 0, -10, y), CRS.from_user_input(crs)))
    assert ground.is_even
    assert ground.areas().shape == (1, 1)
    assert ground.rows() is None
    assert ground.pixel == pytest.approx(100 * unit_m**2, rel=1e-12)


def test_a_raster_without_a_place_is_measured_in_pixels_and_on_another_body_on_its_plane() -> None:
    nowhere = Ground.of(GeoBox(5, 6, Affine.identity()))
    assert (nowhere.unit, nowhere.in_px, nowhere.pixel, nowhere.is_even) == ("px", True, 1.0, True)
    mars = CRS.from_proj4("+proj=merc +R=3396190 +units=m +no_defs")
    assert Ground.of(GeoBox(5, 6, Affine(10, 0, 0, 0, -10, 7e6), mars)).unit == "m2"


def test_points_of_another_body_are_not_looked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def transform(crs: CRS, other: CRS, x: Any, y: Any) -> Any:
        asked.append(len(x))
        return rasterio.warp.transform(crs, other, x, y)

    monkeypatch.setattr(geobox, "transform_points", transform)
    europa = CRS.from_proj4("+proj=eqc +R=1560800 +units=m +no_defs")
    place = GeoBox(900, 800, Affine(500, 0, 0, 0, -500, 2e5), europa)
    assert Ground.of(place).rows() is None
    assert Ground.of(place).pixel == pytest.approx(500**2)
    assert len(asked) <= 4 < max(asked)


@pytest.mark.parametrize("name", list(PLACES))
def test_the_matrix_is_the_pixel_at_the_center(name: str) -> None:
    geobox = box(name)
    ground = Ground.of(geobox)
    a, b, c, d = ground.matrix
    height, width = geobox.shape
    assert ground.pixel == pytest.approx(areas(ground, Window(height // 2, width // 2, 1, 1)), rel=2e-2)
    middle = np.array([(width / 2, height / 2), (width / 2 + 1, height / 2), (width / 2, height / 2)])
    assert math.hypot(a, c) == pytest.approx(on_the_ground(geobox, middle)[1] / 2, rel=5e-3)
    assert math.hypot(b, d) == pytest.approx(
        on_the_ground(geobox, middle[:, ::-1] - [(height - width) / 2, (width - height) / 2])[1] / 2, rel=5e-3
    )


@pytest.mark.parametrize("name", ["web mercator", "polar, around the pole", "degrees", "degrees, rotated"])
def test_rows_are_means_of_the_areas(name: str) -> None:
    ground = Ground.of(box(name))
    rows = ground.rows()
    assert rows is not None
    assert rows == pytest.approx(np.broadcast_to(ground.areas(), ground.geobox.shape).mean(axis=1))


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32632", "EPSG:4326"])
def test_ground_control_points_place_pixels_too(crs: str) -> None:
    transform = Affine(0.001, 0, 8, 0, -0.001, 50) if crs == "EPSG:4326" else Affine(100, 0, 5e5, 0, -100, 5.5e6)
    corners = [(0, 0), (0, 40), (30, 0), (30, 40)]
    points = tuple(GroundControlPoint(row, col, *(transform @ (col, row))) for row, col in corners)
    by_points = GeoBox(30, 40, Affine.identity(), None, points, CRS.from_user_input(crs))
    by_transform = GeoBox(30, 40, transform, CRS.from_user_input(crs))
    window = Window(0, 0, 30, 40)
    ground = Ground.of(by_points)
    assert areas(ground, window) == pytest.approx(areas(Ground.of(by_transform), window), rel=1e-4)
    if ground.surface is None:  # coordinates are pixels
        found, _ = ground.measure(outline(window), np.array([0, 5]))
        assert found[0] == pytest.approx(areas(ground, window), rel=1e-6)
