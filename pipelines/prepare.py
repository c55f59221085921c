"""Stage prepare, as dvc.yaml calls it: the parameters in block `data`, the work in `slimline.stages.prepare`."""

from slimline.params.data import Data
from slimline.runtime.script import main
from slimline.stages.prepare import run

if __name__ == "__main__":
    main("prepare", "data", Data, run, together=False)
