"""Reading an array of many rows from a stream, a few megabytes at a time."""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from slimline.errors import SlimlineError

CHUNK = 4 * 2**20
"""Bytes read at once, as far as rows are no larger."""

LARGEST_ROW = 2**30
"""Bytes of one image; a header that tells more is damaged, and is not followed."""


@runtime_checkable
class Stream(Protocol):
    """A file, plain or out of an archive, that gives as many bytes as are asked for, and fewer only at its end."""

    def read(self, size: int, /) -> bytes: ...


def rows(stream: Stream, count: int, shape: tuple[int, ...], dtype: np.dtype, *, where: str) -> Iterator[np.ndarray]:
    """`count` rows of `shape`, some of them at a time: `some *shape`; the stream must end with the last.

    Raises:
        SlimlineError: the stream is shorter or longer, or a row is empty or impossibly large; `where` is named.
    """
    size = dtype.itemsize * math.prod(shape)
    if not 0 < size <= LARGEST_ROW:
        raise SlimlineError(f"{where}: its header tells of rows of {size} bytes; it is damaged or holds no images, get it anew")
    step = max(1, CHUNK // size)
    for start in range(0, count, step):
        wanted = min(step, count - start)
        content = stream.read(wanted * size)
        if len(content) < wanted * size:
            raise SlimlineError(f"{where}: it ends after {start + len(content) // size} of {count} entries; it was cut off, get it anew")
        yield np.frombuffer(content, dtype).reshape(wanted, *shape)
    if stream.read(1):
        raise SlimlineError(f"{where}: it goes on after the {count} entries that its header tells of; it is damaged, get it anew")
