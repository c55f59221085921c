"""Residual network for small images (He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2)."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.errors import SlimlineError


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: relu(f(x) + x).

    Where shapes change, the shortcut is a 1×1 convolution (the paper's option B): unlike zero padding it can be pruned.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        y = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The 6n+2 family: a convolution, three stages of n blocks with `width`, 2·`width`, 4·`width` channels, mean, classifier.

    ResNet-20 (depth 20, width 16) has 0.27 M parameters and 41 M multiply-accumulates on 3×32×32.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        depth: layers with weights, 6n + 2.
        width: channels of the first stage.

    Raises:
        SlimlineError: a depth that is not 6n + 2.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: Annotated[int, Field(ge=8)] = 20,
        width: Annotated[int, Field(ge=1)] = 16,
    ) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise SlimlineError(f"resnet depth {depth} is not 6n + 2; the nearest are {depth - (depth - 2) % 6} and {depth + 6 - (depth - 2) % 6}")
        self.stem = nn.Sequential(nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
