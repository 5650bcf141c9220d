"""Pixels with a place on Earth: windows, scenes, the land-cover raster."""
