"""From a batch to new weights: forward, backward, clipping, the optimizer's step, the schedule, the moving average."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from slimline.core.batch import Batch
from slimline.core.binary import binary_layers, clip_latent
from slimline.core.objective import Objective
from slimline.params.fit import Fit
from slimline.registry import bind
from slimline.runtime.schedules import SCHEDULES

MIXED = {16: torch.float16, "bf16": torch.bfloat16}


Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """average ← decay · average + (1 - decay) · value, for `AveragedModel`.

    torch's own truncates averages of integers: with a decay of 0.9, 76 of the 256 values of a byte (a zero point, say) sink below themselves.
    Here integers are taken as they are.
    """

    def update(averages: Tensors, values: Tensors, _count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    return update


def _as_it_is(norm: Tensor) -> Tensor:
    return norm


class Updates:
    """The updates of one network, and all that the next one depends on.

    Args:
        model: images in [0, 1] to logits.
        objective: what is minimized; its own parameters are trained too.
        optimizer: over the parameters of both, its groups at their full rates.
        fit: precision, clipping, schedule, average.
        steps: how many there will be: where the schedule ends.
        device: where `model` is.
        layout: the order of images' numbers in memory.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        fit: Fit,
        steps: int,
        device: torch.device,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.fit = fit
        self.steps, self.done = steps, 0
        self.factor = bind(SCHEDULES, fit.schedule)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.clip_norm = fit.clip_norm
        self.whole_norm: Callable[[Tensor], Tensor] = _as_it_is  # else, where this process has but a part of the gradient
        self.dtype = torch.float64 if fit.precision == 64 else torch.float32
        self.mixed = MIXED.get(fit.precision)
        self.device = device
        self.layout = layout
        # Each shape by itself: else the first batch of another size decides what the next ones are computed by, and a resumed run meets
        # sizes in another order.
        self.network = torch.compile(model, dynamic=False) if fit.compile else model
        self.scaler = torch.amp.GradScaler(device.type, enabled=fit.precision == 16)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.latent: list[Tensor] = [layer.weight for layer in binary_layers(model).values() if layer.latent]
        self.average = AveragedModel(model, multi_avg_fn=moving_average(fit.ema), use_buffers=True) if fit.ema is not None else None
        self.set_rate()

    @property
    def validated(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.average is None else self.average.module

    def rate(self, step: int) -> float:
        """Learning rate of step `step` of the whole training (of the first group)."""
        return float(self.rates[0] * self.factor(min(step / self.steps, 1.0)))

    def set_rate(self) -> None:
        """The schedule's rate of the next step."""
        factor = self.factor(min(self.done / self.steps, 1.0))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def inputs(self, images: Tensor) -> Tensor:
        """`images` in the type and layout that the network computes with."""
        return images.to(self.dtype, memory_format=self.layout)

    def typed(self, batch: Batch) -> Batch:
        """`batch` in the types and the layout that the network computes with."""
        labels = batch.labels.to(self.dtype) if batch.labels.is_floating_point() else batch.labels
        return batch._replace(images=self.inputs(batch.images), labels=labels)

    def loss(self, batch: Batch) -> Tensor:
        """What this batch costs."""
        batch = self.typed(batch)
        if self.mixed is None:
            return self.objective(batch, self.network)
        with torch.autocast(self.device.type, self.mixed):
            return self.objective(batch, self.network)

    def look_ahead(self, batches: Iterator[Batch], views: int, images: int) -> None:
        """Let the objective compute once what it would compute in every epoch, in the same arithmetic."""
        with torch.autocast(self.device.type, self.mixed, enabled=self.mixed is not None):
            self.objective.look_ahead(map(self.typed, batches), views, images)

    def scaled(self, loss: Tensor) -> Tensor:
        """`loss` as it is to be differentiated: larger with 16 bits, whose gradients would vanish."""
        return self.scaler.scale(loss)

    def apply(self) -> None:
        """Use the gradients, then let them go."""
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = self.whole_norm(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        clip_latent(self.latent)
        self.done += 1
        self.set_rate()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """All that the next update depends on."""
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.done = state["done"]
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.set_rate()
