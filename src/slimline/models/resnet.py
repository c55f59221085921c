"""Residual network for small images (He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2)."""

from collections.abc import Callable
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.errors import SlimlineError
from slimline.models.convolution import initialize, normalized
from slimline.models.dropout import Probability
from slimline.models.norms import BATCH, NORMS, Norm
from slimline.registry import bind


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: relu(f(x) + x).

    Where shapes change, the shortcut is a 1×1 convolution (the paper's option B): unlike zero padding it can be pruned.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1, self.norm1 = normalized(channels_in, channels, 3, norm, stride=stride)
        self.relu1 = nn.ReLU()
        self.conv2, self.norm2 = normalized(channels, channels, 3, norm)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(*normalized(channels_in, channels, 1, norm, stride=stride))

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
        norm: what follows each convolution, an entry of NORMS.
        dropout: probability with which training sets a channel's mean to zero before the classifier.

    Raises:
        SlimlineError: a depth that is not 6n + 2, or a norm that does not fit the channels of a layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: Annotated[int, Field(ge=8)] = 20,
        width: Annotated[int, Field(ge=1)] = 16,
        norm: Norm = BATCH,  # type: ignore[valid-type]
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise SlimlineError(f"resnet depth {depth} is not 6n + 2; the nearest are {depth - (depth - 2) % 6} and {depth + 6 - (depth - 2) % 6}")
        norm_of = bind(NORMS, norm)
        self.stem = nn.Sequential(*normalized(input_shape[0], width, 3, norm_of), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width * 2**stage, stride, norm_of))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        initialize(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.dropout(self.flatten(self.pool(self.blocks(self.stem(x))))))
