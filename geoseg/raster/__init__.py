"""Pixels with a place on Earth: windows, scenes, rasters of classes."""

from __future__ import annotations

from geoseg.face import attach
from geoseg.raster.own_data import use_own_proj_data

use_own_proj_data()

__getattr__, __dir__, __all__ = attach(__name__, __file__)
