"""The commands of `slimline`, a file each: `declare(commands)` adds its parser, whose `run(paths, given)` does the work.

Their modules import nothing that takes long: what a command needs, it imports when it runs.
"""

COMMANDS = (
    "check",
    "repro",
    "plan",
    "rerun",
    "schedule",
    "sync",
    "trace",
    "register",
    "doctor",
    "ui",
    "show",
    "gate",
    "compare",
    "predict",
    "bits",
    "sensitivity",
    "fetch",
    "data",
    "sweep",
    "adopt",
)
