"""Finding words close to a known word, against difflib on lower-case words."""

from __future__ import annotations

import difflib

import pytest

from geoseg.given import nearest

WORDS = ("Unet", "FPN", "DeepLabV3Plus", "PlainUnet")


@pytest.mark.parametrize("word", ["unet", "UNETT", "deeplabv3pluss", "plainunet", "fpn", "fnp", "zzz", ""])
def test_it_is_difflibs_with_upper_and_lower_case_one(word: str) -> None:
    wanted = difflib.get_close_matches(word.lower(), [known.lower() for known in WORDS], n=1)
    found = nearest(word, WORDS)
    assert (None if found is None else found.lower()) == next(iter(wanted), None)
    assert found is None or found in WORDS


def test_of_two_that_differ_by_case_alone_it_is_the_first() -> None:
    assert nearest("watr", ("Water", "water")) == "Water"
