"""Augmentations: `(samples in the split, generator, *, parameters…) -> transform(batch, sample numbers)`.

A factory is called once an epoch and draws for every sample of the split at once, so that a sample's view depends neither on
the batch nor on the process that meets it.
"""

from slimline.registry import Table

AUGMENTATIONS: Table = {
    "shift": "slimline.data.augment.shift:shift",
}
