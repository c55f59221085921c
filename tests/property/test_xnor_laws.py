"""Products and convolutions on packed bits are those of ±1 in float, whatever the lengths, strides and borders."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimline.core import xnor, xnor_reference

lengths = st.one_of(st.integers(1, 5), st.integers(60, 68), st.integers(124, 132), st.integers(1, 700))
seeds = st.integers(0, 2**32 - 1)
threads = st.integers(1, 3)


@pytest.fixture(autouse=True, scope="module")
def _threads_are_always_worth_waking() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xnor, "SHARE", 1)
        patch.setattr(xnor, "SHARE_PACKED", 1)
        yield


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.float32([-1, 1]), shape)


@st.composite
def layers(draw: st.DrawFn) -> tuple[xnor.Geometry, int, int]:
    """A convolution that fits its images, its channels and its filters."""
    kernel, stride, padding = (tuple(draw(st.lists(st.integers(low, high), min_size=2, max_size=2))) for low, high in ((1, 5), (1, 3), (0, 3)))
    height, width = (draw(st.integers(max(1, size - 2 * around), 11)) for size, around in zip(kernel, padding, strict=True))
    geometry = xnor.Geometry(height, width, kernel, stride, padding, draw(st.sampled_from([-1, 0, 1])))
    return geometry, draw(st.one_of(st.integers(1, 4), st.integers(62, 66), st.integers(126, 130))), draw(st.integers(1, 70))


def sums(geometry: xnor.Geometry, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return xnor_reference.convolution(x, weight, stride=geometry.stride, padding=geometry.padding, border=float(geometry.border))


def batch_norms(seed: int, columns: int, spread: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales of both signs and zero, and shifts of which many put the threshold on an integer; their products are exact in 64 bits."""
    draws = np.random.default_rng(seed)
    scale = draws.integers(-2, 3, columns) * draws.integers(1, 2**20, columns) / 2**20
    return scale, np.where(draws.random(columns) < 0.5, -scale, draws.normal(size=columns).astype(np.float32)) * draws.integers(
        -spread, spread + 1, columns
    )


