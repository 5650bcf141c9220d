"""Finds, starts and listens to the command `geoseg`. Nothing in this folder needs QGIS."""
