"""Stage distill_student, as dvc.yaml calls it: the parameters in block `distill`, the work in `slimline.stages.distill_student`."""

from slimline.params.distill import Distill
from slimline.runtime.script import main
from slimline.stages.distill_student import run

if __name__ == "__main__":
    main("distill_student", "distill", Distill, run)
