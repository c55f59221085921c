"""The networks that are measured, and what holds one up."""

import time
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 3
SIDE = 7


class Perceptron(nn.Sequential):
    """784 → `width` → `width` → `width` → classes: a multiplication a parameter and image."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: int) -> None:
        channels, height, side = input_shape
        sizes = [channels * height * side] + [width] * HIDDEN
        hidden = [layer for narrow, wide in pairwise(sizes) for layer in (nn.Linear(narrow, wide), nn.ReLU())]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(width, classes))


class Convolutional(nn.Module):
    """Three 3×3 convolutions of `width` channels and a linear layer behind their maps, brought to 7×7.

    Args:
        pool: the images are first made smaller by this factor, which changes the multiplications and no number of parameters.
        stride: of the second and third convolution.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: int, pool: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.first = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=stride, padding=1)
        self.third = nn.Conv2d(width, width, 3, stride=stride, padding=1)
        self.classifier = nn.Linear(width * SIDE**2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, self.pool)
        for layer in (self.first, self.second, self.third):
            x = F.relu(layer(x))
        return self.classifier(F.adaptive_avg_pool2d(x, SIDE).flatten(1))


class Held(nn.Module):
    """A network whose forward passes in training sleep so many seconds first."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        super().__init__()
        self.model, self.seconds = model, seconds

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.seconds:
            time.sleep(self.seconds)
        return self.model(x)
