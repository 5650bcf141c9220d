from __future__ import annotations

import pytest

from geoseg.errors import SceneError, UsageError
from geoseg.raster.bands import BandNames, choose_bands

RGB = ("red", "green", "blue")
RGBN = (*RGB, "nir")


def named(*colors: str, descriptions: tuple[str, ...] = ()) -> BandNames:
    return BandNames(colors, descriptions or ("",) * len(colors))


@pytest.mark.parametrize(
    ("names", "wanted", "indexes", "reason"),
    [
        (named("red", "green", "blue"), RGB, (1, 2, 3), "color interpretation"),
        (named("blue", "green", "red", "alpha"), RGB, (3, 2, 1), "color interpretation"),
        (named("red", "green", "blue", "undefined"), RGB, (1, 2, 3), "color interpretation"),
        (named("blue", "green", "red", "undefined"), RGBN, (3, 2, 1, 4), "order"),
        (named("red", "green", "blue", "nir"), RGBN, (1, 2, 3, 4), "color interpretation"),
        (
            named("gray", "undefined", "undefined", descriptions=("Blue", "Green", "RED")),
            RGB,
            (3, 2, 1),
            "by description",
        ),
        (named(*["gray"] * 4, descriptions=("Near Infrared", "R", "G", "B")), RGBN, (2, 3, 4, 1), "by description"),
        (named("gray", "undefined", "undefined", "undefined"), RGB, (1, 2, 3), "the first 3"),
        (named("alpha", "gray", "undefined", "undefined"), RGB, (2, 3, 4), "the first 3"),
        (named("palette"), ("index",), (1,), "the first 1"),
        (named("red", "green", "blue", "nir"), (*RGB, "band_4"), (1, 2, 3, 4), "order"),
        (named("red", "green", "blue", "alpha"), None, (1, 2, 3), "all but alpha"),
    ],
)
def test_bands_are_matched(
    names: BandNames, wanted: tuple[str, ...] | None, indexes: tuple[int, ...], reason: str
) -> None:
    choice = choose_bands(names, wanted=wanted)
    assert choice.indexes == indexes
    assert reason in choice.line
    assert ",".join(map(str, indexes)) in choice.line


@pytest.mark.parametrize(
    ("bands", "indexes"),
    [
        ([3, 2, 1], (3, 2, 1)),
        (["nir", "red", "green"], (4, 1, 2)),
        (["1", "1", " 1 "], (1, 1, 1)),
        (["N", "r", "g"], (4, 1, 2)),
    ],
)
def test_what_the_user_says_wins(bands: list[int | str], indexes: tuple[int, ...]) -> None:
    assert choose_bands(named("red", "green", "blue", "nir"), bands, RGB).indexes == indexes


@pytest.mark.parametrize(
    ("names", "wanted", "way_out"),
    [
        (named("gray"), RGB, r"`bands=\(1,1,1\)`"),
        (named("red", "green", "blue", "alpha"), RGBN, r"is image data .*, say so with `bands=\(1,2,3,4\)`"),
        (named("gray", "alpha"), RGB, r"`bands=\(1,1,1\)`"),
        (named("palette"), RGB, "-expand rgb"),
        (named("alpha"), RGB, "image bands"),
        (named("nir", "red", "green"), RGB, "choose with `bands`"),
    ],
)
def test_a_scene_without_the_bands_is_refused_with_a_way_out(
    names: BandNames, wanted: tuple[str, ...], way_out: str
) -> None:
    with pytest.raises(SceneError, match=way_out) as caught:
        choose_bands(names, wanted=wanted)
    assert "\n" not in str(caught.value)


def test_an_alpha_asked_for_by_its_number_is_image_data_and_that_is_said() -> None:
    names = named("red", "green", "blue", "alpha")
    choice = choose_bands(names, [4, "1", 2], RGB)
    assert choice.indexes == (4, 1, 2)
    assert "band 4, marked as alpha, is used as image data" in choice.line
    assert "alpha" not in choose_bands(names, [1, 2, 3]).line


@pytest.mark.parametrize(
    ("bands", "told"),
    [
        ([0], "band 0 does not exist"),
        ([5], "band 5 does not exist"),
        (["alpha"], "no band is called 'alpha'"),
        (["swir"], "swir"),
        ([], "empty"),
        ([1, 2], "gives 2"),
    ],
)
def test_a_choice_that_is_not_in_the_file_is_refused(bands: list[int | str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        choose_bands(named("red", "green", "blue", "alpha"), bands, ("a", "b", "c") if told == "gives 2" else None)
