"""Many images decoded at once: chunks of them go to worker processes, which write prepared pixels to a file and hand back the facts."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from slimline.data.prepare.decode import UNSHARED, Form, decode, decoders
from slimline.data.sources.item import Folder, Item, Membership, Unreadable
from slimline.errors import SlimlineError

CHUNK_IMAGES = 256
CHUNK_BYTES = 8 * 2**20
"""A chunk is full at either, of encoded or of prepared bytes; files that workers read themselves count as `FILE_BYTES`."""
FILE_BYTES = 2**19
AHEAD = 2
"""Chunks under way for each worker: one at work, one waiting."""
AHEAD_BYTES = 128 * 2**20
"""Encoded bytes under way over all workers."""
MOST_UNDER_WAY = 1000
"""Chunks whose facts wait for those of an earlier one."""

FACTS = np.dtype(
    [
        ("readable", bool),
        ("digest", "S32"),  # of the decoded content: `Decoded.digest`
        ("twin", "S16"),  # of the prepared pixels
        ("width", np.int32),  # before resizing
        ("height", np.int32),
        ("animated", bool),
        ("group", "S32"),  # SHA-256 of `Item.group`, filled in by who holds the items; empty where there is none
        ("contrast", np.float32),  # standard deviation of the prepared pixels, 0…255
    ]
)
"""What is known of an item once it is decoded; all zero where it is unreadable."""


@dataclass
class Chunk:
    """Items that are decoded together, in columns."""

    contents: list[Any] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    belongs: list[Membership | Folder] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    share: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class Facts:
    """Of a chunk, row by row: `table` is of `FACTS`, `reasons` tells why rows are unreadable."""

    table: Shaped[np.ndarray, " n"]
    reasons: dict[int, str]


def chunks(items: Iterable[Item], prepared_bytes: int) -> Iterator[Chunk]:
    """Cut `items`, each of `prepared_bytes` once prepared, into chunks of bounded count and size."""
    chunk, prepared = Chunk(), 0
    for content, belongs, origin, share, group in items:
        chunk.contents.append(content)
        chunk.belongs.append(belongs)
        chunk.origins.append(origin)
        chunk.groups.append(group)
        chunk.share = share
        chunk.bytes += _weight(content)
        prepared += prepared_bytes
        if max(chunk.bytes, prepared) >= CHUNK_BYTES or len(chunk.contents) == CHUNK_IMAGES:
            yield chunk
            chunk, prepared = Chunk(), 0
    if chunk.contents:
        yield chunk


def _weight(content: Any) -> int:
    match content:
        case bytes():
            return len(content)
        case np.ndarray():
            return content.nbytes
        case _:
            return FILE_BYTES


def decoded(parts: Iterable[Chunk], form: Form, spool: Path, workers: int) -> Iterator[tuple[Chunk, Facts]]:
    """Each chunk of `parts`, in order and without its contents, with its facts; item n over all chunks lies at row n of the file `spool`.

    `workers` processes decode, this one among them: it reads, and decodes what the others have no room for. They start when a second
    chunk is there.

    Raises:
        SlimlineError: a worker died, as of a decoder's fault or of too little memory.
    """
    spool.touch()
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    lock = context.Lock()
    pool: ProcessPoolExecutor | None = None
    under_way: deque[tuple[Chunk, Future[Facts]]] = deque()
    start = 0
    try:
        for part in parts:
            size, busy = len(part.contents), [one.bytes for one, future in under_way if not future.done()]
            if workers > 1 and start and len(busy) < AHEAD * (workers - 1) and sum(busy) + part.bytes <= AHEAD_BYTES:
                pool = pool or ProcessPoolExecutor(workers - 1, context, initializer=_begin, initargs=(lock,))
                future = pool.submit(_in_worker, _emptied(part), form, spool, start)
            else:
                future = Future()
                future.set_result(work(_emptied(part), form, spool, start, alone=lock))
            under_way.append((part, future))
            start += size
            while under_way and (under_way[0][1].done() or len(under_way) > MOST_UNDER_WAY):
                yield under_way[0][0], under_way[0][1].result()
                under_way.popleft()
        while under_way:
            yield under_way[0][0], under_way[0][1].result()
            under_way.popleft()
    except BrokenProcessPool as error:
        first = under_way[0][0] if under_way else part
        raise SlimlineError(
            f"data: a decoding process died at or after '{first.origins[0]}', of an image that its decoder cannot bear, or for lack "
            "of memory; remove the image, or give the machine more memory or fewer hardware.workers"
        ) from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _emptied(part: Chunk) -> list[Any]:
    """The contents of `part`, which no longer holds them."""
    contents, part.contents = part.contents, []
    return contents


_alone = UNSHARED
"""In a worker: the lock that all of them share for heavy images."""


def _begin(lock: Any) -> None:
    """A worker's first moment: interrupts are its parent's to handle, and it does not outlive that."""
    global _alone
    _alone = lock
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker alone"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_worker(contents: list[Any], form: Form, spool: Path, start: int) -> Facts:
    return work(contents, form, spool, start, alone=_alone)


def work(contents: list[Any], form: Form, spool: Path, start: int, *, alone: AbstractContextManager[object] = UNSHARED) -> Facts:
    """Decode `contents`, write them to `spool` from row `start` on, return what is known of them.

    Args:
        alone: held while a heavy image is decoded.

    Raises:
        OSError: no room, or a file that cannot be read for a reason that lies not in the file.
    """
    pixels = np.zeros((len(contents), form.channels, form.size, form.size), np.uint8)
    facts = Facts(np.zeros(len(contents), FACTS), {})
    with decoders(form):
        for row, content in enumerate(contents):
            one = decode(content, form, alone)
            if isinstance(one, Unreadable):
                facts.reasons[row] = one.reason
            else:
                pixels[row] = one.pixels
                twin = blake2b(pixels[row].data, digest_size=16).digest()
                facts.table[row] = (True, one.digest, twin, one.width, one.height, one.animated, b"", 0.0)
    facts.table["contrast"] = _deviation(pixels.reshape(len(contents), -1))
    _write_at(spool, pixels, start * pixels[:1].nbytes)
    return facts


def _deviation(rows: UInt8[np.ndarray, "n values"]) -> Shaped[np.ndarray, " n"]:
    """Standard deviation of each row, by whole numbers: exact, and without a copy in floats."""
    count = rows.shape[1]
    total = rows.sum(1, dtype=np.int64)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.int64)
    return np.sqrt(count * squares - total**2) / count


def _write_at(path: Path, pixels: UInt8[np.ndarray, "n channels height width"], offset: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        view = pixels.data.cast("B")
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def processors() -> int:
    """Processors that this process may use, by its affinity and its container's quota."""
    from joblib import cpu_count  # comes with scikit-learn; a worker needs it not

    return int(cpu_count())
