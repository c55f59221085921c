"""The masked form: weights that pruning has taken are zero, and stay zero however the network is trained afterwards.

    y = layer(x; mask ⊙ w)        mask: true where a weight is kept

The product stands in the forward pass, so a masked weight gets a gradient of exactly zero and never counts, whatever optimizer,
average or arrangement of processes holds the parameter. Masks are buffers: checkpoints, averages and files carry them.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from slimline.errors import SlimlineError


@dataclass(frozen=True)
class Mask:
    """Which weights of a tensor are kept; it cannot be made of anything but true and false, or 0 and 1.

    Raises:
        SlimlineError: other values.
    """

    kept: Bool[Tensor, "*shape"]

    @classmethod
    def of(cls, values: Tensor) -> "Mask":
        """From booleans, or numbers that are all 0 or 1."""
        if not bool(((values == 0) | (values == 1)).all()):
            raise SlimlineError("a mask is of 0 and 1 alone; found other values")
        return cls(values.bool())

    def __post_init__(self) -> None:
        if self.kept.dtype != torch.bool:
            raise SlimlineError(f"a mask is of true and false alone; found numbers of type {self.kept.dtype} (Mask.of takes 0 and 1)")

    @property
    def count(self) -> int:
        """How many are kept."""
        return int(self.kept.sum())

    @property
    def removed(self) -> int:
        return self.kept.numel() - self.count


def held(weight: Tensor, mask: Tensor | None) -> Tensor:
    """mask ⊙ weight; the weight itself where there is no mask."""
    return weight if mask is None else weight * mask


class MaskedConv2d(nn.Conv2d):
    """A convolution some of whose weights are pruned."""

    mask: Tensor

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        return self._conv_forward(x, held(self.weight, self.mask), self.bias)


class MaskedLinear(nn.Linear):
    """A fully connected layer some of whose weights are pruned."""

    mask: Tensor

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch units"]:
        return nn.functional.linear(x, held(self.weight, self.mask), self.bias)


MASKED: Mapping[type[nn.Module], type[nn.Module]] = {nn.Conv2d: MaskedConv2d, nn.Linear: MaskedLinear}
"""Layers whose weights can be masked, and what they become."""


def masked(model: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """`model` with the layers `record["layers"]` masked (in place), every weight kept until masks are set or loaded.

    Raises:
        SlimlineError: the record names a layer that the model lacks, or that has no weights to mask.
    """
    for name in record["layers"]:
        try:
            layer = model.get_submodule(name)
        except AttributeError as error:
            raise SlimlineError(f"the model has no layer '{name}' to mask") from error
        if type(layer) in MASKED.values():
            continue
        if type(layer) not in MASKED:
            raise SlimlineError(f"layer '{name}' is a {type(layer).__name__}, which has no weights to mask")
        # The same object in its new class: shapes, strides and parameters stay, the forward pass changes.
        layer.__class__ = MASKED[type(layer)]
        assert isinstance(layer, MaskedConv2d | MaskedLinear)
        layer.register_buffer("mask", torch.ones_like(layer.weight, dtype=torch.bool))
    return model


def masked_layers(model: nn.Module) -> dict[str, MaskedConv2d | MaskedLinear]:
    """The layers of `model` that have masks, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, MaskedConv2d | MaskedLinear)}


@torch.no_grad()
def set_masks(model: nn.Module, masks: Mapping[str, Mask]) -> None:
    """Set the masks of layers in their masked form, by layer name, and the weights they take to zero."""
    layers = masked_layers(model)
    for name, mask in masks.items():
        layers[name].mask.copy_(mask.kept)
    settle(model)


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Set to zero what masks take: averages and momentum may have left numbers there, which the forward pass does not see."""
    for layer in masked_layers(model).values():
        layer.weight.masked_fill_(~layer.mask, 0.0)  # a product would leave -0 where a weight was negative


def copy_masked(model: nn.Module, masks: Mapping[str, Mask]) -> nn.Module:
    """A copy of `model` with `masks`, by layer name."""
    made = masked(copy.deepcopy(model), {"layers": list(masks)})
    set_masks(made, masks)
    return made
