"""Stage prune, as dvc.yaml calls it: the parameters in block `prune`, the work in `slimline.stages.prune`."""

from slimline.params.prune import Prune
from slimline.runtime.script import main
from slimline.stages.prune import run

if __name__ == "__main__":
    main("prune", "prune", Prune, run)
