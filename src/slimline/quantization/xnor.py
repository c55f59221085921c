"""XNOR-Net and Binary-Weight-Networks (Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", 2016)."""

from slimline.core.binary import Binarization


def xnor() -> Binarization:
    """W ≈ α · sign(W) with α = mean |W| of an output channel (eq. 6): with activations ±1 an XNOR-Net, with real ones a Binary-Weight-Network.

    α's own gradient passes too, as the product's rule has it. Factors of the inputs (K in section 3.2) are left out: the paper finds that
    they bring less than α (section 4.3, table 3), and they would cost a second convolution.
    """
    return Binarization(scaled=True)
