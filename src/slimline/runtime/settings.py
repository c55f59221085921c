"""What stands beside a stage's own block of params.yaml."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

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
    """

    seed: int
    hardware: Hardware
    world: World = ALONE
    place: Place | None = None
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
    """

    files: tuple[Path, ...]
    metrics: dict[str, float]
    tags: dict[str, str]
