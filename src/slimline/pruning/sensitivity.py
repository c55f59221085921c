"""How much accuracy each layer costs when it alone is pruned, without retraining (Han et al., 2015, figure 6; Li et al., 2017, figure 2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from slimline.pruning import GRANULARITIES
from slimline.registry import Spec, build


@dataclass(frozen=True)
class Sensitive:
    """One layer pruned by itself.

    Args:
        layer: its name; of layers that share channels, that of the one which makes them.
        fraction: of its weights or channels that was taken.
        accuracy: what the network then still has.
    """

    layer: str
    fraction: float
    accuracy: float


def sensitivity(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    granularity: Spec,
    scores: Mapping[str, Tensor],
    accuracy: Callable[[nn.Module], float],
    fractions: Sequence[float],
) -> list[Sensitive]:
    """A row for each layer that `granularity` would prune and each of `fractions` that it can lose, the first being none of it."""
    whole = accuracy(model)
    alone = {key: value for key, value in granularity.items() if key not in ("layers", "limits")}
    rows = []
    for name in build(GRANULARITIES, granularity, model, input_shape).parts:
        rows.append(Sensitive(name, 0.0, whole))
        plan = build(GRANULARITIES, {**alone, "layers": [name]}, model, input_shape).plan(model, scores)
        for fraction in sorted(fractions):
            count = plan.fewest(lambda count, fraction=fraction, plan=plan: plan.fraction(count) >= fraction)
            if count is None:
                break
            if plan.fraction(count) > rows[-1].fraction:
                rows.append(Sensitive(name, plan.fraction(count), accuracy(plan.cut(count)(model))))
    return rows


def limits(rows: Sequence[Sensitive], points: float) -> dict[str, float]:
    """For each layer the largest fraction up to which no measured one costs more than `points` percentage points: a granularity's `limits`."""
    found: dict[str, float] = {}
    ended = set()
    for row in rows:
        whole = next(other.accuracy for other in rows if other.layer == row.layer)
        if round((whole - row.accuracy) * 100, 9) > points:
            ended.add(row.layer)
        elif row.layer not in ended:
            found[row.layer] = row.fraction
    return found
