"""Laws of bit packing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimline.core.packing import pack, unpack


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Codes, their width, the lowest code."""
    bits = draw(st.integers(1, 16))
    low = draw(st.integers(-(2**16), 2**16))
    codes = draw(st.lists(st.integers(low, low + 2**bits - 1), max_size=40))
    return np.array(codes, dtype=np.int64), bits, low


def slow_pack(codes: np.ndarray, bits: int, low: int) -> bytes:
    """The reference: a text of zeros and ones."""
    text = "".join(format(int(code) - low, f"0{bits}b") for code in codes)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))


@given(streams())
def test_a_code_survives_packing_at_every_width(stream) -> None:
    codes, bits, low = stream
    assert np.array_equal(unpack(pack(codes, bits, low=low), bits, len(codes), low=low), codes)


@given(streams())
def test_the_bytes_are_those_of_the_slow_reference_so_no_bit_is_wasted(stream) -> None:
    codes, bits, low = stream
    packed = pack(codes, bits, low=low)
    assert packed == slow_pack(codes, bits, low)
    assert len(packed) == -(-len(codes) * bits // 8)


@given(streams(), st.booleans(), st.integers(1, 1000))
def test_a_code_that_does_not_fit_is_refused(stream, above, distance) -> None:
    codes, bits, low = stream
    alien = low + 2**bits - 1 + distance if above else low - distance
    with pytest.raises(ValueError, match="do not fit"):
        pack(np.append(codes, alien), bits, low=low)


@given(streams(), st.sampled_from([-2, -1, 1, 2]))
def test_a_stream_of_another_length_is_refused(stream, difference) -> None:
    codes, bits, low = stream
    packed = pack(codes, bits, low=low)
    wrong = packed[:difference] if difference < 0 else packed + bytes(difference)
    if len(wrong) == len(packed):  # nothing was there to cut
        wrong = b"\0"
    with pytest.raises(ValueError, match="cannot hold"):
        unpack(wrong, bits, len(codes), low=low)


@given(streams())
def test_an_array_is_packed_in_c_order_whatever_its_shape(stream) -> None:
    codes, bits, low = stream
    square = np.resize(np.append(codes, low), (3, 4))
    assert pack(square, bits, low=low) == pack(square.reshape(-1), bits, low=low)
    assert pack(square.T, bits, low=low) == pack(np.ascontiguousarray(square.T).reshape(-1), bits, low=low)


@pytest.mark.parametrize("bits", [-1, 0, 17])
def test_a_width_outside_one_to_sixteen_is_refused(bits) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        pack(np.zeros(1, np.int64), bits, low=0)
