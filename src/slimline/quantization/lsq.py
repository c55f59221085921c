"""Learned step size (Esser et al., "Learned Step Size Quantization", 2020)."""

from slimline.core.grids import Learning


def lsq(numbers: int, code_high: int) -> Learning:
    """Every value moves the step, by a gradient times 1 / sqrt(N · Q_P) (section 2.2).

    The paper starts at 2·mean|v| / sqrt(Q_P); here the scheme of the range gives the start.

    Args:
        numbers: N, of weights that share the step, or of an activation's values for one image.
        code_high: Q_P, the largest code.
    """
    return Learning(inside=1.0, factor=(numbers * code_high) ** -0.5)
