"""Mixes of two images: `(draws, *, parameters…) -> mix(images, partners, sample numbers) -> (mixed images, weight of the own label)`.

Both come in [0, 1], already augmented. As in `data.augment`, all that is random comes from `draws`.
"""

from slimline.registry import Table

MIXES: Table = {
    "mixup": "slimline.data.mix.mixup:mixup",
    "cutmix": "slimline.data.mix.cutmix:cutmix",
}
