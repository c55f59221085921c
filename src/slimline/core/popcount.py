"""The compiled loops behind `core.xnor`: packing signs into words, and counting where two vectors of bits differ.

The innermost loop is written in LLVM's own language, in vectors of 64-bit words, so that one source becomes `vpopcntq` on AVX-512, `cnt`
on NEON and shuffles or `popcnt` on what has neither. It holds a tile of rows × 16 columns of counts in registers: a word of weights is
loaded once for all rows of the tile, a word of activations once for all its columns. Weights are laid out in panels of 16 columns, one
word of each column beside the other, so that a lane counts for one column, nothing is summed across lanes, and no length is wasted.

Everything here takes addresses and trusts its caller (`core.xnor`), which checks shapes. Compiled code is kept in the folder that
`NUMBA_CACHE_DIR` names, else beside this file, else in the user's own cache (~/.cache/numba); where none can be written, each process
compiles anew, which takes seconds. It is of one kind of processor, which numba looks at before it takes it.
"""

import functools
import itertools
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from slimline.errors import SlimlineError

WORD = 64
COLUMNS = 16
"""Columns of a panel."""


CACHE_LINE = 64
AHEAD = 4096
"""Bytes of weights that are asked for before they are needed: a network's other layers have pushed them out of the near caches."""


def features() -> frozenset[str]:
    """What numba compiles for on this processor: its own features, or those that `NUMBA_CPU_FEATURES` names."""
    settings = vars(numba.config)
    if settings["CPU_NAME"] is not None or settings["CPU_FEATURES"] is not None:
        return frozenset(word[1:] for word in (settings["CPU_FEATURES"] or "").split(",") if word.startswith("+"))
    return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)


def tile_of(present: frozenset[str], machine: str) -> tuple[int, int]:
    """Words in a vector, and rows of a tile, so that a tile's counts stay in registers.

    AVX-512 has 32 registers of 8 words, AVX2 16 of 4, NEON 32 of 2. A processor that counts the bits of one word alone takes vectors apart;
    one that does not even do that counts with shifts and masks, two words at a time.
    """
    if "avx512vpopcntdq" in present:
        return 8, 8
    if "avx2" in present:
        return 4, 2
    if machine.lower() in ("aarch64", "arm64"):
        return 2, 2
    return (1, 1) if "popcnt" in present else (2, 1)


ELSEWHERE = "take runtime torch or onnxruntime"

LANES, ROWS = tile_of(features(), platform.machine())

SHARE = {8: 2**27, 4: 2**25}.get(LANES, 2**24)
"""Binary multiplications that take a core somewhat longer than the tenth of a millisecond in which Python hands work to another thread and
hears of its end (56 µs when both are awake, by the median of 200, on an AMD EPYC)."""

SHARE_PACKED = 2**19
"""Numbers whose signs take as long to pack."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled at its first call, without Python's lock, and kept on disk where there is a place.

    Raises:
        SlimlineError: when it is called, where nothing can be compiled.
    """
    try:
        made = numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # numba found no folder that it may write
        made = numba.njit(function, nogil=True)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        if vars(numba.config)["DISABLE_JIT"]:
            raise SlimlineError(f"packed bits run on compiled loops, and NUMBA_DISABLE_JIT forbids them; unset it, or {ELSEWHERE}")
        try:
            return made(*arguments)
        except (OSError, NumbaError) as error:  # a disk that is full, a file that is not ours; a numba that knows no such code
            reason = str(error).partition("\n")[0]
            raise SlimlineError(
                f"the loops for packed bits cannot be compiled ({reason}); set NUMBA_CACHE_DIR to a folder that can be written, or {ELSEWHERE}"
            ) from error

    return run


_INT64, _INT32, _INT8, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()


