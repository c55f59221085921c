"""What trials may see: a workspace of links to the trained networks and the training images, and half of the validation images.

The other half judges what was chosen, and the test split is not there at all. Images stand in the order of digests of their content, so
every second one is as good as drawn, and the halves are the same for the same images.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from slimline.errors import SlimlineError
from slimline.files import whole_folder, write_bytes
from slimline.paths import Paths

CHOOSES, JUDGES = 0, 1
"""Which of two neighbours goes into which half."""

FILES = ("model.json", "model.safetensors", "model.early.safetensors")
"""Of a model, what a network is rebuilt of."""


def halved(base: Paths, target: Path) -> tuple[Paths, Paths]:
    """The workspaces whose validation images choose and judge, made in `target`.

    Raises:
        SlimlineError: no prepared data or no student, or too few validation images to halve.
    """
    for needed, stage in ((base.prepared / "dataset.json", "prepare"), (base.model("student").manifest, "distill_student")):
        if not needed.exists():
            raise SlimlineError(f"{needed}: no such file; trials start from it, so run make repro, or dvc repro {stage}, first")
    made = (Paths(target / "chooses"), Paths(target / "judges"))
    for half, paths in enumerate(made):
        if not paths.prepared.exists():
            _prepare(base, paths, half)
    return made


def _prepare(base: Paths, paths: Paths, half: int) -> None:
    with whole_folder(paths.root) as folder:
        own = Paths(folder)
        source = base.prepared / "validation"
        images, labels = (np.load(source / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("images", "labels"))
        if len(labels) < 2:
            raise SlimlineError(f"{source}: {len(labels)} validation images cannot be halved; prepare more of them (data.validation)")
        (own.prepared / "validation").mkdir(parents=True)
        np.save(own.prepared / "validation" / "images.npy", images[half::2])
        np.save(own.prepared / "validation" / "labels.npy", labels[half::2])
        description = json.loads((base.prepared / "dataset.json").read_text())
        description["counts"] = {"train": description["counts"]["train"], "validation": len(labels[half::2])}
        write_bytes(own.prepared / "dataset.json", json.dumps(description).encode())
        (own.prepared / "train").symlink_to((base.prepared / "train").resolve())
        for name in ("student", "teacher"):
            # Copied: a student that is trained again meanwhile is not to change between two trials.
            own.model(name).folder.mkdir(parents=True)
            for file in FILES:
                if (base.model(name).folder / file).exists():
                    shutil.copy(base.model(name).folder / file, own.model(name).folder)


def contents(base: Paths) -> dict[str, str]:
    """Digests of what every trial is made from: the data, the student and its teacher (which may be missing where nothing is retrained)."""
    found = {"data": _digest(base.prepared / "dataset.json")}
    for name in ("student", "teacher"):
        files = [base.model(name).folder / file for file in FILES]
        found |= {f"{name}/{file.name}": _digest(file) for file in files if file.exists()}
    return found


def code() -> str:
    """Digest of the code that a trial runs."""
    package = Path(__file__).parents[1]
    files = [file for part in TRIALS for file in sorted((package / part).rglob("*.py"))] + [package / file for file in MODULES]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(package)} {_digest(file)}\n".encode())
    return digest.hexdigest()


TRIALS = ("core", "data", "distillation", "export", "models", "params", "pruning", "quantization", "runtime")
SWEEP = ("sweep/trial.py", "sweep/together.py", "sweep/samplers.py", "sweep/workspace.py")
MODULES = ("artifacts.py", "registry.py", "stages/prune.py", "stages/quantize.py", *SWEEP)
"""Of this package, what trials are made by."""


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
