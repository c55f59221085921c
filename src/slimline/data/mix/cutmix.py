"""CutMix (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from slimline.core.draws import Draws, looked_up
from slimline.data.mix.weights import Alpha, Mix, beta_quantiles


def cutmix(draws: Draws, *, alpha: Alpha = 1.0) -> Mix:
    """A rectangle of the partner lies over the image; the partner's label weighs what share of the area it covers.

    Its sides are √(1 - λ) of the image's, λ ~ Beta(`alpha`, `alpha`), its centre is any point, and what lies outside is cut off:
    the weight is that of the pixels really covered, as in the paper's code.
    """

    def mix(
        images: Float[Tensor, "batch c h w"], partners: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch c h w"], Float[Tensor, " batch"]]:
        height, width = images.shape[2:]
        own, down, right = draws.uniform(samples, 3).T
        side = (1 - looked_up(beta_quantiles(alpha, images.device), own)).sqrt()
        over_rows, over_columns = (
            ((torch.arange(length, device=images.device) + 0.5) - (centre * length)[:, None]).abs() < (side * (length / 2))[:, None]
            for length, centre in ((height, down), (width, right))
        )
        covered = (over_rows[:, :, None] & over_columns[:, None, :])[:, None]
        pixels = over_rows.sum(1) * over_columns.sum(1)
        return torch.where(covered, partners, images), (height * width - pixels).float() * (1 / (height * width))

    return mix
