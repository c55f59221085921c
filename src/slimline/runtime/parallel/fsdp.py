"""Fully sharded data parallelism (Zhao et al., "PyTorch FSDP", 2023; Rajbhandari et al., "ZeRO", 2020)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from slimline.runtime.parallel.arrangement import Divided, copied
from slimline.runtime.updates import Updates

UNIT = 0.25
"""Largest share of the network's parameters that is gathered at once, where its modules are no larger."""


class Fsdp(Divided):
    """Data parallelism in which every process keeps its share of each weight, gradient and optimizer state alone.

    The whole of a module is put together while it is computed, and let go.
    """

    def divide(self, model: nn.Module) -> None:
        mesh = init_device_mesh(self.device.type, (self.world.ranks,))
        for unit in units(model, int(UNIT * sum(p.numel() for p in model.parameters()))):
            fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def equalize(self, updates: Updates) -> None:
        self.share_buffers(updates)

    def state(self, updates: Updates) -> dict[str, Any]:
        return {"parts": self.world.gathered(_local(updates.state()))}

    def load(self, updates: Updates, state: dict[str, Any] | None) -> None:
        own = self.world.scattered(state["parts"] if state is not None else [])
        updates.load(_distributed(own, updates.state(), list(updates.parameters)))

    def whole(self, model: nn.Module) -> dict[str, Tensor]:
        state = {}
        for name, tensor in model.state_dict().items():
            complete = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.world.first:
                state[name] = copied(complete)
        return state


def units(module: nn.Module, limit: int) -> list[nn.Module]:
    """The largest modules within `module` of at most `limit` parameters, and those larger ones that have no parts."""
    found = []
    for child in module.children():
        size = sum(p.numel() for p in child.parameters())
        if size == 0:
            continue
        found += [child] if size <= limit or not any(True for _ in child.children()) else units(child, limit)
    return found


def _local(tree: Any) -> Any:
    """`tree` with this process's own shares in place of distributed tensors."""
    match tree:
        case DTensor():
            return tree.to_local().detach().cpu()
        case dict():
            return {key: _local(value) for key, value in tree.items()}
        case list() | tuple():
            return type(tree)(_local(value) for value in tree)
    return tree


def _distributed(own: dict[str, Any], like: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """The inverse of `_local`, for the network and its optimizer."""

    def as_dtensor(local: Tensor, model: DTensor) -> DTensor:
        return DTensor.from_local(local.to(model.device), model.device_mesh, model.placements, shape=model.shape, stride=model.stride())

    state = dict(own)
    state["model"] = {
        name: as_dtensor(value, like["model"][name]) if isinstance(like["model"][name], DTensor) else value for name, value in own["model"].items()
    }
    optimizer = dict(own["optimizer"])
    optimizer["state"] = {
        index: {
            # Moments have their parameter's shape; counts have none.
            name: as_dtensor(value, parameters[index].data)
            if isinstance(value, torch.Tensor) and value.ndim and isinstance(parameters[index].data, DTensor)
            else value
            for name, value in moments.items()
        }
        for index, moments in own["optimizer"]["state"].items()
    }
    state["optimizer"] = optimizer
    return state
