"""A sweep of threshold and bits of LeNet-300-100 on MNIST; the question and the answers stand in README.md.

    python -m experiments.lenet300_front.measure           # environment active; fifty minutes on two cores with much other work
    python -m experiments.lenet300_front.measure record    # the table and the picture of README.md, from results.json

Trainings and trials that were interrupted go on; what ended is not done again. `--epochs 1 --home FOLDER` is a trial of its trainings.
"""

import json
import shutil
import sys
from pathlib import Path

from ruamel.yaml import YAML

from experiments.lab import Kept, Lab, command, prepared, shortened
from experiments.lenet300_front import tables
from slimline.errors import SlimlineError
from slimline.files import write_bytes
from slimline.paths import ModelFolder, Paths
from slimline.sweep.driver import opened, run
from slimline.sweep.outcome import leave

HERE = Path(__file__).resolve().parent


def measure(archive: Path, home: Path, _seeds: int, epochs: int | None) -> None:
    params = YAML(typ="safe", pure=True).load(HERE / "params.yaml")
    form = {name: value for name, value in params["data"].items() if name != "source"}
    lab = Lab(home, prepared(archive, home, form), "MNIST")
    fits = {name: shortened(params[name]["fit"], epochs) for name in ("teacher", "distill")}
    teacher = lab.trained("teacher", 0, params["teacher"]["model"], fits["teacher"])
    lab.measured("teacher", 0, teacher)
    dense = lab.trained("lenet300", 0, params["distill"]["model"], fits["distill"], teacher, params["distill"]["loss"])
    student = lab.kept(dense, params["distill"]["model"])
    lab.measured("lenet300", 0, dense, {"packed_bytes": student.folder.packed.stat().st_size})

    if home != HERE:
        shutil.copy(HERE / "sweep.yaml", home)
    base = Paths(home / ".slimline" / "base")
    models = {"student": student, "teacher": lab.kept(teacher, params["teacher"]["model"])}
    base.root.mkdir(exist_ok=True)
    shutil.copy(HERE / "params.yaml", base.params)
    for link, target in ((base.prepared, lab.prepared), *((base.model(name).folder, model.folder.folder) for name, model in models.items())):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    try:
        run(home, leave=leave)
    except SlimlineError as error:  # no trial keeps to the constraints; its front stands all the same
        print(error, file=sys.stderr)
    found = json.loads((home / "trials.json").read_text())
    rung = {row["trial"]: row for row in list(found["rungs"].values())[-1]}
    for folder in sorted(opened(home).models.iterdir()):
        name = f"trial {folder.name}"
        if lab.record(name, 0) is None and folder.name.isdecimal():
            facts = lab.shipped(Kept(ModelFolder(folder), name))
            lab.add(name, 0, {**facts, "values": rung[int(folder.name)]["values"], "chose": rung[int(folder.name)]["scores"]["validation_accuracy"]})
            print(f"{name}: {facts['packed_bytes']:,} bytes, {facts['errors']} test errors", flush=True)


def renewed() -> str:
    """README.md, and beside it its picture."""
    if (HERE / "results.json").exists():
        write_bytes(HERE / "front.png", tables.picture())
    return tables.renewed()


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, 1, measure, renewed))
