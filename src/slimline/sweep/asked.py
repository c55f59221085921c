"""What driver and worker say to each other; neither imports what the other needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """What trials are made of.

    Args:
        base: folder of params.yaml; users' own methods may lie there.
        fixed: values of params.yaml that all trials have in common, by their paths.
        chooses: the workspace that trials may see. judges: the one whose validation images judge.
        cache: where pruned networks are kept for other trials, and other processes.
        threads: of each process.
    """

    base: Path
    fixed: Mapping[str, Any]
    chooses: Path
    judges: Path
    cache: Path
    threads: int


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
        seconds: by part, and of processors in all of them (`processor`), which do not grow when others are at work on the machine.
    """

    scores: Mapping[str, float]
    seconds: Mapping[str, float]
