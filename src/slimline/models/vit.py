"""Vision transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021), scaled to small images."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from slimline.core.heads import Heads
from slimline.errors import SlimlineError
from slimline.models.dropout import Probability

Positive = Annotated[int, Field(ge=1)]

POSITION_DEVIATION = 0.02
"""Of the normal distribution from which positions and the class token begin, as in the paper's code."""


class ClassToken(nn.Module):
    """One more token before the others, the same for every image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(dim) * POSITION_DEVIATION)

    def forward(self, x: Float[Tensor, "batch patches dim"]) -> Float[Tensor, "batch tokens dim"]:
        return torch.cat([self.value.expand(x.shape[0], 1, -1), x], 1)


class Positions(nn.Module):
    """x + position, one learned for each token."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tokens, dim) * POSITION_DEVIATION)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return x + self.weight


class Attention(Heads):
    """softmax(q kᵀ / √d) v in each of `heads` parts of d = dim / heads numbers (Vaswani et al., "Attention Is All You Need", 2017).

    Query, key and value are layers of their own, so that whoever prunes or quantizes linear layers meets them. The key has no bias:
    it would add the same number to all scores of a query, which softmax takes away again. A head that is pruned takes its part of all
    four layers along.
    """

    split = ("query", "key", "value")

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.size = dim // heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = (layer(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return self.projection(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then y + MLP(norm(y)); dropout after every fully connected layer but query, key and value."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout))

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        y = x + self.dropout(self.attention(self.norm1(x)))
        return y + self.mlp(self.norm2(y))


class ViT(nn.Module):
    """Patches as tokens of `dim` numbers, positions added, `depth` encoder blocks, layer norm, one token or their mean, classifier.

    ViT-B/16 (patch 16, dim 768, depth 12, heads 12, mlp_ratio 4, token) has 86.6 M parameters on 3×224×224 and 1000 classes.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        patch: side of a patch in pixels; it divides height and width.
        dim: numbers of a token.
        depth: encoder blocks.
        heads: parts in which attention is computed; they divide `dim`.
        mlp_ratio: hidden units of a block's MLP, as a multiple of `dim`.
        pool: what is classified: a class `token` beside the patches, as in the paper, or the `mean` of the patches' tokens.
        dropout: probability with which training sets a unit to zero.

    Raises:
        SlimlineError: a patch that does not divide the images, or heads that do not divide `dim`.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        patch: Positive = 4,
        dim: Positive = 64,
        depth: Positive = 6,
        heads: Positive = 4,
        mlp_ratio: Annotated[float, Field(gt=0.0)] = 2.0,
        pool: Literal["token", "mean"] = "mean",
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        if height % patch or width % patch:
            raise SlimlineError(f"vit: patches of {patch}×{patch} do not divide images of {height}×{width}; choose another patch or data.size")
        if dim % heads:
            raise SlimlineError(f"vit: {heads} heads do not divide dim {dim}; choose a multiple of the heads")
        patches = (height // patch) * (width // patch)
        self.embed = nn.Conv2d(channels, dim, patch, stride=patch)
        self.token = ClassToken(dim) if pool == "token" else nn.Identity()
        self.positions = Positions(patches + (pool == "token"), dim)
        self.dropout = nn.Dropout(dropout)
        hidden = max(round(dim * mlp_ratio), 1)
        self.blocks = nn.Sequential(*(EncoderBlock(dim, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.pool = pool
        self.classifier = nn.Linear(dim, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        tokens = self.token(self.embed(x).flatten(2).transpose(1, 2))
        tokens = self.norm(self.blocks(self.dropout(self.positions(tokens))))
        return self.classifier(tokens[:, 0] if self.pool == "token" else tokens.mean(1))
