"""Square attack: random squares of ±ε, kept where the margin shrinks (Andriushchenko et al., "Square Attack: a Query-Efficient Black-Box
Adversarial Attack via Random Search", 2020, algorithms 1 and 2, for L∞). It asks for logits and sees no gradient.

    x_0 = clip(x ± ε in vertical stripes);  each query sets a square of side √(p · h · w) to clip(x ± ε), a sign a channel

p, the share of the image that a square covers, is halved as the search goes on.
"""

from typing import Annotated

import torch
from pydantic import Field

from slimline.attacks.attack import Images, Victim, Within
from slimline.attacks.margin import margin
from slimline.core.batch import Batch
from slimline.core.draws import Draws

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which p is halved (section 3 of the paper, where there are 10,000)."""


class Square(Within):
    """
    Args:
        queries: logits of an image that are asked for.
        p: share of the image that the first squares cover.
    """

    access = "scores"
    measure = "linf"

    def __init__(self, *, queries: Annotated[int, Field(ge=2)] = 500, p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8) -> None:
        self.queries, self.p = queries, p

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        images, labels, samples = batch.images, batch.labels, batch.samples
        count, channels, height, width = images.shape
        stripes = Draws(seed, 0, "square").integers(samples, channels * width, 2).view(count, channels, 1, width)
        x = (images + budget * (2 * stripes - 1)).clamp(0, 1)
        lead = margin(victim.scores(x), labels)
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        for query in range(1, self.queries):
            open_ = (lead > 0).nonzero().squeeze(1)
            if len(open_) == 0:
                break
            draws, side = Draws(seed, query, "square"), self._side(query, height, width)
            # One word of bits a number: where the square lies, and a sign for each channel.
            words = draws.integers(samples[open_], 2 + channels, 2**32)
            top, left = (words[:, place, None, None] % (size - side + 1) for place, size in ((0, height), (1, width)))
            inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
            signs = (2 * (words[:, 2:] % 2) - 1)[:, :, None, None]
            tried = torch.where(inside[:, None], (images[open_] + budget * signs).clamp(0, 1), x[open_])
            left_over = margin(victim.scores(tried), labels[open_])
            better = left_over < lead[open_]
            x[open_] = torch.where(better[:, None, None, None], tried, x[open_])
            lead[open_] = torch.where(better, left_over, lead[open_])
        return x

    def _side(self, query: int, height: int, width: int) -> int:
        """Of the square of this query, in pixels; never the whole image."""
        share = self.p / 2 ** sum(query > self.queries * part for part in HALVINGS)
        return max(1, min(round((share * height * width) ** 0.5), min(height, width) - 1))
