"""From a scene and a model to a map: plan, tiles, blending, journal, Dask."""
