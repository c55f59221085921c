"""What a batch says of its images' classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Labels = Int64[Tensor, " batch"] | Float[Tensor, "batch classes"]
"""The number of each image's class, or, where images are mixed, the share of each class in it; rows sum to 1.

An image whose class nobody has told has the number `UNKNOWN`, or a row of zeros; so has a mix of which one part is unknown.
"""

UNKNOWN = -1


def known(labels: Labels) -> Bool[Tensor, " batch"]:
    """Which images are labelled."""
    return labels.any(1) if labels.is_floating_point() else labels != UNKNOWN


def largest(labels: Labels) -> Int64[Tensor, " batch"]:
    """The class with the largest share in each image (of equals the first), or `UNKNOWN`."""
    return torch.where(known(labels), labels.argmax(1), UNKNOWN) if labels.is_floating_point() else labels


def cross_entropy(logits: Float[Tensor, "batch classes"], labels: Labels, label_smoothing: float = 0.0) -> Float[Tensor, ""]:
    """-Σ_c y_c log softmax(logits)_c, a mean over the labelled images; 0 where there are none.

    With `label_smoothing` ε, y is (1 - ε) label + ε / classes (Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7).
    """
    labelled = known(labels)
    if labels.is_floating_point():
        smooth = label_smoothing / labels.shape[1] * labelled[:, None]
        total = F.cross_entropy(logits, labels * (1 - label_smoothing) + smooth, reduction="sum")
    else:
        total = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, label_smoothing=label_smoothing, reduction="sum")
    return total / labelled.sum().clamp(min=1)
