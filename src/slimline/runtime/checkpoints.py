"""What an interrupted training goes on from.

Checkpoints lie outside DVC, in an ignored folder of the workspace, under the digest of all that decides the bytes of the result: what the
stage depends on, and how it is executed. So another key, never a comparison, keeps a run from another's weights.
"""

import hashlib
import json
import pickle
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slimline.files import whole_file
from slimline.params.hardware import Hardware
from slimline.runtime.world import World

KEPT = 2
"""The last two: should the disk have lost the newest, the one before it is there."""

SUFFIX = ".checkpoint"


def key(fingerprint: str, hardware: Hardware, world: World) -> str:
    """Digest of a stage's fingerprint and of what may change the last bits of what it computes."""
    device = torch.cuda.get_device_name() if hardware.on_cuda() else platform.machine() + torch.backends.cpu.get_cpu_capability()
    facts = [fingerprint, world.ranks, hardware.threads, hardware.strategy, torch.__version__, device]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Place:
    """Where the checkpoints of one stage lie, and under which key."""

    stage: Path
    key: str
    every: float

    def training(self, name: str) -> "Checkpoints":
        """Those of the stage's training `name`."""
        return Checkpoints(self.stage / self.key / name, self.every)

    def clear(self) -> None:
        """The stage has succeeded: nothing of it is left to go on from, or a forced rerun would train nothing."""
        shutil.rmtree(self.stage, ignore_errors=True)


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: theirs alone.
        every: seconds between two.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self.folder = folder
        self.every = every
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.every

    @property
    def files(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    @property
    def newest(self) -> Path | None:
        return self.files[-1] if self.files else None

    def save(self, epoch: int, step: int, state: dict[str, Any]) -> Path:
        """Write `state` whole or not at all, and let go of all but the last two.

        Raises:
            OSError: no space, no permission; the earlier ones are still there.
        """
        path = self.folder / f"{epoch:06d}-{step:08d}{SUFFIX}"
        with whole_file(path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch finishes its archive even then, fails at that too, and hides what had happened
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        for old in self.files[:-KEPT]:
            old.unlink(missing_ok=True)
        self._last = time.monotonic()
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest one that can be read; None where there is none."""
        for part in self.folder.glob("*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)
        for path in reversed(self.files):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError):
                path.unlink(missing_ok=True)  # lost with the power; the one before it was whole by then
        return None
