"""Inverted residuals with linear bottlenecks (Sandler et al., "MobileNetV2", 2018)."""

from collections.abc import Callable
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.models.convolution import initialize, normalized
from slimline.models.dropout import Probability
from slimline.models.norms import BATCH, NORMS, Norm
from slimline.registry import bind

Positive = Annotated[int, Field(ge=1)]
Stage = tuple[Positive, Positive, Positive, Annotated[int, Field(ge=1, le=2)]]

PAPER: tuple[Stage, ...] = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2: expansion t, channels c, blocks n, stride s of the first of them."""

DIVISOR = 8
LARGEST_LOSS = 0.1


def scaled(channels: int, width: float) -> int:
    """`width` · `channels` at the nearest multiple of 8, at least 8 and no more than 10 % below, as in the authors' code.

    >>> scaled(32, 1.0), scaled(16, 0.35), scaled(24, 0.75), scaled(96, 0.35)
    (32, 8, 24, 32)
    """
    rounded = max(DIVISOR, int(width * channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded if rounded >= (1 - LARGEST_LOSS) * width * channels else rounded + DIVISOR


class InvertedResidual(nn.Module):
    """1×1 convolution to `expansion` times the channels, 3×3 convolution a channel, 1×1 convolution without activation; x is added where it fits."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        inner = channels_in * expansion
        expand = (*normalized(channels_in, inner, 1, norm), nn.ReLU6()) if expansion > 1 else ()
        self.layers = nn.Sequential(
            *expand,
            *normalized(inner, inner, 3, norm, stride=stride, groups=inner),
            nn.ReLU6(),
            *normalized(inner, channels, 1, norm),
        )
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        y = self.layers(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A convolution, inverted residuals, a 1×1 convolution to `head` channels, mean, classifier.

    As in the paper (`stride` 2) it has 3.5 M parameters and 301 M multiply-accumulates on 3×224×224 and 1000 classes.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        width: the paper's width multiplier α, of the first convolution and of every stage, of `head` where it is above 1.
        stages: for each, expansion t, channels c, blocks n and the stride s of its first block, as in Table 2.
        stem: channels of the first convolution.
        stride: of the first convolution: 1 for small images, 2 in the paper.
        head: channels before the classifier.
        norm: what follows each convolution, an entry of NORMS.
        dropout: probability with which training sets a channel's mean to zero before the classifier.

    Raises:
        SlimlineError: a norm that does not fit the channels of a layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        width: Annotated[float, Field(gt=0.0)] = 1.0,
        stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = PAPER,
        stem: Positive = 32,
        stride: Annotated[int, Field(ge=1, le=2)] = 1,
        head: Positive = 1280,
        norm: Norm = BATCH,  # type: ignore[valid-type]
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        norm_of = bind(NORMS, norm)
        channels = scaled(stem, width)
        self.stem = nn.Sequential(*normalized(input_shape[0], channels, 3, norm_of, stride=stride), nn.ReLU6())
        blocks: list[nn.Module] = []
        for expansion, base, count, first in stages:
            for index in range(count):
                blocks.append(InvertedResidual(channels, scaled(base, width), expansion, first if index == 0 else 1, norm_of))
                channels = scaled(base, width)
        self.blocks = nn.Sequential(*blocks)
        last = scaled(head, max(width, 1.0))
        self.head = nn.Sequential(*normalized(channels, last, 1, norm_of), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, classes)
        initialize(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.dropout(self.flatten(self.pool(self.head(self.blocks(self.stem(x)))))))
