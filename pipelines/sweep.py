"""Stage sweep of an experiment, as experiments/dvc.yaml calls it: the folder's sweep.yaml, the work in `slimline.sweep`."""

import os
from pathlib import Path

from slimline.runtime.refusal import refusing
from slimline.runtime.stopping import end_with, starters
from slimline.sweep.driver import run
from slimline.sweep.outcome import leave, tell

if __name__ == "__main__":
    with refusing():
        if "DVC_STAGE" in os.environ:
            end_with(starters())
        run(Path(), leave=leave)
        print(tell(Path()))
