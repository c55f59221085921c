"""Does the exported file compute what was trained?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from slimline.export.runtime import Deployed


@dataclass(frozen=True)
class Parity:
    """Trained against exported model over `images` images.

    Args:
        agreement: share of images with the same predicted class.
        largest_difference, mean_difference: of logits, absolute.
    """

    images: int
    agreement: float
    largest_difference: float
    mean_difference: float


def parity(model: nn.Module, exported: Deployed, batches: Iterable[Tensor]) -> Parity:
    """Run both on the same images (float32, in [0, 1]; at least one)."""
    same, differences = [], []
    with torch.no_grad():
        for batch in batches:
            ours, theirs = model.eval()(batch).numpy(), exported(batch.numpy())
            same.append(ours.argmax(1) == theirs.argmax(1))
            differences.append(np.abs(ours - theirs))
    equal, difference = np.concatenate(same), np.concatenate(differences)
    return Parity(len(equal), float(equal.mean()), float(difference.max()), float(difference.mean()))
