"""Densely connected network (Huang et al., "Densely Connected Convolutional Networks", 2017, section 3) for small images."""

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.errors import SlimlineError
from slimline.models.convolution import convolution, initialize
from slimline.models.dropout import Probability
from slimline.models.norms import BATCH, NORMS, Norm
from slimline.registry import bind

BLOCKS = 3
BOTTLENECK = 4
"""Channels of a bottleneck, as a multiple of the growth rate."""


def preactivated(channels_in: int, channels: int, kernel: int, norm: Callable[[int], nn.Module], dropout: float) -> nn.Sequential:
    """Norm, activation, convolution, dropout: the paper's composite function."""
    before = norm(channels_in)
    return nn.Sequential(before, nn.ReLU(), convolution(channels_in, channels, kernel, before), nn.Dropout(dropout))


class DenseLayer(nn.Module):
    """x beside what `new` makes of it: growth rate more channels."""

    def __init__(self, new: nn.Sequential) -> None:
        super().__init__()
        self.new = new

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch more height width"]:
        return torch.cat([x, self.new(x)], 1)


class DenseNet(nn.Module):
    """Three dense blocks; between them a transition: 1×1 convolution to `compression` times the channels, mean over 2×2.

    Layer l of a block reads all maps that were made before it, k₀ + (l - 1)·`growth` channels, and adds `growth`. With `bottleneck` a
    layer is a 1×1 convolution to 4·`growth` channels and then a 3×3 one; without, the latter alone. DenseNet-BC (depth 100, growth 12)
    has 0.77 M parameters on 3×32×32, plain DenseNet (depth 40, growth 12, no bottleneck, compression 1) 1.0 M.

    Args:
        input_shape: channels, height, width; from 4×4 up.
        classes: number of logits.
        depth: layers with weights: 3n + 4, with `bottleneck` 6n + 4.
        growth: channels that a layer adds. The first convolution has 2·`growth`; 16 without a bottleneck and compression, as in the paper.
        bottleneck: the paper's B.
        compression: share of the channels that a transition keeps; below 1 the paper's C.
        norm: what stands before each activation, an entry of NORMS.
        dropout: probability with which training sets a unit to zero after each convolution but the first.

    Raises:
        SlimlineError: a depth that is not of that form, or a norm that does not fit the channels of a layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: Annotated[int, Field(ge=7)] = 40,
        growth: Annotated[int, Field(ge=1)] = 12,
        bottleneck: bool = True,
        compression: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5,
        norm: Norm = BATCH,  # type: ignore[valid-type]
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        convolutions = 2 if bottleneck else 1  # of a layer
        step = BLOCKS * convolutions
        if (depth - BLOCKS - 1) % step or depth < step + BLOCKS + 1:
            below = max(depth - (depth - BLOCKS - 1) % step, step + BLOCKS + 1)
            raise SlimlineError(f"densenet depth {depth} is not {step}n + {BLOCKS + 1}; the nearest are {below} and {below + step}")
        norm_of = bind(NORMS, norm)
        channels = 2 * growth if bottleneck or compression < 1 else 16
        self.stem = convolution(input_shape[0], channels, 3, norm_of(channels))
        blocks: list[nn.Module] = []
        for block in range(BLOCKS):
            for _ in range((depth - BLOCKS - 1) // step):
                widths = (channels, BOTTLENECK * growth, growth) if bottleneck else (channels, growth)
                kernels = (1, 3) if bottleneck else (3,)
                parts = [preactivated(*ends, kernel, norm_of, dropout) for ends, kernel in zip(pairwise(widths), kernels, strict=True)]
                blocks.append(DenseLayer(nn.Sequential(*parts)))
                channels += growth
            if block < BLOCKS - 1:
                kept = max(int(channels * compression), 1)
                blocks.append(nn.Sequential(preactivated(channels, kept, 1, norm_of, dropout), nn.AvgPool2d(2)))
                channels = kept
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm_of(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        initialize(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.flatten(self.pool(self.relu(self.norm(self.blocks(self.stem(x)))))))
