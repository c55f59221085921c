"""Which weights can be pruned: those of convolutions and fully connected layers."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from slimline.errors import SlimlineError

Layer = nn.Conv2d | nn.Linear


def prunable(model: nn.Module) -> dict[str, Layer]:
    """Every convolution and fully connected layer by name, in the order in which the model holds them.

    Raises:
        SlimlineError: there is none, or two of them share a weight.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    if not found:
        raise SlimlineError("the model has no prunable layer (no convolution, no fully connected layer); choose another architecture")
    owners: dict[int, str] = {}
    for name, layer in found.items():
        if (other := owners.setdefault(id(layer.weight), name)) != name:
            raise SlimlineError(f"layers '{other}' and '{name}' share one weight, so neither can be pruned by itself; give each its own")
    return found


def chosen(model: nn.Module, patterns: Sequence[str], skipped: Sequence[str]) -> dict[str, Layer]:
    """The prunable layers that one of `patterns` names, without those that one of `skipped` does (`*` and `?` as in file names).

    Raises:
        SlimlineError: a pattern that fits no layer, or none is left.
    """
    layers = prunable(model)
    for pattern in (*patterns, *skipped):
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SlimlineError(f"no prunable layer is called '{pattern}'; there are: {', '.join(layers)}")
    left = {
        name: layer
        for name, layer in layers.items()
        if any(fnmatchcase(name, p) for p in patterns) and not any(fnmatchcase(name, p) for p in skipped)
    }
    if not left:
        without = f" without {', '.join(skipped)}" if skipped else ""
        raise SlimlineError(f"no layer is left to prune: layers {', '.join(patterns) or 'of no name'}{without}; there are: {', '.join(layers)}")
    return left


def check_limits(limits: Collection[str], layers: Collection[str]) -> None:
    """
    Raises:
        SlimlineError: one of `limits`, which go by names, is of none of `layers`.
    """
    for name in limits:
        if name not in layers:
            raise SlimlineError(f"limits: no layer that can be pruned is called '{name}'; there are: {', '.join(layers)}")


def told(limits: Mapping[str, float]) -> str:
    """That single layers have limits of their own, and which is the strictest."""
    if not limits:
        return ""
    name = min(limits, key=lambda name: limits[name])
    return f", limits of {len(limits)} layers (from {limits[name]:g}, {name})"
