"""Polygons from a raster of classes, whatever its size: no gaps, no overlaps, flat memory."""
