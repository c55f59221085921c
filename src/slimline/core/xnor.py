"""Products and convolutions of ±1 on packed bits: a multiplication is an XNOR, a sum a population count (Rastegari et al. 2016).

A bit 1 is +1, a bit 0 is -1; number i of a line is bit i mod 64 of word ⌊i / 64⌋, and the bits that pad the last word are 0. For two lines
of k numbers, Σ a·b = k - 2·popcount(a xor b): where both are padded alike, padding adds nothing.

±1 has no zero, so a convolution that is padded with zeros is computed with -1 around the image and corrected: a tap that lies outside adds
-Σ w of its weights, which is added back. Which taps lie outside is the same for all pixels but those near the border, so the correction is
a table of a few rows, and it is exact.

A batch norm and the sign behind it are one comparison of the integer sum with a threshold (Hubara et al. 2016). A negative scale turns the
comparison round: the weights are then stored with the other sign, so that every comparison is z >= at. A scale of zero makes a constant.

`core.xnor_reference` computes the same on ±1 in float, slowly; the loops are in `core.popcount`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt64

from slimline.core import popcount
from slimline.core.popcount import COLUMNS, SHARE, SHARE_PACKED, WORD, spread, worth
from slimline.errors import SlimlineError

Words = UInt64[np.ndarray, "*lines words"]
Border = Literal[-1, 0, 1]
"""What stands around an image: zeros, as in a real convolution, or one of the two signs."""

PIXEL_BITS = 8

NEVER = 2**40
"""Beyond any sum: a threshold that no z reaches, or that each does."""


def words_of(length: int) -> int:
    """Words that hold `length` bits."""
    return -(-length // WORD)


def pack(x: np.ndarray, *, threads: int = 1) -> Words:
    """±1 along the last axis [… k] as bits [… ⌈k / 64⌉].

    Raises:
        SlimlineError: a number that is not ±1, or an array without axes.
    """
    wrong = "numbers that are not ±1 (or are NaN) cannot be packed as bits; take their signs first (core.xnor.pack_signs)"
    if x.dtype not in (np.float32, np.int8):
        # Any other type, in its own precision.
        if not np.logical_or(x == 1, x == -1).all():
            raise SlimlineError(f"pack: {wrong}")
        x = (x == 1).astype(np.int8) * np.int8(2) - np.int8(1)
    return _packed("pack", x, wrong, threads, checked=True)


def pack_signs(x: Float[np.ndarray, "... k"], *, threads: int = 1) -> Words:
    """Signs of real numbers along the last axis [… k] as bits [… ⌈k / 64⌉]: ±0 is +1.

    Raises:
        SlimlineError: NaN, or an array without axes.
    """
    if x.dtype != np.float32:
        if np.isnan(x).any():
            raise SlimlineError("pack_signs: NaN has no sign")
        x = np.where(x >= 0, np.float32(1), np.float32(-1))  # a small number of 64 bits would be 0 of 32, and so would a large one be infinite
    return _packed("pack_signs", x, "NaN has no sign", threads, checked=False)


def _packed(who: str, x: np.ndarray, wrong: str, threads: int, *, checked: bool) -> Words:
    if x.ndim == 0:
        raise SlimlineError(f"{who}: a single number has no axis to pack along; give an array [… k]")
    lines = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    out = np.empty((len(lines), words_of(x.shape[-1])), np.uint64)
    integers = x.dtype == np.int8
    threads = worth(lines.size, SHARE_PACKED, threads)
    if any(spread(lambda first, last: popcount.pack_lines(lines, out, first, last, integers, checked), len(lines), threads)):
        raise SlimlineError(f"{who}: {wrong}")
    return out.reshape(*x.shape[:-1], out.shape[1])


def pack_images(x: Float[np.ndarray, "images channels height width"], *, threads: int = 1) -> UInt64[np.ndarray, "images height width words"]:
    """Signs of images, channels packed: ±0 is +1.

    Raises:
        SlimlineError: NaN.
    """
    images, channels, height, width = x.shape
    if x.dtype != np.float32:
        return pack_signs(np.moveaxis(x, 1, 3), threads=threads)
    planes = np.ascontiguousarray(x).reshape(images, channels, height * width)
    out = np.empty((images, height * width, words_of(channels)), np.uint64)
    threads = worth(planes.size, SHARE_PACKED, threads)
    if any(spread(lambda first, last: popcount.pack_planes(planes, out, first, last), images, threads)):
        raise SlimlineError("pack_images: NaN has no sign")
    return out.reshape(images, height, width, out.shape[2])


def pack_pixels(x: Float[np.ndarray, "images numbers"]) -> UInt64[np.ndarray, "images 8 words"] | None:
    """The bits of u, the highest plane first, for numbers that are u / 255 in 32 bits, u in 0 … 255; None where one is another number."""
    out = np.empty((len(x), PIXEL_BITS, words_of(x.shape[1])), np.uint64)
    return out if x.dtype == np.float32 and popcount.pack_pixels(np.ascontiguousarray(x), out) else None


def unpack(bits: Words, length: int) -> Float[np.ndarray, "*lines length"]:
    """Bits [… ⌈k / 64⌉] as ±1, float32 [… k].

    Raises:
        SlimlineError: not as many words as `length` bits take.
    """
    _check_words("unpack", bits, length)
    octets = np.ascontiguousarray(bits).astype("<u8", copy=False).view(np.uint8)
    return (
        np.unpackbits(octets, axis=-1, count=length, bitorder="little").astype(np.float32) * 2 - 1
        if length
        else np.empty((*bits.shape[:-1], 0), np.float32)
    )


def _check_words(who: str, bits: Words, length: int) -> None:
    if bits.dtype != np.uint64 or bits.ndim == 0 or bits.shape[-1] != words_of(length):
        raise SlimlineError(f"{who}: {length} bits take {words_of(length)} words of uint64 along the last axis, not {bits.dtype} {list(bits.shape)}")


def inside(length: int) -> UInt64[np.ndarray, " words"]:
    """Words with a 1 for each of `length` bits, 0 for those that pad."""
    whole = np.full(words_of(length), np.uint64(2**64 - 1))
    if length % WORD:
        whole[-1] = np.uint64(2 ** (length % WORD) - 1)
    return whole


@dataclass(frozen=True)
class Thresholds:
    """The sign of a function of a sum that never turns round: +1 where z >= at, or, where it is `falling`, where z <= at."""

    at: Int64[np.ndarray, " columns"]
    falling: Bool[np.ndarray, " columns"]


def thresholds(scale: Float[np.ndarray, " columns"], shift: Float[np.ndarray, " columns"]) -> Thresholds:
    """Where scale · z + shift >= 0, for integers z, exactly: z >= ⌈-shift / scale⌉, or z <= ⌊-shift / scale⌋ for a negative scale.

    A scale of zero leaves the sign of the shift, whatever z is.

    Raises:
        SlimlineError: a number that is not finite.
    """
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise SlimlineError("a batch norm whose scale or shift is not finite has no threshold; train again with a lower rate")
    at = []
    for a, b in zip(scale.tolist(), shift.tolist(), strict=True):
        if a == 0:
            at.append(-NEVER if b >= 0 else NEVER)
            continue
        zero = -Fraction(b) / Fraction(a)
        at.append(max(-NEVER, min(NEVER, math.ceil(zero) if a > 0 else math.floor(zero))))
    return Thresholds(np.array(at, np.int64), scale < 0)


def thresholds_of(sign: Callable[[Int64[np.ndarray, " columns"]], Bool[np.ndarray, " columns"]], columns: int, largest: int) -> Thresholds:
    """The same by asking: `sign` says for one z a column whether what is computed of it, with all its rounding, is +1.

    It is asked about -largest … largest, by bisection; in each column it may turn once.
    """
    lowest, highest = sign(np.full(columns, -largest, np.int64)), sign(np.full(columns, largest, np.int64))
    falling = lowest & ~highest
    # The sign at `low` is that of the lowest z, at `high` that of the highest.
    low, high = np.full(columns, -largest, np.int64), np.full(columns, largest, np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        turned = sign(middle) == highest
        low, high = np.where(turned, low, middle), np.where(turned, middle, high)
    at = np.where(falling, low, high)
    at = np.where(lowest & highest, -NEVER, at)
    return Thresholds(np.where(~lowest & ~highest, NEVER, at), falling)


@dataclass(frozen=True)
class Weights:
    """Filters [columns, lines, taps, channels] of ±1 laid out for the loops; a matrix is one line of one tap.

    Args:
        panels: uint64 [panels, words of a column, COLUMNS].
        sums: Σ w of each tap.
        columns: outputs.
        channels: numbers of a tap.
    """

    panels: UInt64[np.ndarray, "panels words 16"]
    sums: Int32[np.ndarray, "columns lines taps"]
    columns: int
    channels: int

    @property
    def kernel(self) -> tuple[int, int]:
        """Lines and taps of a filter."""
        return self.sums.shape[1], self.sums.shape[2]

    @property
    def length(self) -> int:
        """Numbers that are multiplied for one output."""
        return math.prod(self.kernel) * self.channels

    @property
    def nbytes(self) -> int:
        return self.panels.nbytes


def lay_out(bits: UInt64[np.ndarray, "columns lines taps words"], channels: int) -> Weights:
    """Weights from the packed bits of filters.

    Raises:
        SlimlineError: not as many words as the channels take, or bits set in the padding.
    """
    _check_words("lay_out", bits, channels)
    if (bits & ~inside(channels)).any():
        raise SlimlineError("lay_out: bits are set beyond the last channel; pack the weights with core.xnor.pack")
    columns, lines, taps, words = bits.shape
    flat = np.ascontiguousarray(bits).reshape(columns, lines * taps * words)
    panels = np.zeros((-(-columns // COLUMNS), lines * taps * words, COLUMNS), np.uint64)
    popcount.lay_out(flat, panels)
    ones = np.bitwise_count(bits).sum(-1, dtype=np.int32)
    return Weights(panels, (2 * ones - channels).astype(np.int32), columns, channels)


def turned(
    bits: UInt64[np.ndarray, "columns *rest words"], channels: int, falling: Bool[np.ndarray, " columns"]
) -> UInt64[np.ndarray, "columns *rest words"]:
    """Packed weights with the other sign in the columns that fall."""
    other = bits ^ inside(channels)
    return np.where(falling.reshape(-1, *[1] * (bits.ndim - 1)), other, bits)


@dataclass(frozen=True)
class Geometry:
    """Where a convolution reads and what it corrects, for images of one size.

    Args:
        padding: pixels around the image, above and below, left and right.
    """

    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    border: Border

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride) < 1 or min(self.padding) < 0 or min(self.out_height, self.out_width) < 1:
            raise SlimlineError(
                f"a {self.kernel[0]}×{self.kernel[1]} filter with stride {self.stride} and padding {self.padding} does not fit an image of "
                f"{self.height}×{self.width}"
            )

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1

    def outside(self, axis: Literal[0, 1]) -> Bool[np.ndarray, "positions taps"]:
        """Which lines (axis 0) or columns (1) of the filter lie outside of the image, for each position."""
        size, positions = ((self.height, self.out_height), (self.width, self.out_width))[axis]
        at = np.arange(positions)[:, None] * self.stride[axis] + np.arange(self.kernel[axis]) - self.padding[axis]
        return (at < 0) | (at >= size)


def sums_outside(weights: Weights, geometry: Geometry) -> tuple[Int64[np.ndarray, "kinds columns"], Int64[np.ndarray, " pixels"]]:
    """What a border of -1 takes too much from a convolution with a border of zeros, for each kind of pixel, and each pixel's kind."""
    lines, line_kind = np.unique(geometry.outside(0), axis=0, return_inverse=True)
    taps, tap_kind = np.unique(geometry.outside(1), axis=0, return_inverse=True)
    either = lines[:, None, :, None] | taps[None, :, None, :]
    missing = np.einsum("abyx,oyx->abo", either.astype(np.int64), weights.sums.astype(np.int64))
    kinds = line_kind.reshape(-1, 1) * len(taps) + tap_kind.reshape(1, -1)
    return missing.reshape(-1, weights.columns), kinds.reshape(-1).astype(np.int64)


