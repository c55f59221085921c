"""Batches cut from resident tensors: no work a sample in Python."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from slimline.data.augment import AUGMENTATIONS
from slimline.data.prepared import Images
from slimline.registry import Spec, build

Batch = tuple[Float[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]


def scaled(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return pixels.float() / 255


@dataclass
class Ordered:
    """A split in its own order, every image once: for validation and test."""

    images: Images
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield scaled(self.images.pixels[part]), self.images.labels[part]


@dataclass
class Shuffled:
    """A split in a new order each epoch, augmented.

    The order of epoch e is decided by (seed, e), and what happens to a sample by (seed, e, sample), whatever the batch size.
    The last batch may be smaller; one of a single image is left out, since batch statistics of one image are undefined.

    `epoch` counts the passes made; set it to continue at a later one.
    """

    images: Images
    batch_size: int
    seed: int
    augment: Sequence[Spec] = ()
    epoch: int = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (rest > 1 or (whole == 0 and rest > 0))

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.images), generator=self._generator(0))
        transforms = [build(AUGMENTATIONS, spec, len(self.images), self._generator(1 + position)) for position, spec in enumerate(self.augment)]
        self.epoch += 1
        for batch in range(len(self)):
            samples = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            x = scaled(self.images.pixels[samples])
            for transform in transforms:
                x = transform(x, samples)
            yield x, self.images.labels[samples]

    def _generator(self, stream: int) -> torch.Generator:
        # Torch's generator heeds the lowest 32 bits of a seed alone, so a digest stirs all three numbers into those.
        words = hashlib.sha256(f"{self.seed} {self.epoch} {stream}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(words[:4], "big"))
