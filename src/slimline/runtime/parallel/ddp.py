"""Synchronous data parallelism (Li et al., "PyTorch Distributed", 2020): the network in every process, each with its part of the batch."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor

from slimline.data.batches import Batch
from slimline.runtime.parallel.arrangement import Arrangement
from slimline.runtime.updates import Updates


class Ddp(Arrangement):
    """The gradient of a step is the mean over all images of its batch, so the updates are those of one process with the same batch.

    Batch norms see their own process's images alone, and their running statistics are the first process's.
    """

    def lightning(self) -> Strategy:
        if self.world.alone:
            return super().lightning()
        devices = [torch.device(self.device.type, index) if self.device.type == "cuda" else self.device for index in range(self.world.local_ranks)]
        # Statistics need not travel at every step: `equalize` sends them where they are looked at.
        return DDPStrategy(parallel_devices=devices, cluster_environment=TorchElasticEnvironment(), broadcast_buffers=False)

    def strategy_settings(self) -> dict[str, Any]:
        return {"devices": self.world.local_ranks, "num_nodes": self.world.ranks // self.world.local_ranks}

    def step(self, updates: Updates, batch: Batch, weight: float, backward: Any) -> Tensor:
        loss = updates.loss(*batch)
        scaled = updates.scaled(loss if weight == 1.0 else loss * weight)
        # Lightning's way has the processes' gradients meet; for one alone it is a row of empty hooks.
        scaled.backward() if self.world.alone else backward(scaled)  # type: ignore[no-untyped-call]
        updates.apply()
        return loss.detach()

    def equalize(self, updates: Updates) -> None:
        if self.world.alone:
            return
        for buffer in updates.validated.buffers():
            dist.broadcast(buffer, src=0)
