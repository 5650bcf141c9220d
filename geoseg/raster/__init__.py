"""Pixels with a place on Earth: windows, scenes, the land-cover raster."""

from geoseg.raster.own_data import use_own_proj_data

use_own_proj_data()
