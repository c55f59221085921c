"""Images as short rows of small integers, on which a linear classifier can tell classes apart.

All features are integers of at most eight bits, so sums of their products are exact: the order of the images does not change them.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int8, Int64, UInt8, UInt32

CHUNK = 1000
"""Images at once. Sums over so many are exact in float32, since 1000 products of 127 · 127 stay below 2²⁴; over all, in float64 below 2⁵³."""

BYTES = 2**24
"""Bytes of pixels at once: 16 MiB, which bounds memory where images are large."""

SIDE = 32
"""Pixels of a thumbnail's side, at most: CIFAR-10's, so that larger images cost no more than those."""

GRID = 6
"""Cells a side for gradients: five pixels of a thumbnail each, about the width of a stroke of MNIST's digits."""

DIRECTIONS = 8
"""Directions a cell, 45° apart; opposite ones are two."""

COLOUR_GRID = 4
"""Cells a side for colours, which change more slowly over an image than edges do."""

RANDOM_FEATURES = 768
"""Random features an image; with 288 of gradients and up to 48 of colours some 1,100, whose products take 10 MB a fold."""

Thumbnails = UInt8[np.ndarray, "n channels height width"]
Features = Int8[np.ndarray, "n features"]


def read(
    images: UInt8[np.ndarray, "rows c h w"], rows: Int64[np.ndarray, " chosen"], seed: int
) -> tuple[UInt32[np.ndarray, "chosen 5"], Int8[np.ndarray, "chosen features"]]:
    """Five random words of each image, decided by its pixels and the seed, and its features."""
    words, features = [], []
    key = str(seed).encode()[:64]
    size = int(np.prod(images.shape[1:]))
    for part in parts(len(rows), min(CHUNK, max(1, BYTES // size))):
        small = thumbnails(images[rows[part]])
        words.append([np.frombuffer(hashlib.blake2b(image.tobytes(), digest_size=20, key=key).digest(), np.uint32) for image in small])
        features.append(described(small))
    return np.concatenate([np.array(row) for row in words]), np.concatenate(features)


def thumbnails(images: UInt8[np.ndarray, "n c h w"]) -> Thumbnails:
    """Images of at most 32 pixels a side, by the mean over square blocks; what does not fill a block at the far edges is left out."""
    count, channels, height, width = images.shape
    block = -(-max(height, width) // SIDE)
    tall, wide = max(height // block, 1), max(width // block, 1)
    cut = images[:, :, : tall * block, : wide * block].reshape(count, channels, tall, -1, wide, min(block, width))
    return np.rint(cut.mean((3, 5), dtype=np.float32)).astype(np.uint8)


def described(images: Thumbnails) -> Features:
    """Gradient directions on a grid of cells, colours on a coarser one, random features of both, and a constant.

    After Dalal & Triggs, "Histograms of oriented gradients", CVPR 2005: a gradient g counts max(0, g · d) towards each direction d,
    shared among neighbouring cells by distance and divided by the length of the 3×3 cells around. Random features max(0, ±z…±z) let a
    linear classifier bend (Rahimi & Recht, "Weighted sums of random kitchen sinks", NIPS 2008).
    """
    count, channels, height, width = images.shape
    pixels = images.astype(np.float32)
    grey = np.pad(pixels.sum(1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]) / channels, (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / channels
    grid = min(GRID, max(1, min(height, width) // 2))
    rows, columns = _cells(height, grid), _cells(width, grid)
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    towards = [np.rint(np.maximum(0, across * np.float32(np.cos(a)) + down * np.float32(np.sin(a)))) for a in angles]
    cells = np.stack([rows @ part @ columns.T for part in towards], axis=1).astype(np.float64)
    energy = np.pad((cells**2).sum(1), ((0, 0), (1, 1), (1, 1)))
    around = sum(energy[:, i : i + grid, j : j + grid] for i in range(3) for j in range(3))
    # The overall length keeps the noise of a flat region from counting as much as an edge.
    lengths = np.sqrt(around + energy.mean((1, 2), keepdims=True) + 1)
    gradients = np.rint(np.minimum(cells / lengths[:, None], 1) * 127).reshape(count, -1)
    coarse = min(COLOUR_GRID, grid)
    tall, wide = _cells(height, coarse), _cells(width, coarse)
    weights = tall.sum(1)[:, None] * wide.sum(1)
    colours = np.rint((tall @ pixels @ wide.T) / weights / 4).reshape(count, -1) - 32
    plain = np.concatenate([gradients, colours], axis=1).astype(np.float32)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (plain.shape[1], RANDOM_FEATURES))
    units = np.clip(np.rint((plain @ signs) / 8), 0, 127)
    return np.concatenate([plain, units, np.full((count, 1), 64)], axis=1).astype(np.int8)


def _cells(pixels: int, cells: int) -> Float32[np.ndarray, "cells pixels"]:
    """How much each of `pixels` in a row counts towards each of `cells`: a triangle as wide as two cells, in eighths."""
    step = pixels / cells
    centres = (np.arange(cells) + 0.5) * step - 0.5
    return np.rint(8 * np.maximum(0, 1 - np.abs(np.arange(pixels) - centres[:, None]) / step)).astype(np.float32)


def parts(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices of `size` that cover `count` rows."""
    return (slice(start, start + size) for start in range(0, count, size))
