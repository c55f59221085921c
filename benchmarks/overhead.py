"""What the training engine costs: seconds an epoch of `fit`, Lightning included, over those of a bare PyTorch loop of the same arithmetic.

    python benchmarks/overhead.py          # environment active; several minutes

Three trainings: the teacher of params.yaml on the digits; LeNet-300-100 on images of MNIST's shape at batch 128; ResNet-20 on 2,000
images of CIFAR's shape. The last two learn noise, whose epochs cost what those of pictures cost.

The bare loop has the same loader, network, loss, optimizer, rates, validation and copy of the best weights; in the end the weights of
both are compared bit for bit. Both train at once: at the end of each of its epochs `fit` tells the tracker, which here lets the bare loop
take its turn. In a round each side makes one epoch, the order being drawn anew; the ratio is the median of those within the rounds
after the first, with its interval. What `fit` needs before and after its epochs is `fixed_seconds`. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from slimline.core.objective import Objective
from slimline.data.batches import Ordered
from slimline.data.prepare.arrays import prepare
from slimline.data.prepared import Description, describe, load_split
from slimline.data.shuffled import Mixing, Shuffled
from slimline.data.sources.digits import digits
from slimline.evaluation.latency import machine
from slimline.evaluation.statistics import median_interval
from slimline.files import write_json
from slimline.models.network import network
from slimline.params.data import Data
from slimline.params.file import load
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.params.teacher import Teacher
from slimline.registry import Spec, bind, build
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import EVALUATION_BATCH, fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.schedules import SCHEDULES
from slimline.runtime.settings import Settings
from slimline.runtime.updates import moving_average
from slimline.tracking.memory import MemoryTracker

SLOW_STEP, SLOW_RATIO = 0.010, 1.05
"""Seconds from which a step counts as slow, and what may be added to such steps."""
QUICK_RATIO, QUICK_EXTRA = 1.4, 600e-6
"""What may be added to quicker steps: their ratio, and seconds a step."""


class LeNet(nn.Sequential):
    """LeNet-300-100 (LeCun et al., 1998): two hidden layers."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        inputs = int(np.prod(input_shape))
        super().__init__(nn.Flatten(), nn.Linear(inputs, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, classes))


Seconds = Float[np.ndarray, "2"]
"""On the clock, and of processor time."""


@dataclass(frozen=True)
class Training:
    """One of the trainings; its number of epochs is that of the rounds."""

    model: Spec
    fit: Fit
    prepared: Path

    def network(self) -> nn.Module:
        data = describe(self.prepared)
        torch.manual_seed(0)
        return network(self.model, data.input_shape, len(data.classes), data.mean, data.std)


