"""How well label errors are found: labels are changed at random, and four ways of scoring look for them.

    python benchmarks/label_noise.py data/prepared [more prepared folders] [--images 10000] [--seeds 3]
    python benchmarks/label_noise.py --whole data/prepared [more prepared folders]

All score out of fold, on the same folds; each way's threshold is the best (F1) on one change of labels and measured on another.
With `--whole`, `label_noise` itself scores all images of all splits, seed 0: seconds, growth of anonymous memory (sampled every 10 ms), the
measurement and how many of the labels as they are it names. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from slimline.data.prepare.features import RANDOM_FEATURES, read
from slimline.data.prepare.noise import FOLDS, OutOfFold, Planted, best_threshold, injected, label_noise, margin_scores, measured
from slimline.evaluation.latency import machine

Scorer = Callable[[np.ndarray], np.ndarray]


def cross_validated(make: Callable[[], object], features: np.ndarray, fold: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Doubt from the out-of-fold probabilities of a scikit-learn classifier."""
    predictions = np.zeros((len(labels), labels.max() + 1), np.float32)
    for number in range(FOLDS):
        seen = fold != number
        predictions[~seen] = make().fit(features[seen], labels[seen]).predict_proba(features[~seen])
    return margin_scores(predictions, labels)[0]


def neighbours() -> object:
    return make_pipeline(PCA(64, svd_solver="covariance_eigh"), KNeighborsClassifier(10, weights="distance"))


def logistic() -> object:
    return make_pipeline(StandardScaler(), PCA(64, svd_solver="covariance_eigh"), LogisticRegression(max_iter=200))


def planted(score: Scorer, labels: np.ndarray, changes: list[np.ndarray]) -> Planted:
    """The threshold from the first of two `changes` of `labels`, measured on the second."""
    threshold = best_threshold(changes[0] != labels, score(changes[0]))
    return measured(changes[1] != labels, score(changes[1]), threshold)


def compare(folder: Path, count: int, seed: int) -> list[dict]:
    """One row a way of scoring, on at most `count` images of the train split."""
    images, labels = np.load(folder / "train/images.npy", mmap_mode="r"), np.load(folder / "train/labels.npy")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:count])
    images, labels = images[chosen], labels[chosen]
    words, features = read(images, np.arange(len(labels)), seed)
    fold, classes = (words[:, 0] % FOLDS).astype(np.int64), int(labels.max()) + 1
    changes = [injected(labels, np.ones(len(labels), bool), words[:, column], words[:, column + 1], classes) for column in (1, 3)]
    gradients = features[:, : -RANDOM_FEATURES - 1].astype(np.float32)
    pixels = images.reshape(len(labels), -1).astype(np.float32)
    ways: dict[str, Scorer] = {
        "pixels, 10 neighbours": partial(cross_validated, neighbours, pixels, fold),
        "gradients, 10 neighbours": partial(cross_validated, neighbours, gradients, fold),
        "gradients, logistic regression": partial(cross_validated, logistic, gradients, fold),
        "gradients and random features, ridge": lambda given: OutOfFold(features, fold, labels, classes).scores(given)[0],
    }
    rows = []
    for name, score in ways.items():
        start = time.perf_counter()
        result = planted(score, labels, changes)
        rows.append(
            {"data": str(folder), "way": name, "seed": seed, "images": result.images, "planted": result.planted}
            | {key: round(getattr(result, key), 4) for key in ("roc_auc", "average_precision", "precision", "recall", "false_alarms")}
            | {"believable": result.believable, "seconds": round(time.perf_counter() - start, 2)}
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def whole(folder: Path) -> dict:
    """What scoring all images of one prepared folder takes and gives."""
    splits = [folder / split for split in ("train", "validation", "test")]
    labels = np.concatenate([np.load(split / "labels.npy") for split in splits])
    with tempfile.TemporaryDirectory(dir=folder) as aside:  # mapped from a file, as `prepare` does
        place = Path(aside) / "images.npy"
        parts = [np.load(split / "images.npy", mmap_mode="r") for split in splits]
        images = np.lib.format.open_memmap(place, "w+", np.uint8, (len(labels), *parts[0].shape[1:]))
        np.concatenate(parts, out=images)
        images.flush()
        images = np.load(place, mmap_mode="r")
        label_noise(images[:100], labels[:100], seed=0)  # imports and the like
        with growth() as peak:
            start = time.perf_counter()
            noise = label_noise(images, labels, seed=0)
            seconds = time.perf_counter() - start
    check = None
    if noise.check is not None:
        check = asdict(noise.check) | {key: round(getattr(noise.check, key), 4) for key in ("precision", "recall", "false_alarms")}
        check["believable"] = noise.check.believable
    row = {"data": str(folder), "images": len(noise.positions), "seconds": round(seconds, 2), "anonymous_growth_mib": round(peak[0] / 1024)}
    row |= {"check": check, "named": len(noise.named), "sentence": noise.sentence()}
    print(json.dumps(row, ensure_ascii=False), flush=True)
    return row


@contextmanager
def growth() -> Iterator[list[int]]:
    """A list whose one number is how far, in KiB, this process's anonymous memory has grown at most within the block."""
    before, peak, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def anonymous() -> int:
    """KiB of this process's anonymous memory."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="time label_noise on all images instead")
    given = parser.parse_args()
    if given.whole:
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # each in a fresh process: memory that one leaves free serves no other
            made = pool.map(whole, given.prepared, chunksize=1)
    else:
        with threadpool_limits(1, user_api="blas"):
            made = [row for folder in given.prepared for seed in range(given.seeds) for row in compare(folder, given.images, seed)]
    print(json.dumps({"rows": made, "machine": machine()}))
