"""A folder with every file that the docs' commands name, each of a few thousand pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster
from rasterio.warp import transform_bounds
from rasterio.windows import Window, bounds
from shapely.geometry import Point, box

import geoseg
from geoseg.model import build as build_network
from geoseg.model.engines.export import export_onnx
from tests.networks import tiny_bundle
from tests.onnx_networks import NAMES, Kind, named

ROOT = Path(__file__).parents[2]
SCENE, TRUTH = ROOT / "sample_data" / "scene.tif", ROOT / "sample_data" / "truth.tif"
WINDOW = Window(2200, 90, 192, 160)
"""A part of the sample scene with several classes."""
_WATER = geoseg.DEEPGLOBE.codes[geoseg.DEEPGLOBE.names.index("water")]


def _area(scene: Path) -> object:
    """Return a triangle in the middle of a scene, as GeoJSON."""
    with rasterio.open(scene) as file:
        west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    width, height = east - west, north - south
    corners = [(0.2, 0.2), (0.8, 0.3), (0.5, 0.8), (0.2, 0.2)]
    ring = [[west + x * width, south + y * height] for x, y in corners]
    return {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def build(folder: Path) -> None:
    """Write all files into a folder."""
    (folder / "sample_data").mkdir(parents=True)
    with rasterio.open(SCENE) as file:
        image, crs, place = file.read(window=WINDOW), file.crs, file.window_transform(WINDOW)
        edges = bounds(WINDOW, file.transform)
    with rasterio.open(TRUTH) as file:
        codes = file.read(1, window=WINDOW)
    georeferenced: dict[str, Any] = {"crs": crs, "transform": place}
    write(folder / "scene.tif", image, **georeferenced)
    shutil.copy(folder / "scene.tif", folder / "landsat.tif")
    write_16_bit(folder / "landsat.tif")
    write(folder / "mosaic.vrt.tif", image, **georeferenced)
    copy_raster(folder / "mosaic.vrt.tif", folder / "mosaic.vrt", driver="VRT")
    shutil.copy(folder / "scene.tif", folder / "sample_data" / "scene.tif")
    for name in ("landcover.tif", "west.tif", "east.tif"):
        write_classes(folder / name, codes, georeferenced)
    write_classes(folder / "reference.tif", np.roll(codes, 3, axis=1), georeferenced)
    write_classes(folder / "later.tif", np.roll(codes, 9, axis=0), georeferenced)
    write(folder / "confidence.tif", (codes[None] * 10 + 30).astype(np.uint8), nodata=255, **georeferenced)
    write(folder / "nlcd_2021.tif", (21 + codes[None] % 4).astype(np.uint8), nodata=250, **georeferenced)
    with rasterio.open(folder / "nlcd_2021.tif", "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps(_nlcd()))
    with rasterio.open(
        folder / "ESA_WorldCover_10m_2021_v200_N45E006_Map.tif", "w", driver="GTiff", dtype="uint8", count=1,
        height=codes.shape[0], width=codes.shape[1], nodata=0, **georeferenced,
    ) as file:  # fmt: skip
        file.write(np.where(codes == _WATER, 80, 40).astype(np.uint8), 1)
    (folder / "worldcover.csv").write_text("code,name,color\n80,water,#0064c8\n40,agriculture_land,#f096ff\n")
    write(folder / "flair_labels.tif", np.clip(codes[None], 1, 3), nodata=255, **georeferenced)
    (folder / "flair.json").write_text('{"1": "building", "2": "grass", "3": "snow"}')
    (folder / "to_deepglobe.json").write_text(
        '{"building": "urban_land", "grass": ["rangeland", "agriculture_land"], "snow": null}'
    )
    (folder / "flair.csv").write_text("scene,labels\nscene.tif,flair_labels.tif\n")
    geoseg.vectorize(folder / "landcover.tif", folder / "landcover.gpkg")
    geoseg.vectorize(folder / "landcover.tif", folder / "landcover.parquet")
    _write_points(folder / "points.gpkg", codes, place, crs)
    fields = geopandas.GeoDataFrame(
        {"crop": ["agriculture_land"], "landuse": ["Agriculture land"]}, geometry=[box(*edges)], crs=crs
    )
    fields.to_file(folder / "fields.gpkg")
    fields.to_file(folder / "parcels.gpkg")
    fields.rename(columns={"landuse": "district"}).to_file(folder / "districts.gpkg")
    (folder / "crops.csv").write_text("code,name\n1,agriculture_land\n3,forest_land\n")
    write_deepglobe(folder / "deepglobe", image, codes)
    shutil.copytree(folder / "deepglobe", folder / "my_labels")
    (folder / "scenes").mkdir()
    shutil.copy(folder / "scene.tif", folder / "scenes")
    network = named(Kind(), tile_size=64)
    network.write(folder / "roofs.onnx")
    (folder / "legend.json").write_text(json.dumps(_classes(network)))
    shutil.copy(folder / "scene.tif", folder / "other.tif")
    area = json.dumps(_area(folder / "scene.tif"))
    (folder / "area.geojson").write_text(area)
    geopandas.read_file(area).to_file(folder / "parish.gpkg")
    (folder / "list.txt").write_text("other.tif\n")
    _write_model(folder)


def _write_model(folder: Path) -> None:
    """Write a bundle far smaller than the shipped one, since each test copies it."""
    (folder / "network").mkdir()
    weights = tiny_bundle(folder / "network", gsd_m=0.5).weights_path
    for suffix in (".safetensors", ".onnx"):
        weights.with_suffix(suffix).rename(folder / f"model{suffix}")
    (folder / "network").rmdir()


def write(path: Path, data: NDArray[Any], **profile: Any) -> None:
    """Write (band, row, col) as a GeoTIFF."""
    shape = {"count": data.shape[0], "height": data.shape[1], "width": data.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=data.dtype, **shape, **profile) as file:
        file.write(data)
        if data.shape[0] == 3:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def _classes(network: Kind) -> list[dict[str, object]]:
    return [
        {"code": code, "name": name, "color": [40 * code, 99, 0]} for code, name in enumerate(NAMES[: network.channels])
    ]


def write_16_bit(path: Path) -> None:
    """Replace a scene of three uint8 bands by one of four uint16 bands."""
    with rasterio.open(path) as file:
        image, profile = file.read().astype(np.uint16) * 11, {"crs": file.crs, "transform": file.transform}
    path.unlink()
    write(path, np.concatenate([image[::-1], image[:1]]), **profile)


def write_weights(path: Path) -> None:
    """Write the weights of a small network as they are published, and a legend for files that have none."""
    is_flair = path.name.startswith("FLAIR")
    bands = 4 if "rgbi" in path.name else 3
    arguments = {"encoder_name": "resnet18", "in_channels": bands, "classes": 19 if is_flair else 7}
    network = build_network("Unet", arguments | {"encoder_depth": 3, "decoder_channels": [16, 16, 8]})
    prefix = "model.seg_model." if is_flair else "model."
    torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, path)
    rows = [{"code": each.code, "name": each.name, "color": list(each.color)} for each in geoseg.DEEPGLOBE]
    (path.parent / "legend.json").write_text(json.dumps(rows), encoding="utf-8")


def write_flair(path: Path) -> None:
    """Write a FLAIR bundle with a small network and its export, so that no test needs a process to make one."""
    weights = path.with_name("FLAIR-INC_rgb_15cl_resnet34-unet_weights.pth")
    write_weights(weights)
    bundle = geoseg.import_weights(weights, path, overwrite=True)
    export_onnx(bundle, 64, path.with_suffix(".onnx"))  # for every window


def write_classes(path: Path, codes: NDArray[np.uint8], place: dict[str, Any]) -> None:
    """Write a map with the DeepGlobe legend in its tags."""
    write(path, codes[None], nodata=geoseg.NODATA, **place)
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps(geoseg.DEEPGLOBE.to_json()))


def write_deepglobe(folder: Path, image: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Write six pairs in the DeepGlobe layout."""
    folder.mkdir()
    colors = np.zeros((256, 3), np.uint8)
    for known in geoseg.DEEPGLOBE:
        colors[known.code] = known.color
    mask = np.moveaxis(colors[codes], -1, 0)
    for number in range(6):
        for kind, driver, data in (("sat.jpg", "JPEG", image), ("mask.png", "PNG", mask)):
            part = np.ascontiguousarray(np.roll(data, number * 16, axis=2)[:, :96, :96])
            with rasterio.open(
                folder / f"{number + 1}_{kind}", "w", driver=driver, dtype="uint8", count=3, height=96, width=96
            ) as file:
                file.write(part)


def _write_points(path: Path, codes: NDArray[np.uint8], place: Any, crs: Any) -> None:
    rows, cols = np.mgrid[4:160:12, 4:192:12]
    points = [Point(*(place @ (col + 0.5, row + 0.5))) for row, col in zip(rows.ravel(), cols.ravel(), strict=True)]
    classes = [geoseg.DEEPGLOBE.by_code(int(code)).name for code in codes[rows.ravel(), cols.ravel()]]
    geopandas.GeoDataFrame({"class": classes}, geometry=points, crs=crs).to_file(path)


def _nlcd() -> list[dict[str, Any]]:
    names = (
        "Developed, Open Space",
        "Developed, Low Intensity",
        "Developed, Medium Intensity",
        "Developed, High Intensity",
    )
    return [{"code": 21 + number, "name": name, "color": [200, 40 * number, 0]} for number, name in enumerate(names)]
