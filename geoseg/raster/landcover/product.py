"""What a run may keep of a tile: class codes, the confidence in them, the probabilities of all classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geoseg.errors import UsageError
from geoseg.legend import Legend

ProductName = Literal["labels", "confidence", "probabilities"]


@dataclass(frozen=True, slots=True)
class Product:
    """One output raster; 255 is nodata in all of them.

    Labels hold class codes and have a legend; confidence and probabilities hold percent, 0 to 100.
    """

    name: ProductName
    bands: tuple[str, ...]
    """Band descriptions, in their order."""
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if not self.bands:
            raise UsageError(f"the product {self.name} needs at least one band, got none")
        if (self.name == "labels") != (self.legend is not None):
            raise UsageError(f"labels have a legend and nothing else has, got {self.name} with legend {self.legend}")

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)


def labels(legend: Legend) -> Product:
    """One band of class codes."""
    return Product("labels", ("land cover",), legend)


def confidence() -> Product:
    """One band: the probability of the class that won, in percent."""
    return Product("confidence", ("confidence (percent)",))


def probabilities(names: tuple[str, ...]) -> Product:
    """One band of percent for each class that the model knows, in its order."""
    return Product("probabilities", names)
