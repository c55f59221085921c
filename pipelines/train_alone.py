"""Stage train_alone, as dvc.yaml calls it: the parameters in block `distill`, the work in `slimline.stages.train_alone`."""

from slimline.params.distill import Distill
from slimline.runtime.script import main
from slimline.stages.train_alone import run

if __name__ == "__main__":
    main("train_alone", "distill", Distill, run)
