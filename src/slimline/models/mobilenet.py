"""Depthwise separable network (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017)."""

from collections.abc import Callable
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.models.convolution import initialize, normalized
from slimline.models.dropout import Probability
from slimline.models.norms import BATCH, NORMS, Norm
from slimline.registry import bind


def separable(channels_in: int, channels: int, stride: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """A 3×3 convolution a channel, then a 1×1 convolution across channels: 1/N + 1/9 of a standard one's cost for N filters."""
    return nn.Sequential(
        *normalized(channels_in, channels_in, 3, norm, stride=stride, groups=channels_in),
        nn.ReLU(),
        *normalized(channels_in, channels, 1, norm),
        nn.ReLU(),
    )


class MobileNet(nn.Module):
    """MobileNetV1's block, repeated: a convolution to `width` channels, then one separable block an entry of `stages`.

    The defaults are for small images. The paper's own network is `stages` (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32) and `stride` 2:
    4.2 M parameters and 569 M multiply-accumulates on 3×224×224 and 1000 classes. Its width multiplier α is `width` = 32 α, its
    resolution multiplier the size of the images.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        width: channels of the first convolution.
        stages: for each block, its output channels as a multiple of `width`; where the multiple grows beyond the first
            block's, the block halves height and width.
        stride: of the first convolution.
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
        width: Annotated[int, Field(ge=1)] = 32,
        stages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (2, 4, 4),
        stride: Annotated[int, Field(ge=1, le=2)] = 1,
        norm: Norm = BATCH,  # type: ignore[valid-type]
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        norm_of = bind(NORMS, norm)
        self.stem = nn.Sequential(*normalized(input_shape[0], width, 3, norm_of, stride=stride), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = width
        for index, multiple in enumerate(stages):
            grows = index > 0 and multiple > stages[index - 1]
            blocks.append(separable(channels, width * multiple, 2 if grows else 1, norm_of))
            channels = width * multiple
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        initialize(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.dropout(self.flatten(self.pool(self.blocks(self.stem(x))))))
