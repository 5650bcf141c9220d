"""Tiles of a map server in place of a raster: an address with {z}, {x} and {y}, at one zoom.

GDAL's WMS driver fetches them: https://gdal.org/drivers/raster/wms.html. The tiles are those of the web's slippy maps:
256 pixels a side, Web Mercator, y from the north ({-y}: from the south).
"""

from __future__ import annotations

import math
import re
from xml.sax.saxutils import escape

from geoseg.errors import UsageError

TILE_PX = 256
FIRST_ZOOM, LAST_ZOOM = 0, 22
"""Beyond, an edge of the world has more pixels than GDAL counts."""
_HALF_M = 20037508.342789244
_PLACEHOLDER = re.compile(r"\$?\{(-?)([xyzq])\}", re.IGNORECASE)
_NO_TILE = "204,404,410"
"""HTTP's ways to say that there is none."""


def is_tile_address(path: str) -> bool:
    """Say whether a path is the address of tiles: https://example.org/{z}/{x}/{y}.png."""
    if not path.lower().startswith(("http://", "https://")):
        return False
    return {"x", "y", "z"} <= {letter.lower() for _, letter in _PLACEHOLDER.findall(path)}


def tiles_raster(address: str, zoom: int) -> str:
    """Return the text that GDAL takes for the tiles of a zoom as one raster of red, green and blue.

    UsageError for a zoom that is none. Pixels that are black in all bands, as those of tiles that are not there, are
    not valid.
    """
    if not FIRST_ZOOM <= zoom <= LAST_ZOOM:
        raise UsageError(f"`zoom` must be {FIRST_ZOOM} to {LAST_ZOOM}, got {zoom}", "zoom")
    from_south = any(sign for sign, letter in _PLACEHOLDER.findall(address) if letter.lower() == "y")
    url = _PLACEHOLDER.sub(lambda found: f"${{{found[2].lower()}}}", address)
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{escape(url)}</ServerUrl></Service>'
        f"<DataWindow><UpperLeftX>{-_HALF_M}</UpperLeftX><UpperLeftY>{_HALF_M}</UpperLeftY>"
        f"<LowerRightX>{_HALF_M}</LowerRightX><LowerRightY>{-_HALF_M}</LowerRightY><TileLevel>{zoom}</TileLevel>"
        "<TileCountX>1</TileCountX><TileCountY>1</TileCountY>"
        f"<YOrigin>{'bottom' if from_south else 'top'}</YOrigin></DataWindow><Projection>EPSG:3857</Projection>"
        f"<BlockSizeX>{TILE_PX}</BlockSizeX><BlockSizeY>{TILE_PX}</BlockSizeY><BandsCount>3</BandsCount>"
        f'<DataValues NoData="0 0 0"/><ZeroBlockHttpCodes>{_NO_TILE}</ZeroBlockHttpCodes>'
        "<UserAgent>geoseg</UserAgent><Timeout>60</Timeout></GDAL_WMS>"
    )


def better_zoom(zoom: int, gsd_m: float, wanted_m: float) -> int:
    """Return the zoom whose pixels are nearest to a size on the ground, from what they measure at another zoom."""
    return min(max(round(zoom + math.log2(gsd_m / wanted_m)), FIRST_ZOOM), LAST_ZOOM)
