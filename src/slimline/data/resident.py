"""Where images are while a network is trained: on its device when they fit, else in their file, read ahead."""

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from jaxtyping import Int64
from torch import Tensor

from slimline.data.prepared import Gathered, Images, Split

AHEAD = 4
"""Batches that a mapped split holds ready."""

Part = TypeVar("Part")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Mapped(Split):
    """One split that stays where it is, a file or the processor's memory; its batches are gathered in the background for `device`."""

    device: torch.device

    def gathered(self, parts: Iterable[Int64[Tensor, " _"]]) -> Iterator[Gathered]:
        """As `Images.gathered`, on `device`."""
        for numbers, pixels, labels in read_ahead(self._near, parts, AHEAD):
            yield self._sent(numbers), self._sent(pixels), self._sent(labels)

    def _near(self, numbers: Tensor) -> Gathered:
        # torch lets go of Python's lock while it waits for the disk.
        numbers, pixels, labels = self._picked(numbers)
        if self.device.type != "cuda":
            return numbers, pixels, labels
        # Only from page-locked memory does a copy to CUDA run beside the computation.
        return numbers.pin_memory(), pixels.pin_memory(), labels.pin_memory()

    def _sent(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def resident(images: Images, device: torch.device, limit_mb: int | None = None) -> Split:
    """`images` where batches are gathered at once, if their pixels fit into the limit, else `Mapped`; batches of both are the same bit for bit.

    That place is the memory of `device`, to which they are copied; on the processor it is the map itself. What the system holds of a
    file is as fast as a copy, serves all processes together, and is given up when memory is short.

    Args:
        limit_mb: millions of bytes; None: half of what is free on the device.
    """
    limit = limit_mb * 10**6 if limit_mb is not None else free_bytes(device) // 2
    if images.pixels.nbytes > limit:
        return Mapped(images.pixels, images.labels, device)
    if device.type != "cpu":
        return Images(images.pixels.to(device), images.labels.to(device))
    # A byte of each page, in the file's order: otherwise the first epoch would fetch them from all over the disk.
    images.pixels.flatten()[:: mmap.PAGESIZE].sum()
    return images


def free_bytes(device: torch.device) -> int:
    """Memory of `device` that nothing uses; where it cannot be asked, the processor's."""
    if device.type == "cuda":
        # CUDA counts as used what torch holds ready for its next tensors.
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min([psutil.virtual_memory().available, *container_bytes()])


def container_bytes(root: Path = Path("/")) -> list[int]:
    """What each control group around this process (cgroup v2 or v1; a container is one) still lets it use; none where none sets a limit.

    As in the system's own figure, pages of files count as free.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        limit, usage, prefix = ("limit_in_bytes", "usage_in_bytes", "total_") if controllers else ("max", "current", "")
        own = top / path.lstrip("/")  # within a container it may not be there: then `top` is the container's
        for group in (own, *own.parents):
            try:
                most, used = (int((group / f"memory.{name}").read_text()) for name in (limit, usage))
                counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # not a group, or "max": no limit
                continue
            files = sum(int(counts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
            found.append(max(most - used + files, 0))
    return found


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
