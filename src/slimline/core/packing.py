"""Integers of any width from 1 to 16 bits, packed without gaps.

Code k occupies bits k·b to k·b + b - 1 of the stream, most significant bit first; the last byte is padded with zeros.
"""

import numpy as np
from jaxtyping import Integer


def pack(codes: Integer[np.ndarray, "..."], bits: int, *, low: int) -> bytes:
    """Codes in [low, low + 2^bits - 1], flattened in C order, as ceil(n · bits / 8) bytes.

    Raises:
        ValueError: a width outside 1…16, or a code that does not fit.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"{bits} bits: 1 to 16 can be packed")
    shifted = codes.reshape(-1).astype(np.int64) - low
    if shifted.size and (shifted.min() < 0 or shifted.max() >= 1 << bits):
        raise ValueError(f"codes from {codes.min()} to {codes.max()} do not fit {bits} bits above {low}")
    planes = (shifted[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8).reshape(-1)).tobytes()


def unpack(stream: bytes, bits: int, count: int, *, low: int) -> Integer[np.ndarray, " count"]:
    """The `count` codes that `pack` wrote, as int64.

    Raises:
        ValueError: the stream is not as long as `count` codes need.
    """
    if len(stream) != (count * bits + 7) // 8:
        raise ValueError(f"{len(stream)} bytes cannot hold {count} codes of {bits} bits")
    planes = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count * bits).reshape(count, bits)
    return planes.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64)) + low