class Timer:
    """Seconds since it was last started: on the clock, and of all processors' time."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._start = self._now()

    def seconds(self) -> Seconds:
        return self._now() - self._start

    def _now(self) -> Seconds:
        return np.array([time.perf_counter(), time.process_time()])


class Turns(MemoryTracker):
    """A tracker that hears the end of each epoch of `fit`, and then lets the bare loop make those epochs that come before the next one."""

    def __init__(self, bare: Iterator[None], rounds: int) -> None:
        super().__init__()
        self.bare = bare
        self.bare_seconds: list[Seconds] = []
        self.seconds: list[Seconds] = []
        # How many epochs of the bare loop lie behind each of `fit`: its own round's where that is second, the next one's where that is first.
        first = np.append(np.random.default_rng(0).permutation(np.arange(rounds) % 2 == 0), False)
        first[0] = False
        self.turns = [int(not first[round]) + int(first[round + 1]) for round in range(rounds)]
        self.timer = Timer()

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.seconds.append(self.timer.seconds())
        super().metrics(values, step)
        for _ in range(self.turns[len(self.seconds) - 1]):
            self.timer.start()
            next(self.bare)
            self.bare_seconds.append(self.timer.seconds())
        self.timer.start()


def bare(training: Training, model: nn.Module, objective: Objective, whole: nn.Module) -> Iterator[None]:
    """The loop that everybody writes, one epoch at a time; `model` is left with its best weights.

    Args:
        objective: what is minimized.
        whole: what is put into train mode for each epoch: the network, or what holds it.
    """
    params = training.fit
    mix = None if params.mix is None else Mixing(params.mix, len(describe(training.prepared).classes))
    train = Shuffled(load_split(training.prepared, "train"), params.batch_size, 0, params.augment, mix, views=params.views)
    layout = torch.channels_last if params.channels_last else torch.contiguous_format
    whole.to(memory_format=layout)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=moving_average(params.ema), use_buffers=True) if params.ema is not None else None
    validated = model if average is None else average.module
    validation = Ordered(load_split(training.prepared, "validation"), EVALUATION_BATCH)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer = build(OPTIMIZERS, params.optimizer, groups)
    rates, factor = [group["lr"] for group in optimizer.param_groups], bind(SCHEDULES, params.schedule)
    steps, done = len(train) * params.epochs, 0
    best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
    for _ in range(params.epochs):
        whole.train()
        total = 0.0
        for batch in train:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(done / steps)
            loss = objective(batch._replace(images=batch.images.contiguous(memory_format=layout)), model)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.update_parameters(model)
            total += loss.item()
            done += 1
        validated.eval()
        right, summed = 0, 0.0
        with torch.inference_mode():
            for batch in validation:
                logits = validated(batch.images.contiguous(memory_format=layout)).double()
                right += int((logits.argmax(1) == batch.labels).sum())
                summed += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        score = (right / len(validation.images), -summed / len(validation.images))
        if best is None or score > best[0]:
            best = score, deepcopy(validated.state_dict())
        if done == steps:
            model.load_state_dict(best[1])
        yield


def labels_alone(training: Training, _network: nn.Module) -> Objective:
    return LabelsAlone(training.fit.label_smoothing)


Making = Callable[[Training, nn.Module], Objective]
"""From the network that is trained to what is minimized."""


def compared(training: Training, threads: int, engines: Making = labels_alone, loops: Making = labels_alone) -> dict[str, Any]:
    """Both sides in turn: `fit` minimizes what `engines` makes, the bare loop what `loops` makes."""
    rounds = training.fit.epochs
    model, network = training.network(), training.network()
    module = Classifier(network, training.fit, engines(training, network))
    turns = Turns(bare(training, model, loops(training, model), model), rounds)
    settings = Settings(0, Hardware(threads=threads, accelerator="cpu"))
    whole = Timer()
    fit(module, training.prepared, training.fit, settings, tracker=turns, name="training")
    fixed = whole.seconds() - sum(turns.seconds[1:]) - sum(turns.bare_seconds)
    (ours, our_cpu), (theirs, their_cpu) = (np.array(seconds[1:]).T for seconds in (turns.seconds, turns.bare_seconds))
    ratio, low, high = median_interval(ours / theirs, 0.95)
    cpu = median_interval(our_cpu / their_cpu, 0.95)
    steps = len(Shuffled(load_split(training.prepared, "train"), training.fit.batch_size, 0))
    step, extra = float(np.median(theirs)) / steps, float(np.median(ours - theirs)) / steps
    return {
        "epoch_seconds": round(float(np.median(ours)), 4),
        "bare_epoch_seconds": round(float(np.median(theirs)), 4),
        "ratio": round(ratio, 4),
        "ratio_interval": [round(low, 4), round(high, 4)],
        "cpu_ratio": round(cpu[0], 4),
        "cpu_ratio_interval": [round(edge, 4) for edge in cpu[1:]],
        "n": len(ours),
        "steps": steps,
        "bare_step_ms": round(step * 1e3, 3),
        "extra_us_a_step": round(extra * 1e6, 1),
        "extra_cpu_us_a_step": round(float(np.median(our_cpu - their_cpu)) / steps * 1e6, 1),
        "fixed_seconds": round(float(fixed[0] - np.median(ours)), 3),
        "same_weights": all(torch.equal(a, b) for a, b in zip(module.model.state_dict().values(), model.state_dict().values(), strict=True)),
        "kept": ratio <= SLOW_RATIO if step >= SLOW_STEP else ratio <= QUICK_RATIO and extra <= QUICK_EXTRA,
    }


def noise(folder: Path, shape: tuple[int, int, int], train: int, validation: int) -> Path:
    """Prepared data of uniform noise in ten classes."""
    random = np.random.default_rng(0)
    counts = {"train": train, "validation": validation}
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", random.integers(0, 256, (count, *shape), dtype=np.uint8))
        np.save(folder / split / "labels.npy", random.integers(0, 10, count))
    channels = shape[0]
    write_json(folder / "dataset.json", asdict(Description(tuple("0123456789"), shape, counts, (0.5,) * channels, (0.29,) * channels, "noise")))
    return folder


def trainings(folder: Path) -> Iterator[tuple[str, Training]]:
    params = load(Path(__file__).parents[1] / "params.yaml")
    teacher = params.block("teacher", Teacher)
    data = params.block("data", Data)
    (folder / "digits").mkdir()
    prepare(digits(Path(), path=data.source["path"]), data, folder / "digits", seed=params.seed)
    yield "digits_teacher", Training(teacher.model, teacher.fit.model_copy(update={"epochs": 21}), folder / "digits")

    adam = {"batch_size": 128, "optimizer": {"name": "adam", "lr": 0.0012}, "schedule": {"name": "constant"}}
    lenet = {"name": "overhead:LeNet"}  # this file, as a user's own
    yield "lenet_mnist_shape", Training(lenet, Fit.model_validate({**adam, "epochs": 16}), noise(folder / "mnist", (1, 28, 28), 55_000, 5_000))
    resnet = {"name": "resnet", "depth": 20, "width": 16}
    yield "resnet20_cifar_shape", Training(resnet, Fit.model_validate({**adam, "epochs": 8}), noise(folder / "cifar", (3, 32, 32), 2_000, 500))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("digits_teacher", "lenet_mnist_shape", "resnet20_cifar_shape"), help="one of the trainings")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all three as for every stage
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, training in trainings(Path(folder)):
            if given.only in (None, name):
                found[name] = compared(training, given.threads)
                print(name, found[name], flush=True)
    print(json.dumps({**found, "threads": given.threads, "machine": machine()}))


if __name__ == "__main__":
    main()
