"""What compression and two defences do to attacks on MNIST; the question and the answers stand in README.md.

    python -m experiments.robustness_mnist.measure           # environment active; about 20 minutes of one core
    python -m experiments.robustness_mnist.measure record    # the tables of README.md, from results.json

What results.json has is not measured again, and a training that was interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.lab import Lab, Network, command, prepared, shortened
from experiments.robustness_mnist import tables
from experiments.robustness_mnist.tables import BITS, BUDGETS, CONFIDENCE
from slimline.attacks import ATTACKS
from slimline.attacks.attack import Victim
from slimline.core.batch import Batch
from slimline.core.quantized import settled
from slimline.data.batches import Ordered, scaled
from slimline.data.prepared import load_split
from slimline.distillation.taught import Taught
from slimline.evaluation.masking import signs
from slimline.evaluation.robustness import Arena, card, subset
from slimline.params.fit import Fit
from slimline.pruning import CRITERIA, GRANULARITIES
from slimline.pruning.target import Scales
from slimline.pruning.targets.fraction import Fraction
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.learning import learnable
from slimline.registry import Spec, build
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE
from slimline.tracking.memory import MemoryTracker

HERE = Path(__file__).resolve().parent
SEEDS = 2
DATA = {"size": 28, "channels": 1, "validation": 0.1, "test": 0.1}
ONLY = r"test/|train/\d/\d*0\.png"
"""All test images, a tenth of the others."""

OWN = "experiments.robustness_mnist.networks"
TEACHER = {"name": "lenet5", "filters": [32, 64], "hidden": 256}
STUDENT = {"name": "lenet5", "filters": [16, 32], "hidden": 128}
FIT = {
    "epochs": 10,
    "batch_size": 64,
    "optimizer": {"name": "adamw", "lr": 0.002},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
    "weight_decay": 0.01,
}
TUNE = {"epochs": 3, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 0.001}, "schedule": {"name": "cosine"}}
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
TEMPERATURE = 100.0
"""Of defensive distillation, as in the paper."""
PRUNED = 0.9
CALIBRATION = 512

IMAGES, FEW = 200, 40
"""Attacked; and by the attacks that ask thousands of times for each."""
PGD = {"name": "pgd", "steps": 20, "step": 0.1}
METHODS: dict[str, Spec] = {
    "fgsm": {"name": "fgsm"},
    "pgd": PGD,
    "transfer": {**PGD, "name": "transfer"},
    "square": {"name": "square", "queries": 300},
}
CARLINI_WAGNER: dict[str, Spec] = {"carlini_wagner": {"name": "carlini_wagner", "steps": 200, "searches": 6, "lr": 0.05, "constant": 0.1}}
LABEL_ONLY: dict[str, Spec] = {
    "square": {"name": "square", "queries": 300},
    "hop_skip_jump": {"name": "hop_skip_jump", "iterations": 12, "questions": 60},
}


@dataclass(frozen=True)
class Trial:
    """One network, and what it is attacked with, on how many images."""

    victim: Victim
    methods: Mapping[str, Spec]
    images: int


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA, ONLY), "MNIST")
    for seed in range(seeds):
        networks = trained(lab, seed, epochs)
        faces = {name: Victim(network.requires_grad_(requires_grad=False)) for name, network in networks.items()}
        trials = {name: Trial(face, METHODS, IMAGES) for name, face in faces.items()}
        trials |= {f"{name} nearest": Trial(faces[name], CARLINI_WAGNER, FEW) for name in ("student", "defensive")}
        trials["label only"] = Trial(Victim(faces["student"].network, answers_of(faces["student"])), LABEL_ONLY, FEW)
        for name, trial in trials.items():
            if lab.record(name, seed) is None:
                told = attacked(lab, seed, name, trial, faces)
                lab.add(name, seed, told)
                print(f"{name} {seed}: {told['right']} of {told['images']} right, fooled {told['fooled_counts']}", flush=True)


def answers_of(victim: Victim) -> nn.Module | Any:
    """The victim's label alone: 1 for its class, 0 for the others."""

    def answer(images: Tensor) -> Tensor:
        logits = victim.network(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).float()

    return answer


