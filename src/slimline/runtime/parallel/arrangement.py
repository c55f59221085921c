"""What every way of training in several processes must answer."""

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from slimline.core.batch import Batch
from slimline.core.objective import Objective
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.updates import Updates
from slimline.runtime.world import World

if TYPE_CHECKING:
    from slimline.data.shuffled import Shuffled

SAVE, END = 1, 2
"""What a process may wish between two steps: a checkpoint, or a checkpoint and the end. The larger one includes the other."""


def device_of(world: World, hardware: Hardware) -> torch.device:
    """Where this process computes."""
    return torch.device("cuda", world.local_rank) if hardware.on_cuda() else torch.device("cpu")


READS_LAYERS = "a loss that compares layers"


class Arrangement:
    """One network in one or several processes; each answer here is that of one process alone, or of all doing the same.

    Args:
        world: these processes.
        hardware: where they run.
    """

    unfit: frozenset[str] = frozenset()
    """What several processes cannot do in this way: keys of params.yaml, with values where these matter, or `READS_LAYERS`."""

    def __init__(self, world: World, hardware: Hardware) -> None:
        self.world = world
        self.hardware = hardware
        self.device = device_of(world, hardware)
        self._pending: tuple[dist.Work, Tensor] | None = None

    updates_a_step: int = 1
    """How many a batch makes."""

    @property
    def share(self) -> dict[str, int]:
        """Which part of each batch, and of the validation split, is this process's: `rank` and `ranks` of `data.batches`."""
        return {"rank": self.world.rank, "ranks": self.world.ranks}

    def lightning(self) -> Strategy:
        """How Lightning is to see this process: alone on its device, where this class does what is to be done together."""
        return SingleDeviceStrategy(self.device)

    def strategy_settings(self) -> dict[str, Any]:
        """What else Lightning's trainer has to be told."""
        return {"devices": 1}

    def lay_out(self, model: nn.Module) -> None:
        """Give this process its part of `model`, before there is an optimizer."""

    def begin(self, updates: Updates, network: nn.Module, objective: Objective) -> None:
        """All is on its device: the last moment before the first step.

        Args:
            network: what Lightning runs: the module, or its wrapper.
        """

    def loader(self, train: "Shuffled") -> Any:
        """The batches that this process trains on."""
        return train

    def layout(self, fit: Fit) -> torch.memory_format:
        """The order of images' and kernels' numbers in memory."""
        return torch.channels_last if fit.channels_last else torch.contiguous_format

    def step_of(self, index: int) -> int:
        """Which step of the epoch Lightning's batch number `index` belongs to."""
        return index

    def step(self, updates: Updates, batch: Batch, weight: float, backward: Any) -> Tensor:
        """One update by this process's part of a batch; returns its loss, a mean over that part.

        Args:
            weight: this part's share of the whole batch, times the number of processes.
            backward: Lightning's way to call `backward`.
        """
        loss = updates.loss(batch)
        scaled = updates.scaled(loss if weight == 1.0 else loss * weight)
        # Lightning's way has the processes' gradients meet; for one alone it is a row of empty hooks.
        scaled.backward() if self.world.alone else backward(scaled)  # type: ignore[no-untyped-call]
        updates.apply()
        return loss.detach()

    def agree(self, wish: int) -> int:
        """The largest of everyone's `wish` of the step before: the same number for all, at the same step.

        That of the step before, since it travels while the next step is computed; a wish of this step is known after the next one.
        """
        if self.world.alone:
            return wish
        known = self._known()
        wishes = torch.tensor(wish)
        work = dist.all_reduce(wishes, op=dist.ReduceOp.MAX, async_op=True)
        assert work is not None
        self._pending = work, wishes
        return known

    def meet(self, wish: int) -> int:
        """The largest of everyone's `wish` now, those that are still under way among them; all wait for each other."""
        if self.world.alone:
            return wish
        wishes = torch.tensor(max(wish, self._known()))
        dist.all_reduce(wishes, op=dist.ReduceOp.MAX)
        return int(wishes)

    def _known(self) -> int:
        """The wishes that were under way."""
        if self._pending is None:
            return 0
        work, wishes = self._pending
        self._pending = None
        work.wait()
        return int(wishes)

    def settle(self) -> None:
        """Training is over, and the processes have met."""

    def equalize(self, updates: Updates) -> None:
        """Before a validation: what the processes hold of the same network becomes the same."""

    def share_buffers(self, updates: Updates) -> None:
        """The first process's statistics of batch norms become everyone's."""
        if self.world.alone:
            return
        for buffer in updates.validated.buffers():
            dist.broadcast(buffer, src=0)

    def logits(self, model: nn.Module, images: Tensor) -> Tensor | None:
        """What `model` answers; None where another process has the answer."""
        return model(images)

    def losses(self, own: float) -> list[float]:
        """The sum of each process's losses in the order of ranks, for a checkpoint; the first process's answer counts."""
        return self.world.gathered(own)

    def state(self, updates: Updates) -> dict[str, Any]:
        """What a checkpoint needs of all processes, for the first one."""
        return updates.state()

    def load(self, updates: Updates, state: dict[str, Any] | None) -> None:
        """Bring every process to the `state` that the first one has read."""
        updates.load(self.world.firsts(state))

    def whole(self, model: nn.Module) -> dict[str, Tensor]:
        """The complete state of `model`, on the processor, in the first process; nothing in the others. All take part."""
        return {name: copied(tensor) for name, tensor in model.state_dict().items()} if self.world.first else {}

    def finish(self, model: nn.Module) -> nn.Module:
        """Training is over: `model` as it was before `lay_out`, complete, to be given its best weights."""
        return model

    def report(self) -> dict[str, Any]:
        """What there is to say of the way it was trained."""
        return {}


