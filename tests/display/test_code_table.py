"""The table from codes to bytes, against a Python dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from geoseg import errors
from geoseg.display.code_table import CodeTable

TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"]
LOW, HIGH = 1 - 2**31, 2**31 - 1
Patches = list[tuple[NDArray[Any], NDArray[np.bool_]]]


@st.composite
def some_patches(draw: st.DrawFn) -> Patches:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    low, high = max(LOW, int(np.iinfo(dtype).min)), min(HIGH, int(np.iinfo(dtype).max))
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
    codes = arrays.arrays(dtype, shape, elements=st.integers(low, high))
    return draw(st.lists(st.tuples(codes, arrays.arrays(bool, shape)), max_size=3))


@given(some_patches())
def test_each_code_has_a_byte_of_its_own_and_keeps_it(patches: Patches) -> None:
    slots = CodeTable("m.tif")
    for codes, valid in patches * 2:
        found = slots.of(codes, valid)
        assert found.dtype == np.uint8
        assert found.shape == codes.shape
        np.testing.assert_array_equal(found == 255, ~valid)
        assert found[valid].tolist() == [slots[int(code)] for code in codes[valid]]
    seen = {int(code) for codes, valid in patches for code in codes[valid]}
    assert slots.codes == seen
    assert len({slots[code] for code in seen}) == len(seen)


@pytest.mark.parametrize("dtype", TYPES)
def test_small_codes_keep_their_number(dtype: str) -> None:
    codes = np.array([[5, 0, 127]], dtype)
    np.testing.assert_array_equal(CodeTable("m.tif").of(codes, np.ones((1, 3), bool)), codes)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_255_codes_fit_and_one_more_does_not(dtype: str) -> None:
    slots, codes = CodeTable("m.tif"), np.arange(-100, 155, dtype=dtype)[None]
    assert sorted(slots.of(codes, np.ones_like(codes, bool))[0].tolist()) == list(range(255))
    for one_more in (CodeTable("m.tif"), slots):
        with pytest.raises(errors.SceneError, match=r"m\.tif holds more than 255 codes"):
            one_more.of(np.arange(-101, 155, dtype=dtype)[None], np.ones((1, 256), bool))


@pytest.mark.parametrize(("code", "dtype"), [(2**31, "uint32"), (-(2**31) - 1, "int64"), (-(2**31), "int32")])
def test_a_code_is_an_int32(code: int, dtype: str) -> None:
    with pytest.raises(errors.SceneError, match=rf"m\.tif holds the code {code}.*renumber"):
        CodeTable("m.tif").of(np.array([[code]], dtype), np.ones((1, 1), bool))
