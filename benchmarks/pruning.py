"""How long it takes to score and cut a ResNet-56: slimline beside torch-pruning used directly.

    python benchmarks/pruning.py          # environment active; about a minute

Both start from the same trained-shaped ResNet-56 (width 16, 3×32×32) and take a copy of it, which counts for both, since neither may
change the network it is given. Both find which layers share channels, score them by L2 magnitude over all of these layers, rank
globally, and cut: torch-pruning by its `BasePruner` with `pruning_ratio` 0.5 of the channels of all prunable layers, slimline to the
same share by its target `fraction`. slimline finds the count by bisection and makes no more channels go than asked for; what each has
left is told beside its time. Interleaved: in each round each makes one cut, in random order; the ratio is the median of those within
rounds. The last line is one JSON object.
"""

import copy
import json
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from slimline.core.cost import measure
from slimline.evaluation.latency import machine
from slimline.evaluation.statistics import median_interval
from slimline.models.network import network
from slimline.pruning.channels import Channels
from slimline.pruning.magnitude import magnitude
from slimline.pruning.target import Scales
from slimline.pruning.targets.fraction import Fraction

SHAPE = (3, 32, 32)
SHARE = 0.5
ROUNDS = 60
BAR = 1.1


def ours(model: nn.Module) -> nn.Module:
    plan = Channels(model, SHAPE).plan(model, magnitude(model, ()))
    target = Fraction(Scales(model, SHAPE, lambda _: 0, lambda _: 1.0), amount=SHARE)
    return plan.cut(target.count(plan, model))(model)


def theirs(model: nn.Module) -> nn.Module:
    pruned = copy.deepcopy(model)
    pruner = tp.pruner.BasePruner(
        pruned,
        torch.zeros(1, *SHAPE),
        importance=tp.importance.MagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=SHARE,
        ignored_layers=[pruned.get_submodule("network.classifier")],
    )
    pruner.step()
    return pruned


def seconds(cut: Callable[[nn.Module], nn.Module], model: nn.Module) -> float:
    start = time.perf_counter()
    cut(model)
    return time.perf_counter() - start


def main() -> int:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = network({"name": "resnet", "depth": 56, "width": 16}, SHAPE, 10, (0.5,) * 3, (0.25,) * 3).eval()
    cuts = {"slimline": ours, "torch_pruning": theirs}
    left = {name: measure(cut(model), SHAPE) for name, cut in cuts.items()}  # a first round, not timed
    times: dict[str, list[float]] = {name: [] for name in cuts}
    for _ in range(ROUNDS):
        for name in rng.permutation(list(cuts)):
            times[name].append(seconds(cuts[name], model))
    ratios = np.array(times["slimline"]) / np.array(times["torch_pruning"])
    ratio, low, high = median_interval(ratios, 0.95)
    result = {
        "machine": machine(),
        "rounds": ROUNDS,
        "milliseconds": {name: round(1000 * float(np.median(values)), 2) for name, values in times.items()},
        "left": {name: {"params": cost.params, "macs": cost.macs} for name, cost in left.items()},
        "ratio": round(ratio, 3),
        "ratio_interval": [round(low, 3), round(high, 3)],
        "bar": BAR,
        "ok": ratio <= BAR,
    }
    whole = measure(model, SHAPE)
    print(f"ResNet-56: {whole.params:,} parameters, {whole.macs:,} multiply-accumulates; {SHARE:.0%} of the channels asked for")
    for name in cuts:
        print(
            f"{name:14} {result['milliseconds'][name]:7.1f} ms   {left[name].params:9,} parameters left, {left[name].macs:12,} multiply-accumulates"
        )
    print(f"slimline / torch-pruning: {result['ratio']} (95% interval {low:.3f} to {high:.3f}), at most {BAR} wanted")
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
