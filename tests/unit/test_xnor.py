"""Bits where signs are expected: what is refused, and the loops on processors that lack what this one has."""

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from llvmlite import binding
from numba import njit, types

from slimline.core import popcount, xnor, xnor_reference
from slimline.errors import SlimlineError


def test_both_zeros_are_plus_one() -> None:
    assert xnor.pack_signs(np.float32([0.0, -0.0, -1e-45, 1e-45])).tolist() == [0b1011]
    assert xnor.pack_images(np.float32([0.0, -0.0, -1.0]).reshape(1, 3, 1, 1)).tolist() == [[[[0b011]]]]
    assert xnor.pack_signs(np.array([-1e-300, 1e-300, 1e300])).tolist() == [0b110]


@pytest.mark.parametrize("place", [0, 63, 64, 70])
def test_nan_is_refused_wherever_it_stands(place: int) -> None:
    x = np.ones((3, 71), np.float32)
    x[1, place] = np.nan
    for refuse in (xnor.pack, xnor.pack_signs, lambda x: xnor.pack_signs(x.astype(np.float64)), lambda x: xnor.pack_images(x[None, :, :, None])):
        with pytest.raises(SlimlineError, match="NaN"):
            refuse(x)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int8, np.int32, np.uint8])
@pytest.mark.parametrize("place", [0, 64, 70])
@pytest.mark.parametrize("value", [0, 2, 3, 127])
def test_what_is_not_one_or_minus_one_is_refused(kind: type, place: int, value: int) -> None:
    x = np.ones((2, 71), kind)
    xnor.pack(x)
    x[1, place] = value
    with pytest.raises(SlimlineError, match="not ±1"):
        xnor.pack(x)


def test_a_number_that_only_rounds_to_one_is_refused() -> None:
    with pytest.raises(SlimlineError, match="not ±1"):
        xnor.pack(np.array([1 + 1e-12]))


def test_shapes_that_do_not_match_are_refused() -> None:
    bits = xnor.pack(np.ones((4, 70)))
    geometry = xnor.Geometry(5, 5, (3, 3), (1, 1), (1, 1), 0)
    filters = xnor.pack(np.ones((2, 3, 3, 70)))
    convolution = xnor.Convolution(filters, 70, geometry)
    two = xnor.thresholds(np.ones(2), np.ones(2))
    for refused in (
        lambda: xnor.unpack(bits, 64),
        lambda: xnor.matmul(bits, bits, 64),
        lambda: xnor.matmul(bits[:, :1], bits, 70),
        lambda: xnor.Convolution(filters[:, :2], 70, geometry),
        lambda: xnor.Convolution(filters, 129, geometry),
        lambda: xnor.Convolution(np.concatenate([filters, filters]), 70, geometry, two),
        lambda: xnor.Product(bits, 70, two),
        lambda: convolution(xnor.pack(np.ones((1, 5, 4, 70)))),
        lambda: xnor.Geometry(2, 5, (3, 3), (1, 1), (0, 0), 0),
        lambda: xnor.Geometry(5, 5, (3, 3), (0, 1), (0, 0), 0),
        lambda: xnor.maximum(filters, xnor.Windows(4, 1), xnor.inside(70)),
        lambda: xnor.pack(np.float32(1)),
        lambda: xnor.Product(bits, 70, planes=True),
    ):
        with pytest.raises((SlimlineError, TypeCheckError)):  # some of them the types refuse before, as tests have them checked
            refused()


def test_weights_with_bits_beyond_their_last_channel_are_refused() -> None:
    with pytest.raises(SlimlineError, match="beyond the last channel"):
        xnor.Product(np.full((2, 1), 2**64 - 1, np.uint64), 63)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_batch_norm_that_is_not_finite_is_refused(broken: float) -> None:
    with pytest.raises(SlimlineError, match="not finite"):
        xnor.thresholds(np.array([1.0, broken]), np.zeros(2))


