"""The characteristics of a place: its land use, soils, plants, roofs, light and camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]
"""Red, green, blue, 0 to 1, as the camera shows them at noon in clear air."""

_SOILS: tuple[Color, ...] = (
    (0.50, 0.41, 0.30),
    (0.55, 0.38, 0.26),
    (0.46, 0.40, 0.33),
    (0.60, 0.52, 0.40),
    (0.40, 0.33, 0.26),
    (0.52, 0.47, 0.40),
    (0.58, 0.33, 0.21),  # laterite
    (0.66, 0.60, 0.51),
    (0.30, 0.27, 0.24),  # black cotton soil
    (0.47, 0.45, 0.41),
)
_GRASSES: tuple[Color, ...] = (
    (0.37, 0.38, 0.24),
    (0.44, 0.39, 0.27),
    (0.33, 0.38, 0.25),
    (0.40, 0.35, 0.26),
    (0.30, 0.36, 0.22),
    (0.46, 0.43, 0.30),
    (0.30, 0.42, 0.22),
    (0.40, 0.50, 0.34),
    (0.52, 0.48, 0.36),
)
_STRAWS: tuple[Color, ...] = ((0.62, 0.56, 0.40), (0.55, 0.47, 0.33), (0.66, 0.62, 0.50), (0.52, 0.48, 0.38))
_LEAVES: tuple[Color, ...] = (
    (0.15, 0.25, 0.14),
    (0.20, 0.29, 0.17),
    (0.13, 0.22, 0.16),
    (0.24, 0.29, 0.16),
    (0.11, 0.20, 0.11),
    (0.26, 0.37, 0.21),
    (0.31, 0.37, 0.24),
    (0.19, 0.29, 0.29),
    (0.35, 0.33, 0.26),  # leafless
)
_AUTUMNS: tuple[Color, ...] = ((0.52, 0.43, 0.22), (0.46, 0.38, 0.29), (0.50, 0.33, 0.24), (0.42, 0.44, 0.24))
_ROCKS: tuple[Color, ...] = ((0.52, 0.51, 0.49), (0.64, 0.60, 0.53), (0.42, 0.40, 0.38), (0.72, 0.69, 0.62))
_WATERS: tuple[Color, ...] = (
    (0.12, 0.17, 0.18),
    (0.20, 0.29, 0.26),
    (0.26, 0.37, 0.33),
    (0.47, 0.41, 0.34),
    (0.37, 0.36, 0.29),
    (0.10, 0.15, 0.13),
    (0.16, 0.22, 0.28),
    (0.24, 0.32, 0.20),
    (0.52, 0.47, 0.37),
    (0.36, 0.46, 0.44),
)
_LEVELS = {
    "plain": (-0.65, 0.8, 0.4, 0.9, 1.0),
    "town": (0.4, -0.1, 0.15, 0.45, 0.9),
    "wood": (0.45, 0.75, -0.45, 0.8, 0.8),
    "dry": (0.45, 0.6, 0.6, -0.05, 1.0),
    "delta": (-0.3, 0.65, 0.25, 0.7, 0.55),
    "coast": (0.05, 0.5, 0.0, 0.4, 0.9),
    "mixed": (0.15, 0.4, 0.05, 0.35, 0.75),
    "range": (0.3, 0.75, 0.35, 0.6, 0.9),
}
"""How rare farms, towns, woods, bare land and lakes are in a place of each character ..."""
_CHANCES = (0.15, 0.11, 0.13, 0.15, 0.11, 0.08, 0.14, 0.13)
"""... and how often each character occurs."""


@dataclass(frozen=True, slots=True)
class Place:
    """The parameters of one place, drawn from its seed by `draw_place`."""

    seed: int
    soil: Color
    grass: Color
    leaf: Color
    water: Color
    farm_level: float
    """Parcels where the farming field is above this are fields; lower means more fields."""
    town_level: float
    wood_level: float
    bare_level: float
    lake_level: float
    sea_level: float
    river_width_m: float
    hamlets: float
    """Chance that a single parcel in the open country is built up."""
    ponds: float
    """Chance that a parcel is a pond."""
    canals: float
    """Chance that a border between two districts is a canal instead of a road."""
    parcel_m: float
    aspect: float
    """Length of a parcel over its width."""
    turn: int
    """Common direction of the districts, in 64ths of a full turn."""
    orchards: float
    greenness: float
    field_trees: float
    town_density: float
    roof_warmth: float
    """0: concrete and metal; 1: red tiles."""
    sun: tuple[float, float]
    """Unit vector towards the sun, x to the east, y to the south."""
    shadow_ratio: float
    """Length of a shadow relative to the height of the object."""
    haze: float
    gain: Color
    haze_color: Color
    contrast: float
    blur_px: float
    grain: float
    """Standard deviation of the camera noise, 0 to 255."""
    clouds: float
    """Cloud level; above 2 there are no clouds."""
    straw: Color
    """Dry grass and ripe grain."""
    rock: Color
    autumn_leaf: Color
    autumn: float
    """Share of the trees with autumn leaves."""
    dryness: float
    """How much of the grass is dry."""
    crown_scale: float
    """Size of tree crowns; 1 is normal."""
    canopy_light: float
    canopy_gaps: float
    """Share of the canopy that shows the ground."""
    plantations: float
    """Chance that a wooded parcel is planted in rows."""
    pasture: float
    """Chance that a grass parcel is fenced and even."""
    savanna: float
    """How many trees stand in grassland."""
    flooded: float
    """Chance that a field is flooded."""
    pivots: float
    """Chance that a large parcel has circular irrigation."""
    mottle: float
    """How unevenly crops grow."""
    industry: float
    """Chance that a built-up parcel is industrial."""
    town_trees: float
    relief: float
    """How strongly slopes are lit; 0 on a plain."""

    @property
    def has_sea(self) -> bool:
        """Whether there is a coast."""
        return self.sea_level < 2

    @property
    def has_river(self) -> bool:
        """Whether there is a river."""
        return self.river_width_m > 0

    @property
    def has_clouds(self) -> bool:
        """Whether there may be clouds."""
        return self.clouds < 2

    def salt(self, name: int) -> int:
        """Return the salt of one of the place's random fields."""
        return (self.seed * 1_000_003 + name * 7919) & 0x7FFFFFFF


