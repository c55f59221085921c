"""Stage quantize, as dvc.yaml calls it: the parameters in block `quantize`, the work in `slimline.stages.quantize`."""

from slimline.params.quantize import Quantize
from slimline.runtime.script import main
from slimline.stages.quantize import run

if __name__ == "__main__":
    main("quantize", "quantize", Quantize, run)
