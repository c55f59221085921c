"""What to prune, in which pieces, how much of it, and when: four tables.

CRITERIA: `(model, batches, *, parameters…) -> {parameter name: scores of its shape}`, higher being worth more. `batches` are of
training images, `core.batch.Batch`; criteria that look at weights alone do not touch them.
GRANULARITIES: `(model, input_shape, *, parameters…) -> Granularity`, see `pruning.plan`.
TARGETS: `(scales, *, parameters…) -> Target`, see `pruning.target`.
SCHEDULES: `(*, parameters…) -> Schedule`, see `pruning.schedule`.
"""

from slimline.registry import Table

CRITERIA: Table = {
    "magnitude": "slimline.pruning.magnitude:magnitude",
    "threshold": "slimline.pruning.threshold:threshold",
    "gradient": "slimline.pruning.gradient:gradient",
    "taylor": "slimline.pruning.taylor:taylor",
    "second_order": "slimline.pruning.second_order:second_order",
    "batch_norm": "slimline.pruning.batch_norm:batch_norm",
    "geometric_median": "slimline.pruning.geometric_median:geometric_median",
    "random": "slimline.pruning.random:random",
}

GRANULARITIES: Table = {
    "channels": "slimline.pruning.channels:Channels",
    "weights": "slimline.pruning.weights:Weights",
    "n_m": "slimline.pruning.n_m:NofM",
}

TARGETS: Table = {
    "params": "slimline.pruning.targets.params:Params",
    "fraction": "slimline.pruning.targets.fraction:Fraction",
    "threshold": "slimline.pruning.targets.threshold:Threshold",
    "macs": "slimline.pruning.targets.macs:Macs",
    "bytes": "slimline.pruning.targets.bytes:Bytes",
    "accuracy_drop": "slimline.pruning.targets.accuracy_drop:AccuracyDrop",
}

SCHEDULES: Table = {
    "one_shot": "slimline.pruning.schedules.one_shot:OneShot",
    "iterative": "slimline.pruning.schedules.iterative:Iterative",
    "gradual": "slimline.pruning.schedules.gradual:Gradual",
    "rewinding": "slimline.pruning.schedules.rewinding:Rewinding",
}
