"""Stage evaluate, as dvc.yaml calls it: the parameters in block `evaluate`, the work in `slimline.stages.evaluate`."""

from slimline.params.evaluate import Evaluate
from slimline.runtime.script import main
from slimline.stages.evaluate import run

if __name__ == "__main__":
    main("evaluate", "evaluate", Evaluate, run, last=True)
