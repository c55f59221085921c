"""A convolution and its norm, and the weights with which convolutions begin."""

from collections.abc import Callable

import torch
from torch import nn


def normalized(
    channels_in: int, channels: int, kernel: int, norm: Callable[[int], nn.Module], *, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution, padded so that stride 1 keeps height and width, and its norm; it has a bias only where no norm brings a shift.

    Args:
        kernel: side, odd.
        norm: what `registry.bind` makes of an entry of NORMS.
    """
    after = norm(channels)
    return convolution(channels_in, channels, kernel, after, stride=stride, groups=groups), after


def convolution(channels_in: int, channels: int, kernel: int, beside: nn.Module, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution, padded so that stride 1 keeps height and width; it has a bias only where `beside`, its norm, brings no shift.

    Args:
        kernel: side, odd.
        beside: the norm before or after it.
    """
    return nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=isinstance(beside, nn.Identity))


@torch.no_grad()
def initialize(model: nn.Module) -> None:
    """Draw the weights of every convolution from N(0, 2 / fan out) (He et al., "Delving Deep into Rectifiers", 2015).

    torch takes the fan of a grouped convolution for that of one without groups, which a norm mends. Where none follows, the scale
    is mended here, and biases begin at zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                module.weight *= module.groups**0.5
                module.bias.zero_()
