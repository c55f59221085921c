"""Stage train_teacher, as dvc.yaml calls it: the parameters in block `teacher`, the work in `slimline.stages.train_teacher`."""

from slimline.params.teacher import Teacher
from slimline.runtime.script import main
from slimline.stages.train_teacher import run

if __name__ == "__main__":
    main("train_teacher", "teacher", Teacher, run)