def table_of(weights: Weights, missing: Int64[np.ndarray, "kinds columns"], at: Thresholds | None) -> Int64[np.ndarray, "kinds padded"]:
    """The loops' table: with p the count, z is table - 2p, or, with thresholds, z >= at where p <= table.

    Columns that pad the last panel give 0, and no bit.
    """
    table = np.full((len(missing), weights.panels.shape[0] * COLUMNS), -1, np.int64)
    sums = weights.length + missing
    if at is None:
        table[:, : weights.columns] = sums
        return table
    # Where it falls the weights are turned round, and so are z and what it is compared with.
    least = np.where(at.falling, -at.at, at.at)
    table[:, : weights.columns] = (sums - least) // 2
    return table


class Convolution:
    """A convolution of packed images by packed filters, made once for images of one size; with thresholds it gives bits, else int32.

    A matrix product is one of images of one pixel (`Product`).
    """

    def __init__(self, bits: UInt64[np.ndarray, "columns lines taps words"], channels: int, geometry: Geometry, at: Thresholds | None = None) -> None:
        """
        Args:
            bits: filters, packed along their channels.

        Raises:
            SlimlineError: shapes that do not match.
        """
        if bits.ndim != 4 or bits.shape[1:3] != geometry.kernel:
            raise SlimlineError(
                f"filters of shape {list(bits.shape)} are no {geometry.kernel[0]}×{geometry.kernel[1]} filters [columns lines taps words]"
            )
        if at is not None and len(at.at) != len(bits):
            raise SlimlineError(f"{len(at.at)} thresholds cannot stand for {len(bits)} outputs")
        self.geometry, self.channels, self.gives_bits = geometry, channels, at is not None
        self.weights = lay_out(turned(bits, channels, at.falling) if at is not None else bits, channels)
        missing, kinds = sums_outside(self.weights, geometry)
        if geometry.border != 0:
            missing, kinds = np.zeros((1, self.weights.columns), np.int64), np.zeros_like(kinds)
        self._table = table_of(self.weights, missing, at)
        self._table_offsets = kinds * self._table.shape[1] * 8
        words = words_of(channels)
        self._padded = (geometry.height + 2 * geometry.padding[0], geometry.width + 2 * geometry.padding[1], words)
        line = self._padded[1] * words * 8
        down = np.arange(geometry.out_height)[:, None] * geometry.stride[0] * line
        self._row_offsets = (down + np.arange(geometry.out_width) * geometry.stride[1] * words * 8).reshape(-1).astype(np.int64)
        self._pixel_bytes = 8 * words_of(self.weights.columns) if self.gives_bits else 4 * COLUMNS * len(self.weights.panels)
        self._out_offsets = np.arange(len(self._row_offsets), dtype=np.int64) * self._pixel_bytes

    def __call__(self, images: UInt64[np.ndarray, "images height width words"], *, threads: int = 1) -> np.ndarray:
        """uint64 [images height width ⌈columns / 64⌉] with thresholds, else int32 [images height width columns].

        Raises:
            SlimlineError: images of another size.
        """
        geometry, weights = self.geometry, self.weights
        expected = (geometry.height, geometry.width, words_of(self.channels))
        if images.shape[1:] != expected or images.dtype != np.uint64:
            raise SlimlineError(f"images {images.dtype} {list(images.shape[1:])} where this convolution takes uint64 {list(expected)}")
        count = len(images)
        padded = self._surrounded(images)
        shape = (count, geometry.out_height, geometry.out_width)
        if self.gives_bits:
            out = np.zeros((*shape, words_of(weights.columns)), np.uint64)
        else:
            out = np.empty((*shape, len(weights.panels) * COLUMNS), np.int32)
        panels = len(weights.panels)
        threads = worth(math.prod(shape) * weights.columns * weights.length, SHARE, threads)
        by_images = count >= threads

        def work(first: int, last: int) -> None:
            popcount.count(
                self.gives_bits,
                padded,
                math.prod(self._padded) * 8,
                self._row_offsets,
                geometry.kernel[0],
                self._padded[1] * self._padded[2] * 8,
                geometry.kernel[1] * self._padded[2],
                weights.panels,
                self._table,
                self._table_offsets,
                out,
                len(self._row_offsets) * self._pixel_bytes,
                self._out_offsets,
                COLUMNS // 8 if self.gives_bits else COLUMNS * 4,
                (first, last) if by_images else (0, count),
                (0, panels) if by_images else (first, last),
                0,
            )

        spread(work, count if by_images else panels, threads)
        return out if self.gives_bits else out[..., : weights.columns]

    def _surrounded(self, images: UInt64[np.ndarray, "images height width words"]) -> UInt64[np.ndarray, "images padded_height padded_width words"]:
        """Images with their border."""
        above, left = self.geometry.padding
        if above == left == 0:
            return np.ascontiguousarray(images)
        padded = np.zeros((len(images), *self._padded), np.uint64)
        if self.geometry.border == 1:
            padded[:] = inside(self.channels)
        padded[:, above : above + self.geometry.height, left : left + self.geometry.width] = images
        return padded


