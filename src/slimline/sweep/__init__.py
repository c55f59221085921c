"""Sweeps: Optuna looks for the best values of parameters. This package is the only place that knows Optuna.

SAMPLERS: `(seed, *, parameters…) -> optuna.samplers.BaseSampler`.
"""

from slimline.registry import Table

SAMPLERS: Table = {
    "tpe": "slimline.sweep.samplers:tpe",
    "random": "slimline.sweep.samplers:random",
    "nsga2": "slimline.sweep.samplers:nsga2",
}
