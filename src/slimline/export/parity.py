"""Does every way of running a model compute what was trained?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from slimline.core.integers import integer_reference
from slimline.core.quantized import quantized_layers
from slimline.export.runtime import OnnxModel

STEPS = 255
"""Steps of an 8-bit grid."""


@dataclass(frozen=True)
class Parity:
    """A trained model against another way of computing it, over `images` images.

    Args:
        agreement: share of images with the same predicted class.
        largest_difference, mean_difference: of logits, absolute.
        step: of an 8-bit grid over the range of the trained model's logits, in which differences are told.
    """

    images: int
    agreement: float
    largest_difference: float
    mean_difference: float
    step: float

    @property
    def largest_steps(self) -> float:
        """The largest difference in steps; 0 where all logits are equal."""
        return self.largest_difference / self.step if self.step else 0.0

    @property
    def mean_steps(self) -> float:
        """The mean difference in steps."""
        return self.mean_difference / self.step if self.step else 0.0


Run = Callable[[Float[np.ndarray, "batch channels height width"]], Float[np.ndarray, "batch classes"]]


def parity(model: nn.Module, exported: Run, batches: Iterable[Tensor]) -> Parity:
    """Run both on the same images (float32, in [0, 1]; at least one)."""
    return parities(model, {"exported": exported}, batches)["exported"]


def parities(model: nn.Module, others: Mapping[str, Run], batches: Iterable[Tensor]) -> dict[str, Parity]:
    """`model` against each of `others` on the same images."""
    ours: list[np.ndarray] = []
    theirs: dict[str, list[np.ndarray]] = {name: [] for name in others}
    with torch.no_grad():
        for batch in batches:
            ours.append(model.eval()(batch).numpy())
            for name, run in others.items():
                theirs[name].append(run(batch.numpy()))
    logits = np.concatenate(ours)
    return {name: _compared(logits, np.concatenate(parts)) for name, parts in theirs.items()}


def _compared(ours: Float[np.ndarray, "n classes"], theirs: Float[np.ndarray, "n classes"]) -> Parity:
    difference = np.abs(ours - theirs)
    same = ours.argmax(1) == theirs.argmax(1)
    return Parity(len(ours), float(same.mean()), float(difference.max()), float(difference.mean()), float(ours.max() - ours.min()) / STEPS)


def ways(model: nn.Module, path: Path, deployed: Run, *, threads: int) -> dict[str, Run]:
    """How `model` can be computed besides as it was trained: as it is deployed, and, where it has integers, by ONNX Runtime without
    optimization of the graph and by the integer reference."""
    others: dict[str, Run] = {"deployed": deployed}
    if isinstance(model, fx.GraphModule) and any(layer.bias_step is not None for layer in quantized_layers(model).values()):
        reference = integer_reference(model)
        others["unoptimized"] = OnnxModel(path, threads=threads, optimized=False)
        others["integers"] = lambda images: reference(torch.from_numpy(images)).numpy()
    return others
