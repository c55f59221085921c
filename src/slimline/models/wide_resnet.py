"""Wide residual network (Zagoruyko & Komodakis, "Wide Residual Networks", 2016)."""

from collections.abc import Callable
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.errors import SlimlineError
from slimline.models.convolution import convolution, initialize, normalized
from slimline.models.dropout import Probability
from slimline.models.norms import BATCH, NORMS, Norm
from slimline.registry import bind


class PreActivationBlock(nn.Module):
    """Norm and activation before each of two 3×3 convolutions, dropout between them: f(x) + x (He et al., "Identity Mappings", 2016).

    Where shapes change, the shortcut is a 1×1 convolution of the activated input.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Callable[[int], nn.Module], dropout: float) -> None:
        super().__init__()
        self.norm1 = norm(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1, self.norm2 = normalized(channels_in, channels, 3, norm, stride=stride)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = convolution(channels, channels, 3, self.norm1)
        self.reshapes = stride != 1 or channels_in != channels
        self.shortcut: nn.Module = convolution(channels_in, channels, 1, self.norm1, stride=stride) if self.reshapes else nn.Identity()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        activated = self.relu1(self.norm1(x))
        y = self.conv2(self.dropout(self.relu2(self.norm2(self.conv1(activated)))))
        return y + self.shortcut(activated if self.reshapes else x)


class WideResNet(nn.Module):
    """The 6n+4 family: a convolution to `width` channels, three stages of n blocks with `widen` times `width`, 2·`width`, 4·`width`.

    WRN-28-10 (depth 28, widen 10) has 36.5 M parameters and 5.2 G multiply-accumulates on 3×32×32.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        depth: layers with weights, 6n + 4 as the paper counts: the shortcuts of the three stages are among them.
        widen: the paper's k; 1 is a pre-activation ResNet.
        width: channels of the first convolution.
        norm: what stands before each activation, an entry of NORMS.
        dropout: probability with which training sets a unit between the two convolutions of a block to zero.

    Raises:
        SlimlineError: a depth that is not 6n + 4, or a norm that does not fit the channels of a layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: Annotated[int, Field(ge=10)] = 16,
        widen: Annotated[int, Field(ge=1)] = 4,
        width: Annotated[int, Field(ge=1)] = 16,
        norm: Norm = BATCH,  # type: ignore[valid-type]
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        if (depth - 4) % 6:
            below = depth - (depth - 4) % 6
            raise SlimlineError(f"wide_resnet depth {depth} is not 6n + 4; the nearest are {below} and {below + 6}")
        norm_of = bind(NORMS, norm)
        self.stem = convolution(input_shape[0], width, 3, norm_of(width))
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for index in range((depth - 4) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PreActivationBlock(channels, width * widen * 2**stage, stride, norm_of, dropout))
                channels = width * widen * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm_of(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        initialize(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.flatten(self.pool(self.relu(self.norm(self.blocks(self.stem(x)))))))
