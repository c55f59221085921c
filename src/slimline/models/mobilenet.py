"""Depthwise separable network (Howard et al., "MobileNets", 2017), scaled to small images."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn


def separable(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution a channel, then a 1×1 convolution across channels: 1/N + 1/9 of a standard one's cost for N filters."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.ReLU(),
        nn.Conv2d(channels_in, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class MobileNet(nn.Module):
    """MobileNetV1's block, repeated: a convolution to `width` channels, then one separable block an entry of `stages`.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        width: channels of the first convolution.
        stages: for each block, its output channels as a multiple of `width`; where the multiple grows beyond the first
            block's, the block halves height and width.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        width: Annotated[int, Field(ge=1)] = 32,
        stages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (2, 4, 4),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = width
        for index, multiple in enumerate(stages):
            grows = index > 0 and multiple > stages[index - 1]
            blocks.append(separable(channels, width * multiple, 2 if grows else 1))
            channels = width * multiple
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
