"""What stands beside a stage's own block of params.yaml."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32

from slimline.params.hardware import Hardware
from slimline.runtime.checkpoints import Place
from slimline.runtime.clock import Clock
from slimline.runtime.world import ALONE, World

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The seed of everything random, and where and by how many processes the work is done.

    Args:
        place: where checkpoints go; None where none are kept.
        provenance: digest of what the stage depends on, which its models carry; None where it has none.
    """

    seed: int
    hardware: Hardware
    world: World = ALONE
    place: Place | None = None
    provenance: str | None = None
    clock: Clock = field(default_factory=Clock)

    def seeded(self, make: Callable[..., T], *arguments: Any) -> T:
        """What `make` gives when the global generator starts from the seed: the same weights wherever it is called."""
        torch.manual_seed(self.seed)
        return make(*arguments)


@dataclass(frozen=True)
class Made:
    """What a stage did.

    Args:
        files: files and folders it made, to be recorded.
        metrics: its final numbers, by the names that every stage shares.
        tags: facts to search runs by.
        data: the images it worked on: name, digest, how many classes, and images of each split.
        models: of the models it made, by name, the file to run.
        example: an image that they can be tried on.
    """

    files: tuple[Path, ...]
    metrics: dict[str, float]
    tags: dict[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    example: Float32[np.ndarray, "1 channels height width"] | None = None
