"""What learning from a teacher costs: seconds an epoch of `fit`, over those of a bare PyTorch loop of the same arithmetic.

    python benchmarks/distillation.py          # environment active; several minutes

Two trainings by soft and hard targets: the student of params.yaml under its teacher on the digits, in five augmented views, and ResNet-8
under ResNet-20 on 2,000 images of CIFAR's shape, unaugmented. Teachers are not trained: their answers cost the same.

Three comparisons of each, interleaved epoch by epoch as in `benchmarks/overhead.py`, weights compared bit for bit in the first two:

- `asked`: the teacher is asked at every step, by `fit` and by the loop, which both pay for its forward pass.
- `known`: its answers to every view are computed before the first step on both sides, so that neither pays for it: the stricter figure.
- `gain`: `fit` with known answers over the loop that asks at every step. `pays_after_epochs` is how many epochs of that saving one
  round of questions about all views costs.

The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from overhead import Training, compared, noise
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.objective import Network, Objective
from slimline.data.prepare.arrays import prepare
from slimline.data.prepared import describe, load_split
from slimline.data.shuffled import Shuffled
from slimline.data.sources.digits import digits
from slimline.distillation.taught import Taught
from slimline.evaluation.latency import machine
from slimline.models.network import network
from slimline.params.data import Data
from slimline.params.distill import Distill
from slimline.params.file import load
from slimline.params.fit import Fit
from slimline.params.teacher import Teacher
from slimline.registry import Spec

BAR = 1.05
"""What `fit` may cost, in epochs of the bare loop."""
VIEWS = 5
"""In how many ways the digits are augmented."""
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}


class ByHand(Objective):
    """Soft and hard targets as everybody writes them.

    Args:
        known: the teacher's logits [views, images, classes]; None: it is asked.
    """

    def __init__(self, teacher: nn.Module, known: Tensor | None) -> None:
        super().__init__()
        self._teacher, self._known = (teacher,), known

    def forward(self, batch: Batch, network: Network) -> Tensor:
        logits = network(batch.images)
        with torch.no_grad():
            soft = self._teacher[0](batch.images) if self._known is None else self._known[batch.view][batch.samples]
        temperature, alpha = LOSS["temperature"], LOSS["alpha"]
        ours, theirs = F.log_softmax(logits / temperature, dim=1), F.log_softmax(soft / temperature, dim=1)
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
        return alpha * temperature**2 * divergence + (1 - alpha) * F.cross_entropy(logits, batch.labels)


class Asked(Taught):
    """Asks at every step, also where the views are fixed."""

    def look_ahead(self, *_: Any) -> None:
        return


def measured(training: Training, teacher: Spec, threads: int) -> dict[str, Any]:
    """The three comparisons of one training."""
    data = describe(training.prepared)
    torch.manual_seed(1)
    teaching = network(teacher, data.input_shape, len(data.classes), data.mean, data.std).requires_grad_(False).eval()
    start = time.perf_counter()
    known = answers(training, teaching)
    seconds = time.perf_counter() - start

    def taught(_: Training, student: nn.Module) -> Objective:
        return Taught(student, teaching, LOSS, data.input_shape)

    def asked(_: Training, student: nn.Module) -> Objective:
        return Asked(student, teaching, LOSS, data.input_shape)

    def asks(_: Training, __: nn.Module) -> Objective:
        return ByHand(teaching, None)

    def knows(_: Training, __: nn.Module) -> Objective:
        return ByHand(teaching, known)

    kept = ("epoch_seconds", "bare_epoch_seconds", "ratio", "ratio_interval", "cpu_ratio", "n", "steps", "bare_step_ms", "extra_us_a_step")
    found: dict[str, Any] = {}
    for name, engine, loop in (("asked", asked, asks), ("known", taught, knows), ("gain", taught, asks)):
        values = compared(training, threads, engine, loop)
        found[name] = {key: values[key] for key in kept}
        if name != "gain":
            found[name] |= {"same_weights": values["same_weights"], "kept": values["ratio"] <= BAR}
    saved = found["gain"]["bare_epoch_seconds"] - found["gain"]["epoch_seconds"]
    found["questions_seconds"] = round(seconds, 3)
    found["pays_after_epochs"] = round(seconds / saved, 1) if saved > 0 else None
    return found


@torch.no_grad()
def answers(training: Training, teacher: nn.Module) -> Tensor:
    """The teacher's logits [views, images, classes] for all that `training` will show."""
    params = training.fit
    split = load_split(training.prepared, "train")
    train = Shuffled(split, params.batch_size, 0, params.augment, views=params.views)
    layout = torch.channels_last if params.channels_last else torch.contiguous_format
    known = torch.empty(train.different or 0, len(split), len(describe(training.prepared).classes))
    for batch in train.every_view():
        known[batch.view, batch.samples] = teacher(batch.images.contiguous(memory_format=layout))
    return known


def trainings(folder: Path, epochs: int | None) -> Iterator[tuple[str, Training, Spec]]:
    params = load(Path(__file__).parents[1] / "params.yaml")
    student, teacher, data = params.block("distill", Distill), params.block("teacher", Teacher), params.block("data", Data)
    (folder / "digits").mkdir()
    prepare(digits(Path(), path=data.source["path"]), data, folder / "digits", seed=params.seed)
    fit = student.fit.model_copy(update={"epochs": epochs or 21, "views": VIEWS})
    yield "digits_student", Training(student.model, fit, folder / "digits"), teacher.model

    adam = {"batch_size": 128, "optimizer": {"name": "adam", "lr": 0.0012}, "schedule": {"name": "constant"}}
    resnets = [{"name": "resnet", "depth": depth, "width": 16} for depth in (8, 20)]
    prepared = noise(folder / "cifar", (3, 32, 32), 2_000, 500)
    yield "resnet8_resnet20_cifar_shape", Training(resnets[0], Fit.model_validate({**adam, "epochs": epochs or 9}), prepared), resnets[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="rounds, the first of which is not counted (default: 21 and 9)")
    parser.add_argument("--only", choices=("digits_student", "resnet8_resnet20_cifar_shape"), help="one of the trainings")
    given = parser.parse_args()
    if given.epochs is not None and given.epochs <= VIEWS:
        parser.error(f"--epochs {given.epochs}: {VIEWS} views are asked about beforehand from {VIEWS + 1} epochs on")
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all three as for every stage
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, training, teacher in trainings(Path(folder), given.epochs):
            if given.only in (None, name):
                found[name] = measured(training, teacher, given.threads)
                print(name, found[name], flush=True)
    print(json.dumps({**found, "threads": given.threads, "machine": machine()}))


if __name__ == "__main__":
    main()
