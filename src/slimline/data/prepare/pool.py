"""Many images decoded at once: chunks of them go to worker processes, which write prepared pixels to a file and hand back the facts."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from slimline.data.prepare import decode as decoder
from slimline.data.prepare.decode import Form, decode
from slimline.data.sources.item import Item, Unreadable
from slimline.errors import SlimlineError

CHUNK_IMAGES = 256
CHUNK_BYTES = 8 * 2**20
"""A chunk is full at either, of encoded or of prepared bytes; files that workers read themselves count as `FILE_BYTES`."""
FILE_BYTES = 2**19
AHEAD = 2
"""Chunks under way for each worker: one at work, one waiting."""


@dataclass(frozen=True)
class Facts:
    """What is known of a chunk of items once they are decoded, row by row.

    Args:
        readable: whether there is an image; elsewhere the other columns are zero.
        digest: of the decoded content (`Decoded.digest`), 32 bytes.
        twin: of the prepared pixels, 16 bytes.
        width, height: before resizing.
        animated: whether there were further frames.
        mean, contrast: mean and standard deviation of the prepared pixels, 0…255.
        reasons: why an item is unreadable, by row.
    """

    readable: Bool[np.ndarray, " n"]
    digest: Shaped[np.ndarray, " n"]
    twin: Shaped[np.ndarray, " n"]
    width: Int32[np.ndarray, " n"]
    height: Int32[np.ndarray, " n"]
    animated: Bool[np.ndarray, " n"]
    mean: Float32[np.ndarray, " n"]
    contrast: Float32[np.ndarray, " n"]
    reasons: dict[int, str]


def joined(parts: list[Facts]) -> Facts:
    """The rows of `parts`, one after the other."""
    reasons: dict[int, str] = {}
    start = 0
    for part in parts:
        reasons |= {start + row: reason for row, reason in part.reasons.items()}
        start += len(part.readable)
    columns = ("readable", "digest", "twin", "width", "height", "animated", "mean", "contrast")
    return Facts(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}, reasons=reasons)


def chunks(items: Iterable[Item], prepared_bytes: int) -> Iterator[list[Item]]:
    """Cut `items`, each of `prepared_bytes` once prepared, into chunks of bounded count and size."""
    chunk: list[Item] = []
    room = CHUNK_BYTES
    for item in items:
        chunk.append(item)
        room -= max(_weight(item), prepared_bytes)
        if room <= 0 or len(chunk) == CHUNK_IMAGES:
            yield chunk
            chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk


def _weight(item: Item) -> int:
    match item.content:
        case bytes() as content:
            return len(content)
        case np.ndarray() as pixels:
            return pixels.nbytes
        case _:
            return FILE_BYTES


def decoded(parts: Iterable[list[Item]], form: Form, spool: Path, workers: int) -> Iterator[tuple[list[Item], Facts]]:
    """Each chunk of `parts`, in order, with its facts; row n over all chunks lies at row n of the file `spool`.

    The first chunk is decoded here. Only where a second follows do worker processes start, as many as `workers`, if that is more than one.

    Raises:
        SlimlineError: a worker died, as of a decoder's fault or of too little memory.
    """
    waiting = iter(parts)
    spool.touch()
    first = next(waiting, None)
    if first is None:
        return
    yield first, work([item.content for item in first], form, spool, 0)
    start = len(first)
    if workers < 2:
        for part in waiting:
            yield part, work([item.content for item in part], form, spool, start)
            start += len(part)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool: ProcessPoolExecutor | None = None
    under_way: deque[tuple[list[Item], Future[Facts]]] = deque()
    try:
        for part in waiting:
            pool = pool or ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(context.Lock(),))
            under_way.append((part, pool.submit(work, [item.content for item in part], form, spool, start)))
            start += len(part)
            if len(under_way) >= AHEAD * workers:
                yield _result(*under_way.popleft())
        while under_way:
            yield _result(*under_way.popleft())
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _result(part: list[Item], future: "Future[Facts]") -> tuple[list[Item], Facts]:
    try:
        return part, future.result()
    except BrokenProcessPool as error:
        raise SlimlineError(
            f"data: a decoding process died somewhere from '{part[0].origin}' on; "
            "remove the image that it cannot bear, or give the machine more memory (or hardware.workers: 1)"
        ) from error


def _begin(lock: Any) -> None:
    """A worker's first moment: interrupts are its parent's to handle, and it does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    decoder.alone = lock
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker alone"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(contents: list[Any], form: Form, spool: Path, start: int) -> Facts:
    """Decode `contents`, write them to `spool` from row `start` on, return what is known of them."""
    count = len(contents)
    pixels = np.zeros((count, form.channels, form.size, form.size), np.uint8)
    facts = Facts(
        np.zeros(count, bool), np.zeros(count, "S32"), np.zeros(count, "S16"), np.zeros(count, np.int32), np.zeros(count, np.int32),
        np.zeros(count, bool), np.zeros(count, np.float32), np.zeros(count, np.float32), {},
    )  # fmt: skip
    for row, content in enumerate(contents):
        one = decode(content, form)
        if isinstance(one, Unreadable):
            facts.reasons[row] = one.reason
            continue
        pixels[row] = one.pixels
        facts.readable[row] = True
        facts.digest[row], facts.twin[row] = one.digest, blake2b(pixels[row].tobytes(), digest_size=16).digest()
        facts.width[row], facts.height[row], facts.animated[row] = one.width, one.height, one.animated
    flat = pixels.reshape(count, -1)
    facts.mean[:] = flat.mean(1)
    facts.contrast[:] = flat.std(1)
    _write_at(spool, pixels.tobytes(), start * flat.shape[1])
    return facts


def _write_at(path: Path, content: bytes, offset: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
