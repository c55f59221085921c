"""BinaryConnect (Courbariaux et al., "BinaryConnect: Training Deep Neural Networks with binary weights during propagations", 2015)."""

from slimline.core.binary import Binarization


def binary_connect(*, stochastic: bool = False) -> Binarization:
    """Weights ±1, activations real numbers.

    Args:
        stochastic: training draws w = +1 with probability hard_sigmoid(w), afresh in every step (eq. 2); else w = sign(w) (eq. 1). What is
            deployed are the signs in either case, where the paper runs a stochastically trained network on its latent weights (section 2.6).
    """
    return Binarization(stochastic=stochastic, inputs=False)
