"""Believable landscapes with exact truth: any size, any seed, the same pixel whatever rectangle is asked for."""

from geoseg.synthetic.landscape import Landscape, write_landscape

__all__ = ["Landscape", "write_landscape"]
