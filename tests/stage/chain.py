"""The stages on the real digits with networks that train in a second."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slimline.params.base import Block
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.paths import Paths
from slimline.runtime.settings import Made, Settings
from slimline.stages import distill_student, evaluate, prepare, prune, quantize, train_alone, train_teacher
from slimline.tracking.memory import MemoryTracker

FIT = "{epochs: 6, batch_size: 64, optimizer: {name: adamw, lr: 0.01}, schedule: {name: one_cycle}, augment: [{name: shift, pixels: 1}]}"
GENTLE = "{epochs: 2, batch_size: 64, optimizer: {name: adamw, lr: 0.001}, schedule: {name: cosine}}"
LOSS = "{name: soft_hard, temperature: 4.0, alpha: 0.9}"

TINY = f"""
seed: 0
data: {{source: {{name: digits, path: data/raw/digits.md}}, size: 8, channels: 1, validation: 0.2, test: 0.2}}
teacher: {{model: {{name: resnet, depth: 8, width: 8}}, fit: {FIT}}}
distill:
  model: {{name: mobilenet, width: 8, stages: [2, 4]}}
  loss: {LOSS}
  transfer: {{without: [], unlabelled: false}}
  repeats: 1
  fit: {FIT}
prune: {{criterion: {{name: magnitude}}, granularity: {{name: channels}}, target: {{name: params, amount: 0.4}}, loss: {LOSS}, fit: {GENTLE}}}
quantize:
  weights: {{bits: 8, scheme: {{name: min_max}}}}
  activations: {{bits: 8, scheme: {{name: percentile}}}}
  calibration: 256
  parity: 0.98
  loss: {LOSS}
  fit: {GENTLE}
evaluate:
  confidence: 0.95
  margin: 0.05
  batch_size: 256
  gates: {{accuracy_drop: 0.999, size_ratio: 2.0, robustness_drop: 0.999}}
  regression: {{accuracy_drop: 0.999, size_growth: 0.0}}
  latency: {{threads: 1, batch_sizes: [1, 8], rounds: 10, warm_up: 1}}
  attacks:
    images: 24
    budgets: {{linf: [0.1, 0.2], severity: [3.0]}}
    methods:
      fgsm: {{name: fgsm}}
      pgd: {{name: pgd, steps: 5, step: 0.5}}
      transfer: {{name: transfer, steps: 5, step: 0.5}}
      contrast: {{name: contrast}}
hardware: {{threads: 2}}
tracking: {{uri: "sqlite:///mlflow.db", experiment: test}}
"""

RUNS: dict[str, tuple[str, Any]] = {
    "prepare": ("data", prepare.run),
    "train_teacher": ("teacher", train_teacher.run),
    "distill_student": ("distill", distill_student.run),
    "train_alone": ("distill", train_alone.run),
    "prune": ("prune", prune.run),
    "quantize": ("quantize", quantize.run),
    "evaluate": ("evaluate", evaluate.run),
}


@dataclass
class Chain:
    """A workspace whose stages are run in this process; `trackers` and `made` keep what they recorded and left."""

    paths: Paths
    trackers: dict[str, MemoryTracker] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)

    def run(self, *stages: str, **changes: dict[str, Any]) -> "Chain":
        """Run `stages`; `changes` are updates to their blocks, `prune={"fit": None}`."""
        params = load(self.paths.params)
        for stage in stages:
            block, run = RUNS[stage]
            torch.manual_seed(params.seed)
            torch.use_deterministic_algorithms(True)
            torch.set_num_threads(1)  # last bits may differ between thread counts
            self.trackers[stage] = MemoryTracker()
            settings = Settings(params.seed, params.block("hardware", Hardware))
            self.made[stage] = run(changed(params.blocks[block], changes.get(block, {})), settings, self.paths, self.trackers[stage])
        return self


def changed(block: Block, update: dict[str, Any]) -> Block:
    return type(block).model_validate({**block.model_dump(), **update}) if update else block


def workspace(folder: Path, text: str = TINY) -> Chain:
    """A folder with params.yaml in it, nothing run yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(text)
    return Chain(Paths(folder))
