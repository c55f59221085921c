"""One bit: weights, and activations where asked, are -1 or +1.

    sign(x) = +1 where x >= 0, so for both zeros; -1 elsewhere          d sign / dx ≈ 1 where |x| <= 1, else 0
    stochastic(x) = +1 with probability hard_sigmoid(x) = clip((x + 1) / 2, 0, 1), else -1           same gradient
    y = α ⊙ (sign(W) x) + b,    α of an output channel = mean |W| of its weights, or 1

Sums of ±1 are whole numbers, exact in 32-bit floats up to 2^24, so α is multiplied after them: every order of adding gives the same y.

Sources: Courbariaux et al., "BinaryConnect", 2015, eq. 1 to 3; Courbariaux, Hubara et al., "Binarized Neural Networks", 2016, eq. 4;
Rastegari et al., "XNOR-Net", 2016, eq. 6.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from slimline.core.masked import MaskedConv2d, MaskedLinear
from slimline.core.packing import pack, unpack
from slimline.errors import SlimlineError

REACH = 1.0
"""Beyond it latent weights are clipped, and no gradient passes a sign."""


def _numbers(x: Tensor) -> Tensor:
    if bool(torch.isnan(x).any()):
        raise SlimlineError("no number (NaN) has a sign; lower fit.optimizer.lr, or set fit.clip_norm")
    return x


@torch.library.custom_op("slimline::sign", mutates_args=())
def sign(x: Tensor, weight: bool = False) -> Tensor:
    """+1 where x >= 0, else -1, in the dtype of `x`; the gradient passes where |x| <= 1.

    An operator of its own, so that the exporter meets one node; `weight` tells it that these signs are stored.

    >>> sign(torch.tensor([-2.0, -0.0, 0.0, 3.0]))
    tensor([-1.,  1.,  1.,  1.])

    Raises:
        SlimlineError: a value that is no number.
    """
    return torch.where(_numbers(x) >= 0, 1.0, -1.0).to(x.dtype)


@sign.register_fake
def _(x: Tensor, weight: bool = False) -> Tensor:
    return torch.empty_like(x)


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(inputs[0].abs() <= REACH)


def _straight_through(ctx, gradient):  # type: ignore[no-untyped-def]
    (inside,) = ctx.saved_tensors
    return gradient * inside, None


sign.register_autograd(_straight_through, setup_context=_save_for_backward)


def hard_sigmoid(x: Tensor) -> Tensor:
    """clip((x + 1) / 2, 0, 1)."""
    return ((x + 1) / 2).clamp(0.0, 1.0)


class _Stochastic(torch.autograd.Function):
    """`stochastic`, its draws given."""

    @staticmethod
    def forward(ctx, x, draws):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x.abs() <= REACH)
        return torch.where(draws < hard_sigmoid(_numbers(x)), 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def stochastic(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """+1 with probability hard_sigmoid(x), else -1; the gradient passes where |x| <= 1.

    Args:
        generator: whose draws decide; by default the global one, which training sets anew before every step, from the seed and the number
            of the step: so a training that was cut off draws what it would have drawn.

    Raises:
        SlimlineError: a value that is no number.
    """
    made: Tensor = _Stochastic.apply(x, torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator))
    return made


@dataclass(frozen=True)
class Binarization:
    """How a network is binarized.

    Args:
        scaled: whether output channels have a scaling factor α.
        stochastic: whether training draws its weights' signs.
        inputs: whether layers read ±1; None where either goes.
    """

    scaled: bool = False
    stochastic: bool = False
    inputs: bool | None = None


class BinaryConv2d(nn.Conv2d):
    """A convolution whose weights are ±1. Its padding stays 0, between the two.

    `binarizes`: whether it reads the signs of its inputs. `alpha`: α, None for 1. `latent`: whether `weight` is being trained, so that α
    follows from it. `draws`: whether signs are drawn meanwhile.
    """

    alpha: Tensor | None
    binarizes: bool
    latent: bool
    draws: bool

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        sums = self._conv_forward(sign(x) if self.binarizes else x, signs(self), None)
        return scaled(self, sums, (-1, 1, 1))


class BinaryLinear(nn.Linear):
    """A fully connected layer whose weights are ±1; its fields are those of `BinaryConv2d`."""

    alpha: Tensor | None
    binarizes: bool
    latent: bool
    draws: bool

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch units"]:
        sums = nn.functional.linear(sign(x) if self.binarizes else x, signs(self))
        return scaled(self, sums, (-1,))


BinaryLayer = BinaryConv2d | BinaryLinear


def signs(layer: BinaryLayer) -> Tensor:
    """The weights of `layer` as it computes with them: ±1."""
    return stochastic(layer.weight) if layer.draws and layer.training else sign(layer.weight, weight=True)


def factors(layer: BinaryLayer) -> Float[Tensor, " channels"] | None:
    """α of `layer`, None for 1."""
    return layer.weight.abs().flatten(1).mean(1) if layer.latent and layer.alpha is not None else layer.alpha


def scaled(layer: BinaryLayer, sums: Tensor, shape: tuple[int, ...]) -> Tensor:
    """α · sums + bias; `shape` brings channels to their dimension."""
    alpha = factors(layer)
    sums = sums if alpha is None else sums * alpha.reshape(shape)
    return sums if layer.bias is None else sums + layer.bias.reshape(shape)


BINARY: Mapping[type[nn.Module], type[nn.Module]] = {nn.Conv2d: BinaryConv2d, nn.Linear: BinaryLinear}
"""Layers whose weights can be binary, and what they become."""


def binary(model: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """`model` (changed in place) in its binary form.

    Args:
        record: `layers`, by name `{"inputs": whether it reads ±1, "scaled": whether it has α}`; `signs`, the names of activations in whose
            place such layers take signs.

    Raises:
        SlimlineError: the record names a layer that the model lacks, or that cannot be binary.
    """
    for name in (*record["signs"], *record["layers"]):
        try:
            model.get_submodule(name)
        except AttributeError as error:
            raise SlimlineError(f"the model has no layer '{name}' to make binary") from error
    for name in record["signs"]:
        model.set_submodule(name, nn.Identity())
    for name, one in record["layers"].items():
        layer = model.get_submodule(name)
        if isinstance(layer, MaskedConv2d | MaskedLinear):
            raise SlimlineError(f"layer '{name}' has pruned weights, and of -1 and +1 none is zero; prune channels, or give it 2 bits or more")
        if type(layer) not in BINARY:
            raise SlimlineError(f"layer '{name}' is a {type(layer).__name__}, which has no weights to make binary")
        # The same object in its new class: shapes, strides and parameters stay, the forward pass changes.
        layer.__class__ = BINARY[type(layer)]
        assert isinstance(layer, BinaryLayer)
        layer.binarizes, layer.latent, layer.draws = bool(one["inputs"]), False, False
        layer.register_buffer("alpha", torch.ones(layer.weight.shape[0]) if one["scaled"] else None)
    return model


def binary_layers(model: nn.Module) -> dict[str, BinaryLayer]:
    """The layers of `model` whose weights are ±1, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, BinaryLayer)}


