"""Which of several processes this one is, and the few things they tell each other.

The contract is torchrun's: RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE in the environment of each process, and MASTER_ADDR and
MASTER_PORT where they meet. Whoever sets these may start them: `runtime.launch`, torchrun, SLURM.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slimline.errors import SlimlineError
from slimline.runtime.refusal import LATER

JOINING = timedelta(seconds=120)
"""How long processes wait for each other at the start."""

WORKING = timedelta(minutes=30)
"""How long they wait for each other later: the first one may write files, and measure, meanwhile. One that died is noticed at once."""


LOST = ("gloo", "NCCL", "Connection", "Broken pipe", "timed out", "Timed out")
"""What torch writes when another process does not answer any more."""


@dataclass(frozen=True)
class World:
    """One process among those that train together.

    Args:
        rank: its number, from 0; the process 0 writes the files and the record of the run.
        ranks: how many there are.
        local_rank, local_ranks: the same among those on its machine.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "World":
        """What a launcher wrote into `environment`; one process alone where none did.

        Raises:
            SlimlineError: a launcher's variables that contradict each other.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return cls()
        rank, ranks = environment["RANK"], environment["WORLD_SIZE"]
        found = rank, ranks, environment.get("LOCAL_RANK", rank), environment.get("LOCAL_WORLD_SIZE", ranks)
        try:
            world = cls(*map(int, found))
        except ValueError as error:
            raise SlimlineError(
                f"the launcher's RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE are {', '.join(found)}; each must be a whole number"
            ) from error
        if not 0 <= world.rank < world.ranks or not 0 <= world.local_rank < world.local_ranks:
            raise SlimlineError(f"the launcher calls this process {rank} of {ranks} (RANK, WORLD_SIZE), which cannot be")
        return world

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.ranks == 1

    def join(self) -> None:
        """Meet the other processes; nothing to do for one alone.

        Raises:
            SlimlineError: the place to meet is taken, or the others do not come.
        """
        if self.alone or dist.is_initialized():
            return
        place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.local_rank)
        try:
            store, rank, ranks = next(dist.rendezvous("env://", timeout=JOINING))
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=dist.PrefixStore("slimline", store), rank=rank, world_size=ranks, timeout=WORKING)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            advice = "free the port or set another MASTER_PORT" if "EADDRINUSE" in reason else "see whether all of them were started and reach it"
            raise SlimlineError(f"process {self.rank} of {self.ranks} could not meet the others at {place} ({reason}); {advice}") from error

    def lost(self, text: str, other: str = "another one") -> SlimlineError:
        """What to say of `other`, which does not answer any more; a moment later, as its own message is to come first."""
        time.sleep(2 * LATER)
        return SlimlineError(
            f"process {self.rank} of {self.ranks} lost touch with {other} ({text[:120]}); see that one's message, and run again: the stage "
            "goes on from its last checkpoint"
        )

    def lost_touch(self, text: str) -> SlimlineError | None:
        """The same, if `text` is what torch writes of another process that does not answer."""
        return None if self.alone or not any(word in text for word in LOST) else self.lost(text)

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        """
        Raises:
            SlimlineError: another process has ended meanwhile.
        """
        try:
            yield
        except RuntimeError as error:
            raise self.lost_touch(" ".join(str(error).split())) or error from error

    def summed(self, values: Tensor) -> Tensor:
        """The sum of everyone's `values`, in place."""
        if not self.alone:
            with self._in_touch():
                dist.all_reduce(values)
        return values

    def firsts(self, value: Any) -> Any:
        """The first process's `value` (any object that can be pickled), for all."""
        if self.alone:
            return value
        box = [value]
        with self._in_touch():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """Everyone's `value` in the order of ranks, for the first process; nothing for the others."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.ranks
        with self._in_touch():
            dist.gather_object(value, values if self.first else None)
        return values if self.first else []

    def everyones(self, value: Any) -> list[Any]:
        """Everyone's `value` in the order of ranks, for all."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.ranks
        with self._in_touch():
            dist.all_gather_object(values, value)
        return values

    def scattered(self, values: list[Any]) -> Any:
        """One of the first process's `values` for each."""
        if self.alone:
            return values[0]
        box = [None]
        with self._in_touch():
            dist.scatter_object_list(box, values if self.first else None)
        return box[0]


ALONE = World()
"""One process by itself."""