def attacked(lab: Lab, seed: int, name: str, trial: Trial, faces: Mapping[str, Victim]) -> dict[str, Any]:
    """What the attacks did, with the numbers of the images that each of them fooled."""
    split = load_split(lab.prepared, "test")
    numbers = subset(trial.images, len(split), seed=0)  # the same in every seed, as the test images are
    ((samples, pixels, labels),) = split.gathered([torch.tensor(numbers)])
    base = name.removesuffix(" nearest")
    surrogate = "student alone" if base == "teacher" else "teacher"
    arena = Arena(
        {**faces, base: trial.victim},
        {base: surrogate},
        Batch(scaled(pixels), labels, samples),
        {label: build(ATTACKS, spec) for label, spec in trial.methods.items()},
        BUDGETS,
        seed,
        batch_size=100,
    )
    found = arena.robustness(base)
    with torch.no_grad():
        logits = torch.cat([trial.victim.network(batch.images) for batch in Ordered(split, 500)])
    return {
        "errors": len(lab.wrong(logits.numpy(), "test")),
        **card(found, CONFIDENCE),
        "masking": {test: told and [asdict(sign) for sign in told] for test, told in signs(found, CONFIDENCE).items()},
        "missed": [number for number, right in zip(numbers, found.right, strict=True) if not right],
        "lost": {
            label: {f"{budget:g}": [numbers[place] for place in row.nonzero()[0]] for budget, row in zip(one.budgets, one.fooled, strict=True)}
            for label, one in found.attacks.items()
        },
        "fooled_counts": {label: one.fooled.sum(1).tolist() for label, one in found.attacks.items()},
    }


def trained(lab: Lab, seed: int, epochs: int | None) -> dict[str, nn.Module]:
    """All networks of a seed by name."""
    long, short = shortened(FIT, epochs), shortened(TUNE, epochs)
    teacher = lab.trained("teacher", seed, TEACHER, long)
    student = lab.trained("student", seed, STUDENT, long, teacher, LOSS)
    hot = lab.trained("hot", seed, STUDENT, long, teacher, {"name": f"{OWN}:Hot", "temperature": TEMPERATURE})
    made = {
        "softmax": lab.trained("softmax", seed, {"name": f"{OWN}:Softmax"}, long),
        "teacher": teacher,
        "student alone": lab.trained("student alone", seed, STUDENT, long),
        "student": student,
        "defensive": lab.trained("defensive", seed, STUDENT, long, hot, {"name": "soft_hard", "temperature": TEMPERATURE, "alpha": 1.0}),
    }
    networks = {name: network.model for name, network in made.items()}
    networks["pruned"] = tuned(lab, seed, pruned(lab, student.model), teacher, short)
    for bits in BITS:
        networks[f"{bits} bits"] = settled(tuned(lab, seed, on_grid(lab, bits, student), teacher, short)).eval()
    return networks


def pruned(lab: Lab, model: nn.Module) -> nn.Module:
    """Without its smallest weights, of all layers together."""
    weights = build(GRANULARITIES, {"name": "weights"}, model, lab.data.input_shape).plan(model, build(CRITERIA, {"name": "magnitude"}, model, ()))
    target = Fraction(Scales(model, lab.data.input_shape, lambda _: 0, lambda _: 1.0), amount=PRUNED)
    return weights.cut(target.count(weights, model))(model)


def on_grid(lab: Lab, bits: int, student: Network) -> nn.Module:
    """Weights and activations of `bits` bits, whose steps are learned."""
    shape, scheme = lab.data.input_shape, {"name": "mse"}
    record = plan(student.model, shape, weights=Choice(bits, per_channel=True), activations=Choice(bits, symmetric=False))
    images = next(iter(Ordered(load_split(lab.prepared, "train"), CALIBRATION))).images
    graph = calibrated(student.model, record, [images], weights=scheme, activations=scheme)
    learnable(graph, shape, weights={"name": "lsq"}, activations={"name": "lsq"})
    return graph


def tuned(lab: Lab, seed: int, model: nn.Module, teacher: Network, how: Mapping[str, Any]) -> nn.Module:
    """`model`, trained on under the teacher."""
    params = Fit.model_validate_json(json.dumps(how))
    module = Classifier(copy.deepcopy(model), params, Taught(model, teacher.model, LOSS, lab.data.input_shape))
    fit(module, lab.prepared, params, Settings(seed, lab.hardware, ALONE), tracker=MemoryTracker(), name="tuned")
    return module.model.eval()


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, SEEDS, measure, tables.renewed))
