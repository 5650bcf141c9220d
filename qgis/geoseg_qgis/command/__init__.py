"""The command `geoseg`: found, started, listened to. Nothing in this folder needs QGIS."""
