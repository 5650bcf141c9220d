"""Land-cover maps from georeferenced rasters too big for memory.

>>> import geoseg
>>> geoseg.predict("scene.tif", "landcover.tif")  # doctest: +SKIP
>>> polygons = geoseg.vectorize("landcover.tif", simplify=1.5)  # doctest: +SKIP
>>> geoseg.evaluate("landcover.tif", "reference.tif").metrics.miou  # doctest: +SKIP
>>> geoseg.train("deepglobe/", "model.safetensors", epochs=40)  # doctest: +SKIP

Names are loaded on first use: `import geoseg` is fast, and loads neither torch nor GDAL.
"""

from __future__ import annotations

from geoseg.face import attach
from geoseg.version import VERSION

__version__ = VERSION

__getattr__, _names, __all__ = attach(__name__, __file__)
__all__ += ["__version__"]


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
