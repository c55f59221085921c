"""Batches cut from a split by whole tensors: no work a sample in Python.

Several processes share a split by `rank` and `ranks`: process `rank` of `ranks` meets its own part of every batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from slimline.core.batch import Batch
from slimline.data.prepared import Split


def scaled(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """uint8 pixels as float32 in [0, 1]."""
    return pixels.float().div_(255)


@dataclass
class Ordered:
    """A split in its own order, every image once over all processes: for validation and test.

    Each process takes one stretch, cut into batches of its own; stretches differ by one image at most, and are empty where images
    are fewer than processes. All have the same number of batches, the last of which may be empty: what they do together is done by all.
    """

    images: Split
    batch_size: int
    rank: int = 0
    ranks: int = 1

    def __len__(self) -> int:
        largest = -(-len(self.images) // self.ranks)
        return -(-largest // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        own = torch.arange(len(self.images), device=self.images.home).tensor_split(self.ranks)[self.rank]
        parts = [part for part in own.split(self.batch_size) if len(part)]
        for samples, pixels, labels in self.images.gathered(parts + [own[:0]] * (len(self) - len(parts))):
            yield Batch(scaled(pixels), labels, samples)
