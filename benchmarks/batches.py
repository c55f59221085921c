"""How fast batches come, and what memory a split costs that stays in its file.

    python benchmarks/batches.py          # environment active; about a minute, 3 GB of disk in the temporary folder

Batches of 128, shuffled, not augmented, from a split mapped from its file as training on the processor uses it, against the same from
a copy in memory, and from that copy by (1) indexing the tensors by hand, (2) the same by hand with `index_select`, which is what
`Shuffled` uses, (3) torch's DataLoader over a TensorDataset. All five do the same arithmetic. They are run in turn in many short
rounds, each in a new random order; a speed is the median of the ratios within a round.

This with one thread, and with as many as torch takes of itself.

Then one epoch over a million images of 32×32×3 mapped from a file (one without content, which reads as zeros and costs no disk where
files may have holes): the growth of the process's own memory (RssAnon). The last line is one JSON object.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from slimline.data.prepared import Images, Split
from slimline.data.resident import Mapped, resident
from slimline.data.shuffled import Shuffled
from slimline.evaluation.latency import machine

CPU = torch.device("cpu")
BATCH = 128
STEPS = 100
"""Batches of a round."""
ROUNDS = 30
MILLION = 1_000_000
SPLITS = {"mnist_like": (60_000, 1, 28, 28), "cifar_like": (50_000, 3, 32, 32)}

Loop = Callable[[], Iterable[Any]]


def by_hand(images: Images) -> Iterator[Any]:
    order = torch.randperm(len(images))
    for start in range(0, len(images), BATCH):
        samples = order[start : start + BATCH]
        yield images.pixels[samples].float() / 255, images.labels[samples]


def by_hand_selected(images: Images) -> Iterator[Any]:
    order = torch.randperm(len(images))
    for start in range(0, len(images), BATCH):
        samples = order[start : start + BATCH]
        yield images.pixels.index_select(0, samples).float() / 255, images.labels.index_select(0, samples)


def by_loader(images: Images) -> Iterator[Any]:
    for pixels, labels in DataLoader(TensorDataset(images.pixels, images.labels), BATCH, shuffle=True):
        yield pixels.float() / 255, labels


def seconds(loop: Loop, steps: int) -> float:
    """Of `steps` batches after the first; with that one come the epoch's order and the like, which `epoch` times too."""
    batches = iter(loop())
    next(batches)
    start = time.perf_counter()
    for _, _ in zip(range(steps), batches, strict=False):
        pass
    return time.perf_counter() - start


def epoch(loop: Loop) -> float:
    start = time.perf_counter()
    for _ in loop():
        pass
    return time.perf_counter() - start


def ratios(near: Split, images: Images) -> dict[str, Any]:
    """Batches a second of `Shuffled` over those of each rival: of single batches, and of whole epochs with all that belongs to one.

    Args:
        near: what `Shuffled` reads.
        images: a copy in memory, what the rivals read.
    """
    loops: dict[str, Loop] = {
        "slimline": lambda: Shuffled(near, BATCH, 0),
        "copied": lambda: Shuffled(images, BATCH, 0),
        "by_hand": lambda: by_hand(images),
        "by_hand_selected": lambda: by_hand_selected(images),
        "data_loader": lambda: by_loader(images),
    }
    found: dict[str, Any] = {}
    order = np.random.default_rng(0)
    for kind, measure, rounds in (("batches", lambda loop: seconds(loop, STEPS), ROUNDS), ("epochs", epoch, ROUNDS // 6)):
        rows = []
        for _ in range(rounds):
            rows.append({name: measure(loops[name]) for name in order.permutation(list(loops))})
        found[kind] = {name: round(float(np.median([row[name] / row["slimline"] for row in rows])), 2) for name in loops if name != "slimline"}
        if kind == "batches":
            found["microseconds_a_batch"] = {name: round(float(np.median([row[name] for row in rows])) / STEPS * 1e6, 1) for name in loops}
    return found


def anonymous_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1000 * 1.024


def mapped() -> dict[str, float]:
    """One epoch over a million mapped images."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "images.npy"
        np.lib.format.open_memmap(place, "w+", np.uint8, (MILLION, 3, 32, 32))
        pixels = torch.from_numpy(np.load(place, mmap_mode="c"))
        batches = Shuffled(Mapped(pixels, torch.zeros(MILLION, dtype=torch.int64), CPU), BATCH, 0)
        before, most, start = anonymous_mb(), 0.0, time.perf_counter()
        for step, _ in enumerate(batches):
            if step % 100 == 0:
                most = max(most, anonymous_mb())
        return {"growth_mb": round(most - before, 1), "images_per_second": round(MILLION / (time.perf_counter() - start))}


def main() -> None:
    usual = torch.get_num_threads()
    # Once a large piece was given back, glibc keeps what is freed instead of returning it to the system and fetching it anew for each
    # batch. Any network's activations bring that about in training; without them it is chance which of the loops suffers.
    torch.ones(31 * 2**18)
    found: dict[str, Any] = {}
    for name, shape in SPLITS.items():
        images = Images(torch.randint(0, 256, shape, dtype=torch.uint8), torch.randint(0, 10, shape[:1]))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "images.npy"
            np.save(place, images.pixels.numpy())
            near = resident(Images(torch.from_numpy(np.load(place, mmap_mode="c")), images.labels), CPU)
            for threads in sorted({1, usual}):
                torch.set_num_threads(threads)
                found[f"{name}_{threads}_threads"] = ratios(near, images)
    million = mapped()
    own = [found[f"{name}_{usual}_threads"]["batches"] for name in SPLITS]
    kept = {
        "copied": min(row["copied"] for row in own) >= 0.95,
        "by_hand": min(row["by_hand"] for row in own) >= 0.95,
        "data_loader": min(row["data_loader"] for row in own) >= 5,
        "mapped_growth": million["growth_mb"] <= 600,
    }
    print(json.dumps({"batch": BATCH, "rounds": ROUNDS, **found, "mapped_million": million, "kept": kept, "machine": machine()}))


if __name__ == "__main__":
    main()
