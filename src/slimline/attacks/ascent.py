"""The loop of all attacks by gradients: up the loss, back into the ball, back into the pixels' range.

    x_0      = clip(x + start)
    x_{t+1}  = clip(x + project(x_t + step · direction(∇_x loss(x_t)) - x, ε))        clip: to [0, 1]

The loss is the cross-entropy of the right class. Of a direction and a start, the ball decides (`attacks.balls`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor

from slimline.attacks.attack import Images
from slimline.attacks.balls import Ball, Change
from slimline.core.objective import Network


def ascent(
    network: Network, images: Images, labels: Int64[Tensor, " batch"], *, ball: Ball, radius: float, steps: int, step: float, start: Change | None
) -> Images:
    """`images` after `steps` steps of size `step` within `radius`, in the pixels' unit.

    Args:
        start: where in the ball the search starts; None: at the image.
    """
    x = images if start is None else (images + start).clamp(0, 1)
    for _ in range(steps):
        x = x + step * ball.direction(slope(network, x, labels))
        x = (images + ball.project(x - images, radius)).clamp(0, 1)
    return x


def slope(network: Network, images: Images, labels: Int64[Tensor, " batch"]) -> Change:
    """The gradient of each image's own loss."""
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(x), labels, reduction="sum"), x)
    return gradient
