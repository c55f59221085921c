"""Images per second of `prepare` against a plain Pillow loop in one process, over the same input; and peak anonymous memory.

    python benchmarks/prepare.py MNIST.tar.xz        # environment active; several minutes. Without an archive: the JPEGs alone

Two inputs: the archive given (the bar is a ratio of 1.2), and a folder of 512×512 JPEGs of noise and shapes made for it (1.6).
Both sides decode, resize to one size by Lanczos' filter with the same gap, and save the arrays; `prepare` also digests, divides, checks and orders.
They run in turn, each in a process of its own, whose memory and that of its workers is sampled: the sum of RssAnon over them
all. The last line is one JSON object: medians over the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageDraw

from slimline.data.prepare.arrays import prepare
from slimline.data.sources.images import images
from slimline.params.data import Data


def contents(place: Path) -> Iterator[tuple[str, bytes]]:
    """Class and bytes of every image, as anybody would read them."""
    if place.is_dir():
        for file in sorted(place.rglob("*.jpg")):
            yield file.parent.name, file.read_bytes()
        return
    with tarfile.open(place) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                yield Path(member.name).parent.name, file.read()


def plain(place: Path, size: int, channels: int, folder: Path) -> int:
    """The loop that everybody writes."""
    pixels, labels = [], []
    for label, content in contents(place):
        image = Image.open(BytesIO(content)).convert({1: "L", 3: "RGB"}[channels])
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
        pixels.append(np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1))
        labels.append(label)
    np.save(folder / "images.npy", np.stack(pixels))
    np.save(folder / "labels.npy", np.unique(labels, return_inverse=True)[1])
    return len(labels)


def ours(place: Path, size: int, channels: int, folder: Path) -> int:
    """`prepare`, without the search for wrong labels, which is no part of reading images."""
    source = {"name": "images", "path": str(place)}
    form = {"source": source, "size": size, "channels": channels, "validation": 0.1, "test": 0.1, "label_noise": False}
    return int(prepare(images(Path(), path=str(place)), Data.model_validate(form), folder, seed=0).report["images"]["found"])


def timed(how: str, place: Path, size: int, channels: int) -> dict[str, float]:
    """Run one side in a process of its own; its images per second, and the peak of anonymous memory over it and its children."""
    command = [sys.executable, __file__, "--side", how, str(place), str(size), str(channels)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None
    assert process.returncode == 0, how
    return {**json.loads(process.stdout.read().splitlines()[-1]), "peak_anonymous_mib": round(peak / 1024)}


def anonymous(pid: int) -> int:
    """KiB of anonymous memory of a process and all below it."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            status = Path(f"/proc/{one.pid}/status").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
    return total


def side(how: str, place: Path, size: int, channels: int) -> None:
    """One measured run; the clock starts after the imports, and ours includes the start of its workers."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        count = {"plain": plain, "ours": ours}[how](place, size, channels, Path(folder))
        seconds = time.perf_counter() - start
    print(json.dumps({"images": count, "seconds": round(seconds, 3), "images_per_second": round(count / seconds, 1)}))


def photographs(folder: Path, count: int) -> None:
    """JPEGs of 512×512 in ten classes: shapes on a gradient under noise, about as hard to decode as photographs."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 160, 512)
    for number in range(count):
        place = folder / f"class {number % 10}" / f"{number}.jpg"
        place.parent.mkdir(exist_ok=True)
        ground = ramp[None, :, None] * random.random(3) + ramp[:, None, None] * random.random(3) + random.normal(0, 8, (512, 512, 3))
        image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for _ in range(20):
            x, y, side = random.integers(0, 400, 3)
            draw.ellipse((x, y, x + side / 3 + 5, y + side / 4 + 5), fill=tuple(random.integers(0, 256, 3).tolist()))
        image.save(place, quality=90)


def compared(place: Path, size: int, channels: int, rounds: int) -> dict[str, object]:
    """Both sides in turn, `rounds` times."""
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for number in range(rounds):
        for how in ("plain", "ours") if number % 2 == 0 else ("ours", "plain"):
            runs[how].append(timed(how, place, size, channels))
            print(f"{place.name}: {how} {runs[how][-1]}", flush=True)
    ratios = [one["images_per_second"] / other["images_per_second"] for one, other in zip(runs["ours"], runs["plain"], strict=True)]
    return {
        "images": runs["ours"][0]["images"],
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low_high": [round(min(ratios), 3), round(max(ratios), 3)],
        **{f"{how}_images_per_second": statistics.median(run["images_per_second"] for run in runs[how]) for how in runs},
        "peak_anonymous_mib": max(run["peak_anonymous_mib"] for run in runs["ours"]),
        "plain_peak_anonymous_mib": max(run["peak_anonymous_mib"] for run in runs["plain"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?", help="MNIST as an archive of images, one folder a class")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=1500)
    given = parser.parse_args()
    from slimline.evaluation.latency import machine  # workers import this file too, and need neither this nor scipy

    results: dict[str, object] = {}
    if given.archive is not None:
        results["archive"] = compared(given.archive.resolve(), 28, 1, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), given.photographs)
        results["photographs_512"] = compared(Path(folder), 64, 3, given.rounds)
    print(json.dumps({**results, "machine": machine()}))


if __name__ == "__main__":
    side(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])) if sys.argv[1:2] == ["--side"] else main()
