"""What single layers cost, and the limits that follow."""

import pytest
import torch
from torch import nn

import tiny
from slimline.core.masked import masked_layers
from slimline.errors import SlimlineError
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune
from slimline.paths import Paths
from slimline.pruning import GRANULARITIES
from slimline.pruning.magnitude import magnitude
from slimline.pruning.sensitivity import Sensitive, limits, sensitivity
from slimline.report.sensitivity import picture
from slimline.runtime.settings import Settings
from slimline.stages.prune import sensitivities

SHAPE = (1, 8, 8)
FRACTIONS = (0.5, 0.25)


def changed_layers(model: nn.Module, pruned: nn.Module) -> set[str]:
    before = dict(model.named_parameters())
    return {name.rpartition(".")[0] for name, p in pruned.named_parameters() if p.shape != before[name].shape or not torch.equal(p, before[name])}


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_each_layer_is_pruned_alone_to_each_fraction_in_rising_order(granularity) -> None:
    model, seen = tiny.trained("mlp"), []

    def accuracy(pruned: nn.Module) -> float:
        seen.append(changed_layers(model, pruned))
        return 1.0 - len(seen) / 100

    rows = sensitivity(model, SHAPE, {"name": granularity}, magnitude(model, ()), accuracy, FRACTIONS)
    layers = list(dict.fromkeys(row.layer for row in rows))
    assert set(layers) <= {"network.hidden.0", "network.hidden.3", "network.classifier"}
    assert len(layers) == (2 if granularity == "channels" else 3)
    for layer in layers:
        assert [row.fraction for row in rows if row.layer == layer] == pytest.approx([0.0, 0.25, 0.5], abs=0.03)
    touched = [layers for layers in seen[1:] if layers]
    expected = {"channels": 2, "weights": 1, "n_m": 1}[granularity]  # the layer that makes channels and the one that reads them
    assert all(len(layers) == expected for layers in touched)


def test_a_fraction_that_a_layer_cannot_lose_is_left_out() -> None:
    model = tiny.trained("mlp")
    rows = sensitivity(model, SHAPE, {"name": "n_m"}, magnitude(model, ()), lambda _: 1.0, (0.4, 0.9))
    assert max(row.fraction for row in rows) < 0.5


def test_the_limit_is_the_largest_fraction_below_which_nothing_costs_too_much() -> None:
    curves = {"sturdy": (0.9, 0.9, 0.89), "dips": (0.9, 0.5, 0.9), "weak": (0.9, 0.8, 0.1), "edge": (0.9, 0.88, 0.87)}
    rows = [Sensitive(layer, fraction, value) for layer, values in curves.items() for fraction, value in zip((0.0, 0.3, 0.6), values, strict=True)]
    assert limits(rows, 2.0) == {"sturdy": 0.6, "dips": 0.0, "weak": 0.0, "edge": 0.3}


@pytest.mark.parametrize("granularity", ["channels", "weights"])
def test_limits_found_are_limits_kept(granularity) -> None:
    model = tiny.trained("mlp")
    found = {"network.hidden.0": 0.25, "network.hidden.3": 0.0}
    plan = tiny.plan_of(model, granularity, limits=found)
    pruned = plan.cut(plan.most)(model)
    assert pruned.network.hidden[3].weight.shape[0] == 32
    if granularity == "weights":
        assert int((~masked_layers(pruned)["network.hidden.0"].mask).sum()) == 24 * 64 // 4
        assert masked_layers(pruned)["network.hidden.3"].mask.all()
    else:
        assert pruned.network.hidden[0].weight.shape[0] == 18


def test_a_granularity_without_limits_takes_no_sensitivity() -> None:
    block = {"criterion": {"name": "magnitude"}, "target": {"name": "fraction", "amount": 0.5}, "sensitivity": {"points": 1.0}}
    assert Prune.model_validate({**block, "granularity": {"name": "weights"}}).sensitivity is not None
    with pytest.raises(ValueError, match="which the granularity n_m has not; make it null"):
        Prune.model_validate({**block, "granularity": {"name": "n_m"}})


def test_many_layers_make_a_picture(tmp_path) -> None:
    rows = [(f"layer.{n}", f / 4, 1 - n * f / 400) for n in range(40) for f in range(5)]
    assert picture(rows)[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture([("alone", 0.0, 0.9)])


def test_a_workspace_without_a_student_is_refused(tmp_path) -> None:
    block = {"criterion": {"name": "magnitude"}, "granularity": {"name": "weights"}, "target": {"name": "threshold"}}
    with pytest.raises(SlimlineError, match="no model here"):
        sensitivities(Prune.model_validate(block), Settings(0, Hardware(threads=1)), Paths(tmp_path), FRACTIONS)
