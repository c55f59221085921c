"""Learned clipping (Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018)."""

from typing import Annotated

from pydantic import Field

from slimline.core.grids import Learning


def pact(numbers: int, code_high: int, *, decay: Annotated[float, Field(ge=0.0)] = 0.0) -> Learning:
    """Clipped values alone move the range (eq. 3), and `decay` · α pulls its end α back (section 3).

    The paper's range begins at 0, behind a ReLU; where it does not, both ends move in proportion.

    Args:
        numbers, code_high: as `lsq` needs them.
    """
    return Learning(inside=0.0, decay=decay)