def draw_place(seed: int) -> Place:
    """Return the place of a seed: at random a plain, delta, town, dry land, coast or other character."""
    draw = np.random.default_rng([seed, 20181])
    character = str(draw.choice(list(_LEVELS), p=_CHANCES))
    farm, town, wood, bare, lake = (float(level + draw.normal(0, 0.12)) for level in _LEVELS[character])
    angle = draw.uniform(0, 2 * np.pi)
    elevation = draw.uniform(np.radians(28), np.radians(68))
    warmth = draw.normal(0, 0.05)
    exposure = float(np.exp(draw.normal(0, 0.1)))
    return Place(
        seed=seed,
        soil=_vary(draw, _SOILS, 0.04),
        grass=_vary(draw, _GRASSES, 0.03),
        leaf=_vary(draw, _LEAVES, 0.025),
        water=_vary(draw, _WATERS, 0.03),
        farm_level=farm,
        town_level=town,
        wood_level=wood,
        bare_level=bare,
        lake_level=lake,
        sea_level=float(draw.uniform(-0.1, 0.25)) if character == "coast" else 9.0,
        river_width_m=float(draw.choice([0.0, draw.uniform(8, 30), draw.uniform(30, 140)], p=[0.3, 0.4, 0.3])),
        hamlets=float(draw.choice([0.0, 0.015, 0.05])),
        ponds=float(draw.uniform(0.03, 0.2)) if character == "delta" else float(draw.choice([0.0, 0.01])),
        canals=float(draw.choice([0.0, 0.0, 0.12, 0.3])),
        parcel_m=float(np.exp(draw.uniform(np.log(22), np.log(190)))),
        aspect=float(draw.uniform(1.0, 3.2)),
        turn=int(draw.integers(64)),
        orchards=float(draw.choice([0.0, 0.08, 0.3], p=[0.5, 0.3, 0.2])),
        greenness=float(draw.uniform(0.1, 0.95)),
        field_trees=float(draw.choice([0.0, 0.03, 0.12, 0.3])),
        town_density=float(draw.uniform(0.1, 1.0)),
        roof_warmth=float(0.9 * draw.uniform(0, 1) ** 2.5),
        sun=(float(np.cos(angle)), float(np.sin(angle))),
        shadow_ratio=float(1 / np.tan(elevation)),
        haze=float(0.42 * draw.uniform(0, 1) ** 1.4),
        gain=(
            exposure * float(1 + warmth + draw.normal(0, 0.02)),
            exposure * float(1 + draw.normal(0, 0.03)),
            exposure * float(1 - warmth + draw.normal(0, 0.03)),
        ),
        haze_color=(float(draw.uniform(0.42, 0.6)), float(draw.uniform(0.45, 0.62)), float(draw.uniform(0.45, 0.65))),
        contrast=float(draw.uniform(0.72, 1.32)),
        blur_px=float(draw.uniform(0.45, 1.5)),
        grain=float(draw.uniform(0.6, 4.0)),
        clouds=float(draw.uniform(0.3, 0.7)) if draw.uniform() < 0.15 else 9.0,
        straw=_vary(draw, _STRAWS, 0.04),
        rock=_vary(draw, _ROCKS, 0.05),
        autumn_leaf=_vary(draw, _AUTUMNS, 0.03),
        autumn=float(draw.choice([0.0, 0.0, draw.uniform(0.05, 0.3), draw.uniform(0.3, 1.0)])),
        dryness=float(draw.uniform(0, 1)),
        crown_scale=float(np.exp(draw.uniform(np.log(0.75), np.log(1.5)))),
        canopy_light=float(draw.uniform(0.85, 1.55)),
        canopy_gaps=float(0.5 * draw.uniform(0, 1) ** 2),
        plantations=float(draw.choice([0.0, 0.1, 0.4], p=[0.5, 0.35, 0.15])),
        pasture=float(draw.choice([0.0, 0.3, 0.8])),
        savanna=float(draw.uniform(0, 1) ** 2),
        flooded=float(draw.choice([0.0, 0.04, 0.3], p=[0.6, 0.25, 0.15])),
        pivots=float(draw.choice([0.0, 0.5], p=[0.8, 0.2])),
        mottle=float(draw.uniform(0.0, 1.0)),
        industry=float(draw.choice([0.02, 0.08, 0.3])),
        town_trees=float(draw.uniform(0.2, 1.0)),
        relief=float(draw.choice([0.0, draw.uniform(0.1, 0.5), draw.uniform(0.5, 0.8)], p=[0.4, 0.4, 0.2])),
    )


def _vary(draw: np.random.Generator, palette: tuple[Color, ...], spread: float) -> Color:
    red, green, blue = palette[int(draw.integers(len(palette)))]
    light = draw.normal(0, spread)
    return tuple(float(np.clip(c + light + draw.normal(0, spread / 3), 0.03, 0.9)) for c in (red, green, blue))  # type: ignore[return-value]
