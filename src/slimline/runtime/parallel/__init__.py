"""How several processes train one network: arrangements `(world, hardware, *, parameters…) -> Arrangement`, one line in a table each."""

from slimline.registry import Table

STRATEGIES: Table = {
    "ddp": "slimline.runtime.parallel.ddp:Ddp",
    "fsdp": "slimline.runtime.parallel.fsdp:Fsdp",
    "pipeline": "slimline.runtime.parallel.pipeline:Pipeline",
}
"""Where a network lies; all compute what one process would."""

SYNCHRONY: Table = {
    "local_sgd": "slimline.runtime.parallel.local_sgd:LocalSgd",
    "asynchronous": "slimline.runtime.parallel.asynchronous:Asynchronous",
}
"""Other ways from gradients to weights than every step together; each learns something else."""
