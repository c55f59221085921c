"""What an interrupted training goes on from.

Checkpoints lie outside DVC, in an ignored folder of the workspace, under the digest of all that decides the bytes of the result: what the
stage depends on, and how it is executed. So another key, never a comparison, keeps a run from another's weights.
"""

import hashlib
import json
import platform
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from slimline.files import whole_file
from slimline.params.hardware import Hardware
from slimline.runtime.world import World

KEPT = 2
"""The last two: should the disk have lost the newest, the one before it is there."""

SUFFIX = ".checkpoint"

FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which nobody comes back to an interrupted training."""

DIGEST = 32
"""Bytes of the SHA-256 at the end of a checkpoint, of all that stands before."""
CHUNK = 2**20


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
        """The stage has succeeded: nothing of it is left to go on from, or a forced rerun would train nothing.

        What other code or parameters have left under keys of their own stays for `FORGOTTEN`.
        """
        shutil.rmtree(self.stage / self.key, ignore_errors=True)
        for other in self.stage.glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - max(file.stat().st_mtime for file in (other, *other.rglob("*"))) > FORGOTTEN:
                    shutil.rmtree(other, ignore_errors=True)


class DamagedError(Exception):
    """A checkpoint that is no longer what was written."""


class _Summed:
    """A file to write, and the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


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
            summed = _Summed(file)
            try:
                torch.save(state, summed)  # type: ignore[arg-type]  # it writes and flushes, and asks for no more
            except RuntimeError as error:  # torch finishes its archive even then, fails at that too, and hides what had happened
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.write(summed.digest.digest())
        for old in self.files[:-KEPT]:
            old.unlink(missing_ok=True)
        self._last = time.monotonic()
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest one that is whole; None where there is none. One line tells of each that is damaged, and it goes.

        Raises:
            OSError: the disk does not give one back, or not to this user; all are still there.
        """
        for part in self.folder.glob("*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)
        for path in reversed(self.files):
            try:
                return _read(path)
            except DamagedError as error:
                path.unlink(missing_ok=True)
                course = "going on from the one before it" if self.files else "the training starts anew"
                print(f"slimline: checkpoint {path} cannot be used ({error}); {course}", file=sys.stderr)
        return None


def _read(path: Path) -> dict[str, Any]:
    """What `Checkpoints.save` wrote.

    Raises:
        DamagedError: something else stands there.
        OSError: the disk does not give it back.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size - DIGEST
        while left > 0 and (chunk := file.read(min(left, CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        if file.read() != digest.digest():
            raise DamagedError("its SHA-256 does not match")
        file.seek(0)
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