@given(lengths, st.integers(0, 40), seeds, threads)
def test_what_is_packed_comes_back_and_padding_is_zero(length: int, lines: int, seed: int, threads: int) -> None:
    x = drawn(seed, lines, length)
    bits = xnor.pack(x, threads=threads)
    assert bits.shape == (lines, -(-length // 64))
    assert np.array_equal(xnor.unpack(bits, length), x)
    assert not (bits & ~xnor.inside(length)).any()
    assert np.array_equal(bits, xnor.pack(x.astype(np.int8)))
    assert np.array_equal(bits, xnor.pack(x.astype(np.float64)))
    assert np.array_equal(bits, xnor.pack_signs(x * np.random.default_rng(seed).random(x.shape, np.float32)))


@given(lengths, st.integers(1, 30), st.integers(1, 40), seeds, threads)
def test_products_are_those_of_float(length: int, rows: int, columns: int, seed: int, threads: int) -> None:
    a, b = drawn(seed, rows, length), drawn(seed + 1, columns, length)
    found = xnor.matmul(xnor.pack(a), xnor.pack(b), length, threads=threads)
    assert found.dtype == np.int32
    assert np.array_equal(found, xnor_reference.matmul(a, b))


@given(lengths, st.integers(1, 20), st.integers(1, 20), seeds)
def test_arrays_that_are_not_contiguous_are_read_as_they_look(length: int, rows: int, columns: int, seed: int) -> None:
    a, b = drawn(seed, length, 2 * rows).T[::2], drawn(seed + 1, columns, 3 * length)[:, ::-3]
    assert not a.flags.c_contiguous or 1 in a.shape
    bits = np.repeat(xnor.pack(a), 2, axis=0)[::2]
    assert np.array_equal(xnor.matmul(bits, xnor.pack(b), length), xnor_reference.matmul(a, b))
    images = drawn(seed, 3, length % 9 + 1, 2 * rows, columns)[:, :, ::2].transpose(0, 1, 3, 2)
    assert np.array_equal(xnor.pack_images(images), xnor.pack(np.moveaxis(images, 1, 3)))


@given(lengths, st.integers(1, 20), st.integers(1, 40), seeds, threads)
def test_a_product_with_thresholds_gives_the_signs_of_its_batch_norm(length: int, rows: int, columns: int, seed: int, threads: int) -> None:
    a, b = drawn(seed, rows, length), drawn(seed + 1, columns, length)
    scale, shift = batch_norms(seed, columns, length)
    product = xnor.Product(xnor.pack(b), length, xnor.thresholds(scale, shift))
    expected = xnor_reference.signs(scale * xnor_reference.matmul(a, b) + shift)
    bits = product(xnor.pack(a), threads=threads)
    assert np.array_equal(bits, xnor.pack(expected))  # so the bits that pad are zeros here too


@given(layers(), st.integers(1, 3), seeds, threads)
def test_convolutions_are_those_of_float_whatever_stands_around_the_image(layer, images: int, seed: int, threads: int) -> None:
    geometry, channels, filters = layer
    x, weight = drawn(seed, images, channels, geometry.height, geometry.width), drawn(seed + 1, filters, channels, *geometry.kernel)
    convolution = xnor.Convolution(xnor.pack(np.moveaxis(weight, 1, 3)), channels, geometry)
    found = convolution(xnor.pack_images(x), threads=threads)
    assert found.dtype == np.int32
    assert np.array_equal(np.moveaxis(found, 3, 1), sums(geometry, x, weight))


@given(layers(), seeds, threads)
def test_a_convolution_with_thresholds_gives_the_signs_of_its_batch_norm(layer, seed: int, threads: int) -> None:
    geometry, channels, filters = layer
    x, weight = drawn(seed, 2, channels, geometry.height, geometry.width), drawn(seed + 1, filters, channels, *geometry.kernel)
    scale, shift = batch_norms(seed, filters, 9 * channels)
    convolution = xnor.Convolution(xnor.pack(np.moveaxis(weight, 1, 3)), channels, geometry, xnor.thresholds(scale, shift))
    expected = xnor_reference.signs(scale[:, None, None] * sums(geometry, x, weight) + shift[:, None, None])
    assert np.array_equal(convolution(xnor.pack_images(x), threads=threads), xnor.pack(np.moveaxis(expected, 1, 3)))


@given(st.integers(1, 200), st.integers(1, 30), seeds)
def test_thresholds_by_formula_and_by_asking_are_one(largest: int, columns: int, seed: int) -> None:
    scale, shift = batch_norms(seed, columns, largest)
    z = np.arange(-largest, largest + 1)[:, None]
    for found in (xnor.thresholds(scale, shift), xnor.thresholds_of(lambda z: scale * z + shift >= 0, columns, largest)):
        assert np.array_equal(np.where(found.falling, z <= found.at, z >= found.at), scale * z + shift >= 0)


@given(st.integers(1, 70), st.integers(3, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans(), seeds)
def test_pooling_bits_gives_the_sign_of_what_the_greatest_number_becomes(
    channels: int, side: int, size: int, stride: int, padding: int, beyond: bool, seed: int
) -> None:
    draws, padding = np.random.default_rng(seed), padding if size > 1 else 0
    z, scale, shift = draws.integers(-9, 10, (2, channels, side, side)), draws.choice([-1.0, 0.0, 1.0], (channels, 1, 1)), draws.integers(-5, 6)
    pooled = xnor_reference.signs(scale * xnor_reference.maximum(z.astype(np.float64), size, stride, padding=padding, beyond=beyond) + shift)
    falling = xnor.pack(np.where(scale[:, 0, 0] < 0, 1, -1))
    bits = xnor.pack_images((scale * z + shift).astype(np.float32))
    assert np.array_equal(xnor.maximum(bits, xnor.Windows(size, stride, padding, beyond), falling), xnor.pack(np.moveaxis(pooled, 1, 3)))


@given(st.integers(1, 70), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), seeds)
def test_images_that_become_a_line_are_multiplied_tap_by_tap(channels: int, height: int, width: int, columns: int, seed: int) -> None:
    x, weight = drawn(seed, 5, height, width, channels), drawn(seed + 1, columns, height, width, channels)
    product = xnor.Product(xnor.pack(weight), channels)
    assert np.array_equal(product(xnor.pack(x).reshape(5, -1)), xnor_reference.matmul(x.reshape(5, -1), weight.reshape(columns, -1)))


@given(lengths, st.integers(1, 20), st.integers(1, 40), seeds, threads)
def test_integers_of_8_bits_are_multiplied_plane_by_plane(length: int, rows: int, columns: int, seed: int, threads: int) -> None:
    u, weight = np.random.default_rng(seed).integers(0, 256, (rows, length)), drawn(seed + 1, columns, length)
    scale, shift = batch_norms(seed, columns, 99 * length)
    planes = xnor.pack_pixels(u.astype(np.float32) / np.float32(255))
    product = xnor.Product(xnor.pack(weight), length, xnor.thresholds(scale, shift), planes=True)
    assert np.array_equal(product(planes, threads=threads), xnor.pack(xnor_reference.signs(scale * (u @ weight.T.astype(np.int64)) + shift)))
