"""What to cut: criteria `(model, *, parameters…) -> {parameter name: scores of its shape}`, higher being worth more."""

from slimline.registry import Table

CRITERIA: Table = {
    "magnitude": "slimline.pruning.magnitude:magnitude",
    "random": "slimline.pruning.random:random",
}
