"""Entropy coding of small integers: range asymmetric numeral systems, many states side by side.

A symbol s of probability f/2^P, with cumulative frequency c, takes a state x in [2^16, 2^32) to

    x' = floor(x / f) · 2^P + c + (x mod f)        after giving 16 bits away while x >= f · 2^(32-P)

which costs log2(2^P / f) bits: less than a thousandth more than the entropy of the frequencies. Decoding is the same backwards.
Symbol k belongs to state k mod `lanes`, so that one step of numpy codes `lanes` symbols; each symbol has a table of frequencies of
its own choice.

Source: Duda, "Asymmetric numeral systems", 2013, section 4; interleaving as in Giesen, "Interleaved entropy coders", 2014.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, UInt16

PRECISION = 15
"""P: frequencies add up to 2^P."""

LOWEST = 1 << 16
SYMBOLS_A_LANE = 1 << 14
"""At least so many symbols share a state, whose last value takes four bytes."""

Table = UInt16[np.ndarray, "_"]
"""Frequencies of the symbols 0, 1, …; they add up to 2^P. A symbol with frequency 0 cannot be coded."""


def frequencies(counts: Integer[np.ndarray, " symbols"]) -> Table:
    """The table nearest to `counts` (at least one positive, at most 2^P symbols): proportional, but at least 1 for what occurs.

    What rounding leaves over or takes too much is settled where it changes the length of the code least.
    """
    exact = counts / counts.sum() * (1 << PRECISION)
    table = np.where(counts > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    while (missing := (1 << PRECISION) - int(table.sum())) != 0:
        sign = 1 if missing > 0 else -1
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where((counts > 0) & (table + sign > 0), counts * np.log2((table + sign) / table), -np.inf)  # bits
        # Many gain at once; losses differ too much for that: from 2 to 1 a symbol costs one bit more each time.
        best = np.argsort(-gain, kind="stable")[: min(missing, int((counts > 0).sum())) if missing > 0 else 1]
        table[best] += sign
    return table.astype(np.uint16)


def encode(symbols: Integer[np.ndarray, " n"], which: Integer[np.ndarray, " n"], tables: Sequence[Table]) -> bytes:
    """Symbols as bytes.

    Args:
        which: the number of each symbol's table.
    """
    table, starts, cumulative = _flat(tables)
    place = starts[which] + symbols
    frequency, below = table[place], cumulative[place]
    lanes = lanes_of(len(symbols))
    state = np.full(lanes, LOWEST, dtype=np.uint64)
    words: list[np.ndarray] = []
    for first in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        f, c = frequency[first : first + lanes], below[first : first + lanes]
        x = state[: len(f)]
        full = x >= f << np.uint64(32 - PRECISION)
        words.append(x[full].astype("<u2"))
        x = np.where(full, x >> np.uint64(16), x)
        state[: len(f)] = (x // f << np.uint64(PRECISION)) + c + x % f
    return b"".join([state.astype("<u4").tobytes(), *(word.tobytes() for word in reversed(words))])


def decode(stream: bytes, which: Integer[np.ndarray, " n"], tables: Sequence[Table]) -> Integer[np.ndarray, " n"]:
    """The symbols that `encode` wrote, as int64.

    Raises:
        ValueError: a stream that does not end where its symbols do.
    """
    table, starts, cumulative = _flat(tables)
    slots = np.concatenate([np.repeat(np.arange(len(one)), one) for one in tables]) if tables else np.zeros(0, dtype=np.int64)
    count, lanes = len(which), lanes_of(len(which))
    if len(stream) < 4 * lanes or len(stream) % 2:
        raise ValueError("a coded stream of a wrong length")
    state = np.frombuffer(stream, dtype="<u4", count=lanes).astype(np.uint64)
    words = np.frombuffer(stream, dtype="<u2", offset=4 * lanes).astype(np.uint64)
    symbols = np.empty(count, dtype=np.int64)
    read, start, base = 0, starts[which], which.astype(np.int64) << PRECISION
    mask = np.uint64((1 << PRECISION) - 1)
    for first in range(0, count, lanes):
        end = min(first + lanes, count)
        x = state[: end - first]
        slot = x & mask
        symbol = slots[base[first:end] + slot.astype(np.int64)]
        place = start[first:end] + symbol
        x = table[place] * (x >> np.uint64(PRECISION)) + slot - cumulative[place]
        low = x < LOWEST
        taken = int(low.sum())
        if taken:
            if read + taken > len(words):
                raise ValueError("a coded stream that ends too early")
            x[low] = x[low] << np.uint64(16) | words[read : read + taken]
            read += taken
        state[: end - first] = x
        symbols[first:end] = symbol
    if read != len(words) or bool((state != LOWEST).any()):
        raise ValueError("a coded stream that does not end where its symbols do")
    return symbols


def lanes_of(count: int) -> int:
    """How many states share `count` symbols."""
    return max(1, count // SYMBOLS_A_LANE)


def _flat(tables: Sequence[Table]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All frequencies one after another, where each table begins, and the sum of the frequencies before each in its table."""
    starts = np.cumsum([0, *(len(one) for one in tables[:-1])]).astype(np.int64)
    flat = [np.asarray(one, dtype=np.uint64) for one in tables]
    below = [np.cumsum(one) - one for one in flat]
    empty = np.zeros(0, dtype=np.uint64)
    return np.concatenate([*flat, empty]), starts, np.concatenate([*below, empty])