def learn(model: nn.Module, *, draws: bool = False) -> None:
    """Let the weights of binary layers be trained, as latent real numbers, until `settle_binary`.

    Args:
        draws: whether their signs are drawn meanwhile. Then each layer is divided by its largest weight first: as small as weights of real
            networks are, a coin would decide nearly every sign. (The papers multiply learning rates instead.)
    """
    for layer in binary_layers(model).values():
        layer.latent, layer.draws = True, draws
        largest = layer.weight.detach().abs().max()
        if draws and largest > 0:
            with torch.no_grad():
                layer.weight.div_(largest)


@torch.no_grad()
def clip_latent(weights: Iterable[Tensor]) -> None:
    """Bring latent weights back into [-1, 1]: beyond, they could hardly change their sign (BinaryConnect, section 2.4)."""
    for weight in weights:
        weight.clamp_(-REACH, REACH)


@torch.no_grad()
def settle_binary(model: nn.Module) -> None:
    """What was learned becomes what is stored: signs and factors."""
    for layer in binary_layers(model).values():
        if layer.latent:
            alpha = factors(layer)
            layer.alpha = None if alpha is None else alpha.clone()
            layer.weight.copy_(sign(layer.weight))
            layer.latent, layer.draws = False, False


def packed_signs(weight: Tensor) -> UInt8[Tensor, " bytes"]:
    """The signs of `weight`, a bit each in C order, 1 for +1: ceil(n / 8) bytes (`core.packing`)."""
    bits = (sign(weight.detach()) > 0).cpu().numpy().astype(np.uint8)
    return torch.frombuffer(bytearray(pack(bits, 1, low=0)), dtype=torch.uint8)


def unpacked_signs(stream: Tensor, shape: torch.Size) -> Float[Tensor, "*shape"]:
    """The ±1 that `packed_signs` packed.

    Raises:
        ValueError: another number of bytes.
    """
    bits = unpack(stream.numpy().tobytes(), 1, shape.numel(), low=0)
    return torch.from_numpy(bits).float().reshape(shape) * 2 - 1
