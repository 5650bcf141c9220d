"""Classes and legends: lookups and refusals."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from geoseg.errors import UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend, attribute_table_of, color_palette, name_key

COAST = Legend((LandCover(3, "Sea", (0, 0, 255)), LandCover(9, "Dunes & beach", (255, 255, 0))))


def test_a_notebook_shows_codes_names_and_colors() -> None:
    card = COAST._repr_html_()
    assert "#0000ff" in card
    assert "9 Dunes &amp; beach" in card


@pytest.mark.parametrize("legend", [DEEPGLOBE, COAST])
def test_a_class_is_found_by_code_and_by_name(legend: Legend) -> None:
    assert [legend.by_code(code) for code in legend.codes] == list(legend)
    assert [legend.by_name(name) for name in legend.names] == list(legend)


@pytest.mark.parametrize(
    ("legend", "name", "meant"),
    [
        (DEEPGLOBE, "forrest_land", "forest_land"),
        (DEEPGLOBE, "Water", "water"),
        (DEEPGLOBE, "urban land", "urban_land"),
        (COAST, "sea", "Sea"),
        (COAST, "dunes and beach", "Dunes & beach"),
    ],
)
def test_a_name_that_is_nearly_one_is_refused_with_the_one_meant(legend: Legend, name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        legend.by_name(name)
    names = ", ".join(legend.names)
    assert str(caught.value) == f"no class is called {name!r} (did you mean {meant!r}?); the legend has {names}"


@pytest.mark.parametrize("name", ["lava", "", 3])
def test_a_name_like_none_is_refused_with_all_there_are(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        COAST.by_name(name)
    assert str(caught.value) == f"no class is called {name!r}; the legend has Sea, Dunes & beach"


def test_a_code_of_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no class has code 0; the legend has \[3, 9\]"):
        COAST.by_code(0)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("URBAN-LAND", "urban_land", True),
        (" Urban  - land", "urban land", True),
        ("class -1", "class 1", False),
        ("Class_-1", "class -1", True),
        ("zone 1-2", "zone 1 2", True),
        ("-1", "1", False),
        ("fore\u0302t", "FOR\u00caT", True),
        ("foret", "for\u00eat", False),
    ],
)
def test_spellings_of_a_name_are_one_but_for_the_sign_of_a_number(one: str, other: str, *, are_one: bool) -> None:
    assert (name_key(one) == name_key(other)) is are_one


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00b", "a\x7f", "\x85", "\ud800", "a\ufffeb", "\uffff"])
def test_a_name_that_no_file_can_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="class name must be text on one line"):
        LandCover(0, name, (0, 0, 0))


@pytest.mark.parametrize("name", ["forêt", "森林", "🌲", "a & <b>", 'say "x"', "\u200bwood"])
def test_any_other_name_comes_back_from_json_and_xml(name: str) -> None:
    legend = Legend((LandCover(0, name, (0, 0, 0)),))
    assert Legend.from_json(json.loads(json.dumps(legend.to_json()))) == legend
    palette, table = (
        ET.fromstring(ET.tostring(made(legend)))  # noqa: S314 - our own
        for made in (color_palette, attribute_table_of)
    )
    assert palette[0].get("label") == name
    assert table.findall(".//F")[1].text == name
