"""What driver and worker say to each other; neither imports what the other needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A trial to run.

    Args:
        changes: values of params.yaml by their paths.
        epochs: of retraining; 0 for none, None for as many as params.yaml says.
        keep: folder that the model's four files go to; None for nowhere.
        bare: without the values that all trials have in common.
    """

    changes: Mapping[str, Any]
    epochs: int | None
    keep: Path | None = None
    bare: bool = False


@dataclass(frozen=True)
class Found:
    """What came of it.

    Args:
        scores: by objective.
        seconds: by part.
    """

    scores: Mapping[str, float]
    seconds: Mapping[str, float]
