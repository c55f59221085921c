"""Which bits where: an integer programme over the table of sensitivities.

    minimize Σ cost[layer, width]   subject to   Σ use[layer, width] <= budget,   one width a layer

costs and uses being errors of the logits and bytes, or bytes and drops of accuracy. Both are taken to add up over layers, which is exact
for bytes, nearly so for small errors (Zhou et al., "Adaptive Quantization for Deep Neural Network", 2018, section 3), and a guess for
accuracy: validate what comes out.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from slimline.errors import SlimlineError
from slimline.quantization.bits import Bits
from slimline.quantization.sensitivity import Row


def within_bytes(rows: Sequence[Row], budget: float) -> dict[str, Bits]:
    """The widths with the least error of the logits whose weights take at most `budget` bytes.

    Raises:
        SlimlineError: even the smallest widths take more.
    """
    return _solved(rows, lambda row: row.error, lambda row: row.bytes, budget, "bytes")


def within_drop(rows: Sequence[Row], budget: float) -> dict[str, Bits]:
    """The smallest widths whose layers, each for itself, lose together at most `budget` of the accuracy (0.01 is one point).

    Of widths with equal bytes those with the least error.

    Raises:
        SlimlineError: even the mildest widths lose more.
    """
    largest = max(row.error for row in rows)
    return _solved(rows, lambda row: row.bytes + 0.5 * row.error / (largest * len(rows) or 1), lambda row: row.drop, budget, "of accuracy")


def _solved(rows: Sequence[Row], cost: Callable[[Row], float], use: Callable[[Row], float], budget: float, unit: str) -> dict[str, Bits]:
    layers = list(dict.fromkeys(row.layer for row in rows))
    least = sum(min(use(row) for row in rows if row.layer == layer) for layer in layers)
    if least > budget:
        raise SlimlineError(
            f"a budget of {budget:g} {unit} cannot be met: with these widths it takes at least {least:.4g}; offer others, or raise it"
        )
    one_each = np.array([[row.layer == layer for row in rows] for layer in layers], dtype=float)
    uses = np.array([use(row) for row in rows])
    result = milp(
        np.array([cost(row) for row in rows]),
        integrality=np.ones(len(rows)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(uses[None], -np.inf, budget)],
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise SlimlineError(f"no widths were found within {budget:g} {unit} ({result.message})")
    return {row.layer: row.width for row, chosen in zip(rows, result.x, strict=True) if chosen > 0.5}