class Product:
    """A product with packed weights, made once; with thresholds it gives bits, else int32.

    With `planes` it multiplies integers u of 8 bits instead of ±1: with s = 2·bit - 1 the signs of plane b, u = (255 + Σ 2^b s_b) / 2, so that
    Σ u·w is 255 times the number of weights that are +1, less Σ 2^b popcount(plane b xor w).
    """

    def __init__(self, bits: UInt64[np.ndarray, "columns *taps words"], length: int, at: Thresholds | None = None, *, planes: bool = False) -> None:
        """
        Args:
            bits: a line of weights a column; or taps of packed weights, as images that become one line have them.
            length: numbers of a line, or of a tap.

        Raises:
            SlimlineError: shapes that do not match; planes without thresholds.
        """
        _check_words("Product", bits, length)
        if at is not None and len(at.at) != len(bits):
            raise SlimlineError(f"{len(at.at)} thresholds cannot stand for {len(bits)} outputs")
        if planes and at is None:
            raise SlimlineError("a product of integers gives bits alone; give it thresholds")
        self.gives_bits, self._planes = at is not None, PIXEL_BITS if planes else 1
        signed = turned(bits, length, at.falling) if at is not None else bits
        self.weights = lay_out(signed.reshape(len(bits), 1, -1, bits.shape[-1]), length)
        self._table = table_of(self.weights, np.zeros((1, len(bits)), np.int64), at)
        if planes and at is not None:
            ones = (self.weights.sums.sum((1, 2), dtype=np.int64) + self.weights.length) // 2
            self._table[0, : len(bits)] = (2**PIXEL_BITS - 1) * ones - np.where(at.falling, -at.at, at.at)

    def __call__(self, lines: UInt64[np.ndarray, "rows *planes words"], *, threads: int = 1) -> np.ndarray:
        """uint64 [rows ⌈columns / 64⌉] with thresholds, else int32 [rows columns].

        Raises:
            SlimlineError: lines of another length.
        """
        weights, rows, panels = self.weights, len(lines), len(self.weights.panels)
        words = weights.panels.shape[1]
        if lines.dtype != np.uint64 or math.prod(lines.shape[1:]) != self._planes * words:
            raise SlimlineError(f"lines {lines.dtype} {list(lines.shape[1:])} where this product takes uint64 [{self._planes * words}]")
        lines = np.ascontiguousarray(lines)
        out = np.zeros((rows, words_of(weights.columns)), np.uint64) if self.gives_bits else np.empty((rows, panels * COLUMNS), np.int32)
        line_bytes, out_bytes = 8 * self._planes * words, out.strides[0]
        threads = worth(rows * weights.columns * weights.length * self._planes, SHARE, threads)
        # Threads share the panels where there are enough: each then reads its weights alone.
        by_rows = panels < threads

        def work(first: int, last: int) -> None:
            low, high = (first, last) if by_rows else (0, rows)
            steps = np.arange(low, high, dtype=np.int64)
            popcount.count(
                self.gives_bits,
                lines,
                0,
                steps * line_bytes,
                self._planes,
                8 * words,
                words,
                weights.panels,
                self._table,
                np.zeros(len(steps), np.int64),
                out,
                0,
                steps * out_bytes,
                COLUMNS // 8 if self.gives_bits else COLUMNS * 4,
                (0, 1),
                (0, panels) if by_rows else (first, last),
                int(self._planes > 1),
            )

        spread(work, rows if by_rows else panels, threads)
        return out if self.gives_bits else out[:, : weights.columns]