def test_a_scale_of_zero_makes_a_constant_and_a_tiny_one_a_threshold_out_of_reach() -> None:
    found = xnor.thresholds(np.array([0.0, 0.0, 1e-300, -1e-300]), np.array([-0.0, -1e-30, -1.0, -1.0]))
    z = np.array([[-5], [5]])
    assert np.where(found.falling, z <= found.at, z >= found.at).tolist() == [[True, False, False, False]] * 2


def test_bits_of_weights_take_a_32nd_of_float_to_the_byte() -> None:
    assert xnor.Product(xnor.pack(np.ones((256, 4096))), 4096).weights.nbytes * 32 == 256 * 4096 * 4


def test_a_tile_is_chosen_by_what_the_processor_has() -> None:
    assert popcount.tile_of(frozenset({"avx2", "avx512vpopcntdq", "popcnt"}), "x86_64") == (8, 8)
    assert popcount.tile_of(frozenset({"avx2", "popcnt"}), "x86_64") == (4, 2)
    assert popcount.tile_of(frozenset({"popcnt"}), "x86_64") == (1, 1)
    assert popcount.tile_of(frozenset(), "x86_64") == (2, 1)
    assert popcount.tile_of(frozenset({"neon"}), "aarch64") == (2, 2)


def tile_alone(lanes: int, rows: int) -> tuple[str, str]:
    """The innermost loop for bits, in LLVM's language, and what this machine makes of it."""
    run = popcount.tile(rows, lanes, bits=True)

    @njit(types.void(*[types.int64] * 11))
    def alone(a, b, c, d, e, f, g, h, i, j, k):
        run(a, b, c, d, e, f, g, h, i, j, k)

    return next(iter(alone.inspect_llvm().values())), next(iter(alone.inspect_asm().values()))


@pytest.mark.skipif("avx512vpopcntdq" not in popcount.features(), reason="this processor has no vector popcount")
def test_the_innermost_loop_counts_in_whole_vectors_and_keeps_its_tile_in_registers() -> None:
    code = [line.split() for line in tile_alone(popcount.LANES, popcount.ROWS)[1].splitlines()]
    counting = [place for place, words in enumerate(code) if words[:1] == ["vpopcntq"] and "%zmm" in words[1]]
    assert len(counting) == popcount.ROWS * popcount.COLUMNS // popcount.LANES
    loop = code[counting[0] : counting[-1]]
    assert not [words for words in loop if words and words[0].startswith("vmov") and words[-1].endswith(")")]  # nothing goes to memory


