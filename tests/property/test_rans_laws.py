"""Laws of entropy coding: what comes back, and how long it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimline.core import rans


def entropy_bytes(symbols: np.ndarray) -> float:
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum()) / 8


@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 256), st.floats(0.05, 30.0), st.integers(1, 4))
def test_symbols_of_any_number_alphabet_and_skew_come_back(seed, count, alphabet, skew, tables) -> None:
    draws = np.random.default_rng(seed)
    which = draws.integers(0, tables, count)
    symbols = np.minimum((draws.exponential(skew, count)).astype(np.int64), alphabet - 1)
    made = [
        rans.frequencies(np.bincount(symbols[which == table], minlength=alphabet) + (0 if (which == table).any() else 1)) for table in range(tables)
    ]
    assert all(int(table.sum()) == 1 << rans.PRECISION for table in made)
    stream = rans.encode(symbols, which, made)
    assert np.array_equal(rans.decode(stream, which, made), symbols)


@pytest.mark.parametrize(("zeros", "more"), [(0.0, 1.005), (0.5, 1.005), (0.9, 1.01), (0.99, 1.04)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_stream_is_near_the_entropy_and_less_so_where_most_symbols_hardly_occur(zeros, more, bits) -> None:
    draws = np.random.default_rng(bits)
    symbols = np.clip(np.rint(draws.normal(2 ** (bits - 1), 2**bits / 6, 100_000)), 0, 2**bits - 1).astype(np.int64)
    symbols[draws.random(len(symbols)) < zeros] = 2 ** (bits - 1)
    table = rans.frequencies(np.bincount(symbols))
    stream = rans.encode(symbols, np.zeros(len(symbols), dtype=np.int64), [table])
    assert entropy_bytes(symbols) * 0.9999 <= len(stream) <= entropy_bytes(symbols) * more + 4 * rans.lanes_of(len(symbols)) + 2


def test_a_single_symbol_costs_nothing_but_the_state() -> None:
    stream = rans.encode(np.full(5000, 3), np.zeros(5000, dtype=np.int64), [rans.frequencies(np.array([0, 0, 0, 7]))])
    assert len(stream) == 4


@given(st.integers(1, 256), st.integers(0, 2**32))
def test_frequencies_keep_every_symbol_that_occurs_and_no_other(size, seed) -> None:
    counts = (np.random.default_rng(seed).pareto(0.3, size) * 2).astype(np.int64) % 10**9
    counts[seed % size] += 1
    table = rans.frequencies(counts)
    assert np.array_equal(table > 0, counts > 0)
    assert int(table.sum()) == 1 << rans.PRECISION


def test_what_rare_symbols_get_too_much_is_taken_where_it_costs_least() -> None:
    table = rans.frequencies(np.array([90, 10**6, 90, *[1] * 60]))
    assert table[[0, 2]].tolist() == [2, 2], "a bit more for each of the 90"
    assert table[3:].tolist() == [1] * 60


@pytest.mark.parametrize("change", ["cut", "longer", "odd", "empty", "altered"])
def test_a_stream_that_does_not_fit_is_refused(change) -> None:
    symbols = np.arange(1000) % 7
    which, tables = np.zeros(1000, dtype=np.int64), [rans.frequencies(np.bincount(symbols))]
    stream = rans.encode(symbols, which, tables)
    changed = {"cut": stream[:-2], "longer": stream + b"\0\0", "odd": stream[:-1], "empty": b"", "altered": b"\7\7\7\7" + stream[4:]}[change]
    with pytest.raises(ValueError, match="coded stream"):
        rans.decode(changed, which, tables)