def _at(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def _loaded(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type, align: int = 8) -> ir.Value:
    return builder.load(_at(builder, address, kind), align=align)


def _everywhere(builder: ir.IRBuilder, value: Any, lanes: int) -> ir.Value:
    """A vector that holds `value` in every lane."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(_INT32, lanes), None))


@no_type_check
def tile(rows, lanes, *, bits):
    """The code that counts for one tile: `rows` rows of activations by one panel.

    It takes, in bytes or as addresses: the activations, the rows' offsets in them; segments of a row, the step from one to the next, words
    in each; the panel; the table of this panel's columns, the rows' offsets in it; the output of this panel's columns, the rows' offsets in
    it; whether segments are planes. A row is so many segments of adjacent words: one for a vector, one for each line of a filter. Planes are
    the bits of integers, the highest first: each meets the panel from its start, and doubles what was counted before.

    With p the count of a row and a column and t the table's number, the output is t - 2p as int32 or, for `bits`, the bit p <= t.
    """
    vectors = COLUMNS // lanes
    wide = ir.VectorType(_INT64, lanes)

    def number(value):
        return ir.Constant(_INT64, value)

    def generate(context, builder, signature, arguments):
        base, row_offsets, segments, step, words, panel, table, table_offsets, out, out_offsets, planes = arguments
        ones = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [wide]), f"llvm.ctpop.v{lanes}i64")

        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [_INT8.as_pointer(), _INT32, _INT32, _INT32]), "llvm.prefetch.p0i8"
        )

        def address(base, offsets, row):
            return builder.add(base, _loaded(builder, builder.add(offsets, number(8 * row)), _INT64))

        starts = [address(base, row_offsets, row) for row in range(rows)]
        # LLVM turns these into registers.
        counts = [[cgutils.alloca_once_value(builder, ir.Constant(wide, None)) for _ in range(vectors)] for _ in range(rows)]
        column_words = cgutils.alloca_once_value(builder, panel)
        with cgutils.for_range(builder, segments) as segment:
            offset = builder.mul(segment.index, step)
            lines = [builder.add(start, offset) for start in starts]
            with builder.if_then(builder.icmp_unsigned("!=", planes, number(0))):
                builder.store(panel, column_words)
                for count in (count for row in counts for count in row):
                    builder.store(builder.shl(builder.load(count), ir.Constant(wide, [1] * lanes)), count)
            with cgutils.for_range(builder, words) as word:
                here = builder.load(column_words)
                columns = [_loaded(builder, builder.add(here, number(8 * lanes * place)), wide) for place in range(vectors)]
                builder.store(builder.add(here, number(8 * COLUMNS)), column_words)
                for line in range(0, 8 * COLUMNS, CACHE_LINE):
                    ahead = _at(builder, builder.add(here, number(AHEAD + line)), _INT8)
                    builder.call(prefetch, [ahead, *[ir.Constant(_INT32, value) for value in (0, 3, 1)]])
                for line, row in zip(lines, counts, strict=True):
                    shared = _loaded(builder, builder.add(line, builder.shl(word.index, number(3))), _INT64)
                    for column, count in zip(columns, row, strict=True):
                        differing = builder.call(ones, [builder.xor(_everywhere(builder, shared, lanes), column)])
                        builder.store(builder.add(builder.load(count), differing), count)
        for row in range(rows):
            limits = address(table, table_offsets, row)
            target = address(out, out_offsets, row)
            answers = ir.Constant(ir.IntType(COLUMNS), 0)
            for place in range(vectors):
                count = builder.load(counts[row][place])
                limit = _loaded(builder, builder.add(limits, number(8 * lanes * place)), wide)
                if bits:
                    within = builder.icmp_signed("<=", count, limit)
                    mask = builder.zext(builder.bitcast(within, ir.IntType(lanes)), answers.type)
                    answers = builder.or_(answers, builder.shl(mask, ir.Constant(answers.type, lanes * place)))
                    continue
                short = ir.VectorType(_INT32, lanes)
                value = builder.trunc(builder.sub(limit, builder.shl(count, ir.Constant(wide, [1] * lanes))), short)
                builder.store(value, _at(builder, builder.add(target, number(4 * lanes * place)), short), align=4)
            if bits:
                builder.store(answers, _at(builder, target, answers.type), align=1)
        return context.get_dummy_value()

    @intrinsic
    def run(typing, base, row_offsets, segments, step, words, panel, table, table_offsets, out, out_offsets, planes):
        return types.void(*[types.int64] * 11), generate

    return run


@no_type_check
def word_of(kind, *, checked):
    """The code that makes a word of the 64 numbers at an address: bit i is set where number i is not negative (-0 is not).

    At the second address it sets bits where a number is NaN or, if `checked`, is not ±1.
    """

    def generate(context, builder, signature, arguments):
        source, wrong = arguments
        wide = ir.VectorType(kind, WORD)
        values = _loaded(builder, source, wide, align=1)
        zero = ir.Constant(wide, None)
        if kind == _INT8:
            bits = builder.icmp_signed(">=", values, zero)
            bad = builder.and_(*[builder.icmp_signed("!=", values, ir.Constant(wide, [sign] * WORD)) for sign in (1, -1)])
        elif checked:
            bits = builder.fcmp_ordered(">=", values, zero)
            integers = ir.VectorType(_INT32, WORD)
            magnitude = builder.and_(builder.bitcast(values, integers), ir.Constant(integers, [0x7FFFFFFF] * WORD))
            bad = builder.icmp_signed("!=", magnitude, ir.Constant(integers, [0x3F800000] * WORD))
        else:
            bits = builder.fcmp_ordered(">=", values, zero)
            bad = builder.fcmp_unordered("uno", values, zero)
        seen = _at(builder, wrong, _INT64)
        builder.store(builder.or_(builder.load(seen), builder.bitcast(bad, _INT64)), seen)
        return builder.bitcast(bits, _INT64)

    @intrinsic
    def run(typing, source, wrong):
        return types.uint64(types.int64, types.int64), generate

    return run


@no_type_check
def plane_of():
    """The code that takes one bit of each of the 64 octets at an address: its plane counts from the highest bit, 0."""

    def generate(context, builder, signature, arguments):
        source, plane = arguments
        wide = ir.VectorType(_INT8, WORD)
        shift = _everywhere(builder, builder.trunc(plane, _INT8), WORD)
        highest = builder.shl(_loaded(builder, source, wide, align=1), shift)
        return builder.bitcast(builder.icmp_signed("<", highest, ir.Constant(wide, None)), _INT64)

    @intrinsic
    def run(typing, source, plane):
        return types.uint64(types.int64, types.int64), generate

    return run


_plane = plane_of()
_integers, _integers_of_one = tile(ROWS, LANES, bits=False), tile(1, LANES, bits=False)
_bits, _bits_of_one = tile(ROWS, LANES, bits=True), tile(1, LANES, bits=True)
_any_float, _plain_float, _plain_int8 = word_of(_FLOAT, checked=False), word_of(_FLOAT, checked=True), word_of(_INT8, checked=True)

BLOCK_BYTES = 1 << 18
"""Activations that are met by all panels before the next are: what stays in a core's second cache beside a panel."""


@compiled
@no_type_check
def count(
    bits, inputs, image_bytes, row_offsets, segments, step, words, panels, table, table_offsets, out, out_bytes, out_offsets, out_step, images,
    shares, planes
):  # fmt: skip
    """Tiles over all rows of the images from `images[0]` to `images[1]` and the panels from `shares[0]` to `shares[1]`.

    Args:
        bits: whether the output is bits, else int32.
        inputs, image_bytes: words of activations, and bytes from one image to the next; `out`, `out_bytes` likewise.
        row_offsets, table_offsets, out_offsets: of each row, in bytes.
        panels: uint64 [panels, words of a row, COLUMNS].
        table: int64 [kinds of row, panels · COLUMNS].
        out_step: bytes from one panel's output to the next.
        planes: 1 where the segments of a row are the planes of integers, else 0.
    """
    rows = len(row_offsets)
    length = 8 * panels.shape[1]
    row_list, table_list, out_list = row_offsets.ctypes.data, table_offsets.ctypes.data, out_offsets.ctypes.data
    block = max(BLOCK_BYTES // max(length, 1), ROWS)
    for image in range(images[0], images[1]):
        base, target = inputs.ctypes.data + image * image_bytes, out.ctypes.data + image * out_bytes
        for first in range(0, rows, block):
            last = min(first + block, rows)
            for share in range(shares[0], shares[1]):
                panel = panels.ctypes.data + share * length * COLUMNS
                limits = table.ctypes.data + share * 8 * COLUMNS
                result = target + share * out_step
                row = first
                while row < last:
                    if ROWS > 1 and rows >= ROWS:
                        # The last tile goes back over rows that are done: the same answers once more.
                        at = 8 * min(row, rows - ROWS)
                        if bits:
                            _bits(base, row_list + at, segments, step, words, panel, limits, table_list + at, result, out_list + at, planes)
                        else:
                            _integers(base, row_list + at, segments, step, words, panel, limits, table_list + at, result, out_list + at, planes)
                        row += ROWS
                    else:
                        at = 8 * row
                        if bits:
                            _bits_of_one(base, row_list + at, segments, step, words, panel, limits, table_list + at, result, out_list + at, planes)
                        else:
                            _integers_of_one(
                                base, row_list + at, segments, step, words, panel, limits, table_list + at, result, out_list + at, planes
                            )
                        row += 1


@compiled
@no_type_check
def pack_lines(x, out, first, last, integers, checked):
    """Signs of the lines from `first` to `last` as words; whether a number was NaN or, if `checked`, not ±1.

    Args:
        x: [line, number], int8 (always checked) if `integers`, else float32.
        out: [line, word]; what a line lacks to a whole word becomes zeros.
    """
    length = x.shape[1]
    whole = length // WORD
    wrong = np.zeros(1, np.int64)
    rest = np.full(WORD, -1, x.dtype)
    for line in range(first, last):
        for word in range(out.shape[1]):
            source = x.ctypes.data + (line * length + word * WORD) * x.itemsize
            if word == whole:
                for place in range(whole * WORD, length):
                    rest[place - whole * WORD] = x[line, place]
                source = rest.ctypes.data
            if integers:
                out[line, word] = _plain_int8(source, wrong.ctypes.data)
            elif checked:
                out[line, word] = _plain_float(source, wrong.ctypes.data)
            else:
                out[line, word] = _any_float(source, wrong.ctypes.data)
    return wrong[0] != 0


@compiled
@no_type_check
def pack_planes(x, out, first, last):
    """Signs of images [image, channel, pixel], float32, as words [image, pixel, ⌈channels / 64⌉]; whether one was NaN."""
    channels, pixels = x.shape[1], x.shape[2]
    wrong = False
    words = np.empty(pixels, np.uint64)
    for image in range(first, last):
        for word in range(out.shape[2]):
            words[:] = 0
            for channel in range(WORD * word, min(WORD * word + WORD, channels)):
                bit = np.uint64(channel - WORD * word)
                for pixel in range(pixels):
                    value = x[image, channel, pixel]
                    words[pixel] |= np.uint64(value >= 0) << bit
                    wrong |= value != value
            for pixel in range(pixels):
                out[image, pixel, word] = words[pixel]
    return wrong


@compiled
@no_type_check
def pack_pixels(x, out):
    """Numbers u / 255 of lines [line, number], float32, as the bits of u [line, plane, word], the highest plane first; whether all were such."""
    pixels = np.zeros(out.shape[2] * WORD, np.uint8)
    exact = True
    for line in range(x.shape[0]):
        for place in range(x.shape[1]):
            value = x[line, place]
            pixel = np.rint(min(max(value, np.float32(0)), np.float32(1)) * np.float32(255))
            exact &= pixel / np.float32(255) == value
            pixels[place] = np.uint8(pixel)
        for plane in range(out.shape[1]):
            for word in range(out.shape[2]):
                out[line, plane, word] = _plane(pixels.ctypes.data + word * WORD, plane)
    return exact


@compiled
@no_type_check
def lay_out(bits, panels):
    """Columns [column, word] as panels [panel, word, COLUMNS]; columns that the last panel lacks stay as they are."""
    for column in range(bits.shape[0]):
        for word in range(bits.shape[1]):
            panels[column // COLUMNS, word, column % COLUMNS] = bits[column, word]


@compiled
@no_type_check
def pool(bits, falling, size, stride, padding, out):
    """The greatest of each window of ±1 (or, where `falling` has a bit, the least): [image, line, pixel, word] to the same."""
    height, width = bits.shape[1], bits.shape[2]
    for image in range(out.shape[0]):
        for line in range(out.shape[1]):
            top = line * stride - padding
            for pixel in range(out.shape[2]):
                left = pixel * stride - padding
                for word in range(out.shape[3]):
                    found = np.uint64(0)
                    for y in range(max(top, 0), min(top + size, height)):
                        for x in range(max(left, 0), min(left + size, width)):
                            found |= bits[image, y, x, word] ^ falling[word]
                    out[image, line, pixel, word] = found ^ falling[word]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """One for all, whose threads start as they are needed; nothing that runs in it waits for anything else in it."""
    return ThreadPoolExecutor(os.cpu_count())


# The child of a fork has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)


def worth(size: int, share: int, threads: int) -> int:
    """How many of `threads` are worth waking for work of `size`, of which `share` takes about as long as it takes to wake one."""
    return max(min(threads, size // share), 1)


def spread(work: Callable[[int, int], Any], parts: int, threads: int) -> list[Any]:
    """What `work(first, last)` gives for up to `threads` shares of `parts`, one of them computed in this thread."""
    shares = max(min(threads, parts), 1)
    bounds = [parts * share // shares for share in range(shares + 1)]
    others = [_pool().submit(work, *pair) for pair in itertools.pairwise(bounds[1:])]
    return [work(0, bounds[1]), *(one.result() for one in others)]