class Gathering(Arrangement):
    """An arrangement whose processes differ: a checkpoint holds what each of them has."""

    def state(self, updates: Updates) -> dict[str, Any]:
        return {"parts": self.world.gathered(updates.state())}

    def load(self, updates: Updates, state: dict[str, Any] | None) -> None:
        updates.load(self.world.scattered(state["parts"] if state is not None else []))


class Divided(Gathering, ABC):
    """An arrangement whose processes hold a part of the network's parameters each."""

    unfit = frozenset({"fit.ema", "fit.compile", "fit.precision bf16", "fit.precision 16"})  # each needs the whole network in each process

    def layout(self, fit: Fit) -> torch.memory_format:
        # Shares of weights, and activations on their way to another process, have one order.
        return super().layout(fit) if self.world.alone else torch.contiguous_format

    def lay_out(self, model: nn.Module) -> None:
        if self.world.alone:
            return
        self._blueprint = blueprint(model)
        whole = held_bytes(model)
        self.divide(model)
        self._held = held_bytes(model) / whole

    def begin(self, updates: Updates, network: nn.Module, objective: Objective) -> None:
        # Their gradients would meet nowhere: each process would train its own.
        if not self.world.alone and any(p.requires_grad for p in objective.parameters()):
            name = self.hardware.strategy["name"]  # type: ignore[index]
            raise SlimlineError(f"hardware.strategy {name} cannot train a loss with weights of its own; make the strategy ddp, or take another loss")

    @abstractmethod
    def divide(self, model: nn.Module) -> None:
        """Leave this process its part of the parameters of `model`."""

    def finish(self, model: nn.Module) -> nn.Module:
        return model if self.world.alone else rebuilt(self._blueprint)

    def report(self) -> dict[str, float]:
        return {} if self.world.alone else {"largest_share_of_parameters": max(self.world.everyones(self._held))}


def copied(tensor: Tensor) -> Tensor:
    """A copy of `tensor` on the processor."""
    return tensor.detach().to("cpu", copy=True)


def held_bytes(model: nn.Module) -> int:
    """Bytes of this process's memory in which parameters of `model` lie, with what fills up uneven shares."""
    storages = [(p.to_local() if isinstance(p, DTensor) else p).untyped_storage() for p in model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def blueprint(model: nn.Module) -> nn.Module:
    """A copy of `model` whose parameters have shapes and no memory; buffers are copied as they are."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


def rebuilt(plan: nn.Module) -> nn.Module:
    """The network of a `blueprint`, its parameters still to be set."""
    return plan._apply(lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
