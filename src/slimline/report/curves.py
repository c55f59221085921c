"""Training curves, as the stages leave them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from slimline.errors import SlimlineError


@dataclass(frozen=True)
class Curve:
    """One model's training, an entry an epoch; `epoch` counts from 1, accuracy is a share in [0, 1], `steps` were made when it ended."""

    epoch: Int[np.ndarray, " n"]
    train_loss: Float[np.ndarray, " n"]
    val_loss: Float[np.ndarray, " n"]
    val_accuracy: Float[np.ndarray, " n"]
    steps: Int[np.ndarray, " n"]

    @property
    def best(self) -> int:
        """Index of the epoch whose weights were kept: highest validation accuracy, then lowest loss, then the first."""
        return int(np.lexsort((self.epoch, self.val_loss, -self.val_accuracy))[0])


def steps_to(curve: Curve, accuracy: float) -> int | None:
    """The training steps after which validation accuracy first was `accuracy` or more; None: never."""
    reached = np.flatnonzero(curve.val_accuracy >= accuracy)
    return int(curve.steps[reached[0]]) if len(reached) else None


def read(paths: Mapping[str, Path]) -> dict[str, Curve]:
    """The curves that exist and hold an epoch at least, by model: one that was not trained has none.

    Raises:
        SlimlineError: a file that is no training curve.
    """
    curves = {name: _read(path) for name, path in paths.items() if path.exists()}
    return {name: curve for name, curve in curves.items() if len(curve.epoch)}


def read_all(paths: Sequence[Path]) -> list[Curve]:
    """The curves at `paths`.

    Raises:
        SlimlineError: a file that is no training curve.
    """
    return [_read(path) for path in paths]


def _read(path: Path) -> Curve:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        loss, val_loss, accuracy = (np.array([float(row[key]) for row in rows]) for key in ("train_loss", "val_loss", "val_accuracy"))
        epoch, steps = (np.array([int(row[key]) + first for row in rows], dtype=np.int64) for key, first in (("epoch", 1), ("steps", 0)))
        return Curve(epoch, loss, val_loss, accuracy, steps)
    except (KeyError, TypeError, ValueError) as error:
        raise SlimlineError(f"{path}: no training curve ({error}); run the stage that trains {path.stem} again (dvc repro --force)") from error
