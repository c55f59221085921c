"""Mixup (Zhang, Cisse, Dauphin & Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", 2017)."""

from jaxtyping import Float, Int64
from torch import Tensor

from slimline.core.draws import Draws, looked_up
from slimline.data.mix.weights import Alpha, Mix, beta_quantiles


def mixup(draws: Draws, *, alpha: Alpha = 0.2) -> Mix:
    """λ · image + (1 - λ) · partner, and of the labels alike; λ ~ Beta(`alpha`, `alpha`), anew for each sample."""

    def mix(
        images: Float[Tensor, "batch c h w"], partners: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch c h w"], Float[Tensor, " batch"]]:
        weight = looked_up(beta_quantiles(alpha, images.device), draws.uniform(samples, 1)[:, 0])
        return partners + weight[:, None, None, None] * (images - partners), weight

    return mix
