"""How well label errors are found: labels are changed at random, and four ways of scoring look for them.

    python benchmarks/label_noise.py data/prepared [more prepared folders] [--images 10000] [--seeds 3]

All score out of fold, on the same folds; each way's threshold is the best (F1) on one change of labels and measured on another.
The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from slimline.data.prepare.noise import FOLDS, UNITS, Jury, Planted, best_threshold, change, doubt, measured, read
from slimline.evaluation.latency import machine

Scorer = Callable[[np.ndarray], np.ndarray]


def cross_validated(make: Callable[[], object], features: np.ndarray, fold: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Doubt from the out-of-fold probabilities of a scikit-learn classifier."""
    votes = np.zeros((len(labels), labels.max() + 1), np.float32)
    for number in range(FOLDS):
        seen = fold != number
        votes[~seen] = make().fit(features[seen], labels[seen]).predict_proba(features[~seen])
    return doubt(votes, labels)[0]


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
    changes = [change(labels, np.ones(len(labels), bool), words[:, column], words[:, column + 1], classes) for column in (1, 3)]
    gradients = features[:, : -UNITS - 1].astype(np.float32)
    pixels = images.reshape(len(labels), -1).astype(np.float32)
    ways: dict[str, Scorer] = {
        "pixels, 10 neighbours": partial(cross_validated, neighbours, pixels, fold),
        "gradients, 10 neighbours": partial(cross_validated, neighbours, gradients, fold),
        "gradients, logistic regression": partial(cross_validated, logistic, gradients, fold),
        "gradients and random units, ridge": lambda given: Jury(features, fold, labels, classes).scores(given)[0],
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        made = [row for folder in given.prepared for seed in range(given.seeds) for row in compare(folder, given.images, seed)]
    print(json.dumps({"rows": made, "machine": machine()}))