PROGRAM = """
import numpy as np
from slimline.core import popcount, xnor, xnor_reference
print(popcount.LANES, popcount.ROWS)
draws = np.random.default_rng(0)
a, b = (draws.choice(np.float32([-1, 1]), (rows, 333)) for rows in (21, 37))
bits, sums = xnor.pack(a), xnor_reference.matmul(a, b)
assert np.array_equal(xnor.matmul(bits, xnor.pack(b), 333), sums)
scale, shift = draws.normal(size=37), draws.normal(size=37) * 9
signs = xnor.Product(xnor.pack(b), 333, xnor.thresholds(scale, shift))(bits)
assert np.array_equal(signs, xnor.pack_signs(scale * sums + shift))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of x86")
@pytest.mark.parametrize(
    ("name", "features", "tile"), [("haswell", "+avx2,+popcnt", "4 2"), ("nehalem", "+popcnt,+sse4.2", "1 1"), ("x86-64", "", "2 1")]
)
def test_a_processor_without_vector_popcount_computes_the_same(name: str, features: str, tile: str, tmp_path) -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, tile), done.stderr


@pytest.mark.slow
def test_nowhere_to_write_means_compiling_anew(tmp_path) -> None:
    """A container whose files cannot be written: numba is told of no folder at all."""
    program = f"import numba.core.caching as c; c.CacheImpl._locator_classes = []{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "environment", "told"),
    [
        ("", {"NUMBA_DISABLE_JIT": "1"}, "packed bits run on compiled loops, and NUMBA_DISABLE_JIT forbids them; unset it"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
            {},
            "cannot be compiled ([Errno 27] File too large); set NUMBA_CACHE_DIR",
        ),
    ],
)
def test_where_nothing_can_be_compiled_or_kept_a_line_says_what_to_do(before: str, environment: dict[str, str], told: str, tmp_path) -> None:
    program = f"import numpy as np\nfrom slimline.core import xnor\n{before}\nxnor.pack(np.ones(9, np.float32))"
    surroundings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("slimline.errors.SlimlineError: ")
    assert told in last
    assert last.endswith("take runtime torch or onnxruntime")


def test_the_same_source_becomes_neon_on_arm() -> None:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    lanes, rows = popcount.tile_of(frozenset({"neon"}), "aarch64")
    try:
        machine = binding.Target.from_triple("aarch64-linux-gnu").create_target_machine(cpu="cortex-a76", opt=3)
    except RuntimeError:
        pytest.skip("this build of LLVM knows no ARM")
    lines = [line for line in tile_alone(lanes, rows)[0].splitlines() if not line.startswith(("target ", "attributes "))]
    module = binding.parse_assembly("\n".join(lines))
    module.triple = "aarch64-linux-gnu"
    code = machine.emit_assembly(module)
    counting = [line for line in code.splitlines() if line.split()[:1] == ["cnt"]]
    assert len(counting) == rows * popcount.COLUMNS // lanes
    assert all(".16b" in line for line in counting)


def test_every_length_around_a_word_every_stride_and_every_padding_give_what_float_gives() -> None:
    draws = np.random.default_rng(0)

    def signs(*shape: int) -> np.ndarray:
        return draws.choice(np.float32([-1, 1]), shape)

    for length in (*range(1, 6), *range(61, 68), *range(125, 132), 191, 192, 193):
        a, b = signs(9, length), signs(17, length)
        assert np.array_equal(xnor.matmul(xnor.pack(a), xnor.pack(b), length), xnor_reference.matmul(a, b)), length
    for kernel, stride, above, left, border in itertools.product((1, 2, 3), (1, 2, 3), (0, 1, 2), (0, 2), (-1, 0, 1)):
        x, weight = signs(2, 3, 5, 4), signs(5, 3, kernel, kernel)
        geometry = xnor.Geometry(5, 4, (kernel, kernel), (stride, 1), (above, left), border)
        bits = np.repeat(xnor.pack_images(x), 2, axis=2)[:, :, ::2]  # not contiguous
        found = xnor.Convolution(xnor.pack(np.moveaxis(weight, 1, 3)), 3, geometry)(bits)
        expected = xnor_reference.convolution(x, weight, stride=(stride, 1), padding=(above, left), border=float(border))
        assert np.array_equal(np.moveaxis(found, 3, 1), expected), geometry


def test_threads_and_their_number_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [popcount.worth(size, 10, 4) for size in (0, 9, 29, 39, 400)] == [1, 1, 2, 3, 4]
    monkeypatch.setattr(xnor, "SHARE", 1)
    monkeypatch.setattr(xnor, "SHARE_PACKED", 1)
    draws = np.random.default_rng(0)
    a, b = (draws.choice(np.float32([-1, 1]), (rows, 500)) for rows in (100, 77))
    expected = xnor_reference.matmul(a, b)
    for threads in (1, 2, 7, 200):
        assert np.array_equal(xnor.matmul(xnor.pack(a, threads=threads), xnor.pack(b), 500, threads=threads), expected)


@pytest.mark.parametrize("other", [0.5, 1 / 255 + 1e-6, -1 / 255, 256 / 255, np.nan, np.inf])
def test_numbers_that_are_no_pixels_have_no_planes(other: float) -> None:
    x = np.full((2, 70), 3 / 255, np.float32)
    assert xnor.pack_pixels(x) is not None
    x[1, 65] = other
    assert xnor.pack_pixels(x) is None
