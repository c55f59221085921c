"""Binarized neural networks (Courbariaux, Hubara et al., "Binarized Neural Networks", 2016)."""

from slimline.core.binary import Binarization


def binarized() -> Binarization:
    """Weights and activations ±1, by their signs; the gradient passes a sign where |x| <= 1 (eq. 4).

    For networks with batch norms before their activations: sums of n such products spread by √n, and beyond 1 no gradient passes.
    """
    return Binarization(inputs=True)
