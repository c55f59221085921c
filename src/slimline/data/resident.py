"""Where images are while a network is trained: on its device when they fit, else in their file, read ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import psutil
import torch
from jaxtyping import Int64
from torch import Tensor

from slimline.data.prepared import Gathered, Images

AHEAD = 4
"""Batches that a mapped split holds ready."""

Part = TypeVar("Part")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Mapped:
    """One split that stays where it is, a file or the processor's memory; its batches are gathered in the background for `device`."""

    images: Images
    device: torch.device

    def __len__(self) -> int:
        return len(self.images)

    @property
    def home(self) -> torch.device:
        return self.images.home

    def gathered(self, parts: Iterable[Int64[Tensor, " _"]]) -> Iterator[Gathered]:
        """As `Images.gathered`, on `device`."""
        for numbers, pixels, labels in read_ahead(self._gather, parts, AHEAD):
            yield self._sent(numbers), self._sent(pixels), self._sent(labels)

    def _gather(self, numbers: Tensor) -> Gathered:
        # torch lets go of Python's lock while it waits for the disk.
        numbers, pixels, labels = next(self.images.gathered([numbers]))
        if self.device.type != "cuda":
            return numbers, pixels, labels
        # Only from page-locked memory does a copy to CUDA run beside the computation.
        return numbers.pin_memory(), pixels.pin_memory(), labels.pin_memory()

    def _sent(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def resident(images: Images, device: torch.device, limit_mb: int | None = None) -> Images | Mapped:
    """`images` copied to `device` if their pixels fit into the limit, else `Mapped`; batches of both are the same bit for bit.

    Args:
        limit_mb: millions of bytes; None: half of what is free on the device.
    """
    limit = limit_mb * 10**6 if limit_mb is not None else free_bytes(device) // 2
    if images.pixels.nbytes > limit:
        return Mapped(images, device)
    return Images(images.pixels.to(device, copy=True), images.labels.to(device, copy=True))


def free_bytes(device: torch.device) -> int:
    """Memory of `device` that nothing uses; where it cannot be asked, the processor's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def read_ahead(make: Callable[[Part], Made], parts: Iterable[Part], ahead: int) -> Iterator[Made]:
    """`map(make, parts)`, with up to `ahead` results made in another thread before they are asked for.

    What `make` raises is raised where its result would have come. When the iterator is closed or forgotten, the thread ends.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(make, part))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