def matmul(a: UInt64[np.ndarray, "m _"], b: UInt64[np.ndarray, "n _"], length: int, *, threads: int = 1) -> Int32[np.ndarray, "m n"]:
    """The product of ±1 matrices [m, length] and [n, length]ᵀ from their packed lines.

    Raises:
        SlimlineError: lines of different lengths.
    """
    return Product(b, length)(a, threads=threads)


@dataclass(frozen=True)
class Windows:
    """Windows of `size` × `size` pixels, `stride` apart; those at the border see what is there.

    Args:
        padding: pixels by which they reach over the border at the top and the left.
        beyond: whether a window that reaches over the border at the bottom or the right counts (torch's `ceil_mode`).
    """

    size: int
    stride: int
    padding: int = 0
    beyond: bool = False

    def count(self, length: int) -> int:
        """Windows along a side of `length` pixels.

        Raises:
            SlimlineError: none fits.
        """
        reach = length + 2 * self.padding - self.size
        number = (-(-reach // self.stride) if self.beyond else reach // self.stride) + 1
        if self.beyond and (number - 1) * self.stride >= length + self.padding:  # it would see nothing of the image
            number -= 1
        if number < 1 or 2 * self.padding > self.size:
            raise SlimlineError(f"windows of {self.size}×{self.size}, padded by {self.padding}, do not fit a side of {length} pixels")
        return number


def maximum(
    bits: UInt64[np.ndarray, "images height width words"], windows: Windows, falling: UInt64[np.ndarray, " words"]
) -> UInt64[np.ndarray, "images out_height out_width words"]:
    """The sign of what the greatest number of each window becomes: the greatest sign or, where signs fall as numbers grow, the least."""
    images, height, width, words = bits.shape
    out = np.empty((images, windows.count(height), windows.count(width), words), np.uint64)
    popcount.pool(np.ascontiguousarray(bits), falling, windows.size, windows.stride, windows.padding, out)
    return out
