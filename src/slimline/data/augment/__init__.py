"""Augmentations: `(draws, *, parameters…) -> transform(images in [0, 1], sample numbers) -> images in [0, 1]`.

A factory is called once an epoch. All that is random comes from `draws`, which gives a sample the same numbers in whatever batch,
process or resumed run it is met; and an image is computed element by element, so that its bits are the same there too.
"""

from slimline.registry import Table

AUGMENTATIONS: Table = {
    "flip": "slimline.data.augment.flip:flip",
    "shift": "slimline.data.augment.shift:shift",
    "crop": "slimline.data.augment.crop:crop",
    "rotate": "slimline.data.augment.rotate:rotate",
    "affine": "slimline.data.augment.affine:affine",
    "cutout": "slimline.data.augment.cutout:cutout",
    "noise": "slimline.data.augment.noise:noise",
}
