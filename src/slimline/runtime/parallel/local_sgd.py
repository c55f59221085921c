"""Local SGD (Stich, "Local SGD Converges Fast and Communicates Little", 2019; Lin et al., "Don't Use Large Mini-Batches, Use Local SGD", 2020)."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import PostLocalSGDState, post_localSGD_hook
from torch.nn.parallel import DistributedDataParallel

from slimline.core.batch import Batch
from slimline.core.objective import Objective
from slimline.params.hardware import Hardware
from slimline.runtime.parallel.arrangement import Gathering
from slimline.runtime.parallel.ddp import Ddp
from slimline.runtime.parallel.vector import spread, vector
from slimline.runtime.updates import Updates
from slimline.runtime.world import World


class LocalSgd(Gathering, Ddp):
    """Each process takes steps of its own; every `period` steps, and before each validation, their weights are averaged.

    Args:
        period: steps between two averages; 1 is synchronous for plain gradient descent.
        warm_up: synchronous steps before the first step of its own (post-local SGD).
    """

    def __init__(self, world: World, hardware: Hardware, *, period: Annotated[int, Field(ge=1)], warm_up: Annotated[int, Field(ge=0)] = 0) -> None:
        super().__init__(world, hardware)
        self.warm_up = warm_up
        self.period = period

    def begin(self, updates: Updates, network: nn.Module, objective: Objective) -> None:
        if self.world.alone:
            return
        assert isinstance(network, DistributedDataParallel)
        state = PostLocalSGDState(process_group=None, subgroup=None, start_localSGD_iter=self.warm_up, post_local_gradient_allreduce=False)
        network.register_comm_hook(state, post_localSGD_hook)
        self._hook = state

    def step(self, updates: Updates, batch: Batch, weight: float, backward: Any) -> Tensor:
        loss = super().step(updates, batch, weight, backward)
        if not self.world.alone and updates.done >= self.warm_up and (updates.done - self.warm_up) % self.period == 0:
            self._average(updates.parameters)
        return loss

    def load(self, updates: Updates, state: Any) -> None:
        super().load(updates, state)
        if not self.world.alone:
            self._hook.iter = updates.done

    def equalize(self, updates: Updates) -> None:
        if self.world.alone:
            return
        self._average(updates.parameters)
        if updates.average is not None:
            self._average(updates.average.module.parameters())
        super().equalize(updates)

    def _average(self, weights: Iterable[Tensor]) -> None:
        # Against the first one's: so an average of equal weights is these weights to the bit, for any number of processes, and one more
        # after a checkpoint changes nothing.
        weights = list(weights)
        own = vector(weights)
        first = own.clone()
        dist.broadcast(first, src=0)
        spread(first + self.world.summed(own - first) / self.world.ranks, weights)
