"""The stage `prune` under every schedule, granularity and target; what it leaves, and what it refuses."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pruned_together
import pytest
import torch
from chain import RUNS, Chain
from torch import nn

import together
from slimline import artifacts
from slimline.core.masked import masked_layers
from slimline.core.quantized import quantized_layers
from slimline.data.batches import scaled
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.export.runtime import OnnxModel
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune as PruneParams
from slimline.pruning import SCHEDULES
from slimline.runtime.checkpoints import Place
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP, Stopped
from slimline.stages import prune
from slimline.tracking.memory import MemoryTracker

Copy = Callable[[], Chain]

WEIGHTS = {"granularity": {"name": "weights"}, "target": {"name": "fraction", "amount": 0.6}}
SCHEDULE: dict[str, dict[str, Any]] = {"gradual": {"every": 2, "end": 0.6}, "iterative": {"rounds": 3, "epochs": 1}, "rewinding": {"rounds": 2}}


def schedule(name: str) -> dict[str, Any]:
    return {"name": name, **SCHEDULE.get(name, {})}


def metrics(chain: Chain) -> dict[str, float]:
    return json.loads(chain.paths.stage_metrics("prune").read_text())["pruned"]


def model(chain: Chain, name: str = "pruned") -> nn.Module:
    return artifacts.load(chain.paths.model(name))[1]


def share_of_zeros(pruned: nn.Module) -> float:
    layers = masked_layers(pruned).values()
    assert all(torch.equal(layer.weight != 0, layer.mask) for layer in layers), "what is zero, and only that, is masked"
    return 1 - sum(int(layer.mask.sum()) for layer in layers) / sum(layer.mask.numel() for layer in layers)


def the_same_in_every_file(chain: Chain) -> None:
    folder = chain.paths.model("pruned")
    images = scaled(load_split(chain.paths.prepared, "test").pixels)
    with torch.no_grad():
        expected = model(chain)(images)
        assert torch.equal(artifacts.load_packed(folder.packed)[1](images), expected)
    assert np.abs(OnnxModel(folder.onnx, threads=1)(images.numpy()) - expected.numpy()).max() < 1e-4


def early(chain: Chain, step: int = 4) -> Chain:
    return chain.run("distill_student", distill={"early": step})


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "gradual" else pytest.mark.slow) for n in sorted(SCHEDULES)])
def test_under_every_schedule_the_share_asked_for_is_masked_in_every_file(name: str, copy_of_chain: Copy) -> None:
    chain = early(copy_of_chain()) if name == "rewinding" else copy_of_chain()
    chain.run("prune", prune={**WEIGHTS, "schedule": schedule(name)})
    found = metrics(chain)
    cells = sum(layer.mask.numel() for layer in masked_layers(model(chain)).values())
    assert found["prune/asked"] == 0.6
    assert found["prune/obtained"] == pytest.approx(share_of_zeros(model(chain)), abs=1e-12)
    assert 0.6 <= found["prune/obtained"] < 0.6 + 1 / cells
    assert found["prune/removed_macs"] == 0
    assert found["prune/accuracy_before"] > 0.3
    assert found["size/packed_bytes"] < 0.75 * chain.paths.model("student").packed.stat().st_size
    the_same_in_every_file(chain)


def test_a_mask_stays_through_quantization(copy_of_chain: Copy) -> None:
    chain = copy_of_chain().run("prune", "quantize", prune={**WEIGHTS, "fit": None}, quantize={"fit": None})
    masks = {name: layer.mask for name, layer in masked_layers(model(chain)).items()}
    layers = quantized_layers(model(chain, "quantized"))
    assert layers.keys() == masks.keys()
    for name, layer in layers.items():
        assert torch.equal(layer.mask, masks[name]), name
        assert not bool(layer.weight[~layer.mask].any()), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(SCHEDULES) if name != "gradual"])
def test_channels_are_cut_under_every_schedule_that_can(name: str, copy_of_chain: Copy) -> None:
    chain = early(copy_of_chain()) if name == "rewinding" else copy_of_chain()
    chain.run("prune", prune={"target": {"name": "macs", "amount": 0.4}, "schedule": schedule(name)})
    found = metrics(chain)
    assert 0.4 <= found["prune/obtained"] < 0.6
    assert found["prune/obtained"] == pytest.approx(found["prune/removed_macs"])
    the_same_in_every_file(chain)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["batch_norm", "geometric_median", "taylor", "second_order"])
def test_criteria_choose_other_channels(criterion: str, copy_of_chain: Copy, chain: Chain) -> None:
    other = copy_of_chain().run("prune", prune={"criterion": {"name": criterion}, "fit": None})
    assert other.paths.model("pruned").weights.read_bytes() != chain.paths.model("pruned").weights.read_bytes()
    the_same_in_every_file(other)


@pytest.mark.slow
def test_rewound_weights_are_those_of_the_early_step(copy_of_chain: Copy) -> None:
    chain = early(copy_of_chain(), 0)
    chain.run("prune", prune={**WEIGHTS, "schedule": {"name": "rewinding"}})
    _, student = artifacts.load(chain.paths.model("student"))
    first = artifacts.load_early(chain.paths.model("student"), student)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), student.parameters(), strict=True))
    tiny_rate = {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 1e-9}, "schedule": {"name": "constant"}}
    chain.run("prune", prune={**WEIGHTS, "schedule": {"name": "rewinding"}, "fit": tiny_rate})
    for name, layer in masked_layers(model(chain)).items():
        assert torch.allclose(layer.weight, first.get_submodule(name).weight * layer.mask, atol=1e-5), name


def test_without_early_weights_nothing_can_be_rewound(copy_of_chain: Copy) -> None:
    with pytest.raises(SlimlineError, match=r"no early weights are kept here; set distill\.early"):
        copy_of_chain().run("prune", prune={**WEIGHTS, "schedule": {"name": "rewinding"}})


@pytest.mark.parametrize("name", ["gradual", "iterative", "rewinding"])
def test_a_schedule_that_trains_is_refused_without_a_training(name: str, copy_of_chain: Copy) -> None:
    with pytest.raises(ValueError, match=f"schedule {name} trains between its cuts, but fit is null"):
        copy_of_chain().run("prune", prune={"schedule": schedule(name), "fit": None})


def test_channels_cannot_go_within_a_training(copy_of_chain: Copy) -> None:
    with pytest.raises(SlimlineError, match="the shapes of channels cannot change there: take iterative"):
        copy_of_chain().run("prune", prune={"schedule": schedule("gradual")})


@pytest.mark.slow
def test_a_drop_of_accuracy_is_kept_to_on_the_validation_images(copy_of_chain: Copy) -> None:
    chain = copy_of_chain().run("prune", prune={**WEIGHTS, "target": {"name": "accuracy_drop", "points": 4.0}, "fit": None})
    found = metrics(chain)
    assert 0 < found["prune/removed"] < 1
    assert found["prune/obtained"] <= 4.0
    assert found["val/accuracy"] >= found["prune/accuracy_before"] - 0.04 - 1e-9


@pytest.mark.slow
def test_a_file_of_as_many_bytes_as_were_asked_for(copy_of_chain: Copy) -> None:
    most = int(0.8 * copy_of_chain().paths.model("student").packed.stat().st_size)
    chain = copy_of_chain().run("prune", prune={**WEIGHTS, "target": {"name": "bytes", "most": most}})
    assert 0.9 * most < chain.paths.model("pruned").packed.stat().st_size <= most


def run_here(chain: Chain, params: PruneParams, place: Place | None = None) -> Any:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    settings = Settings(load(chain.paths.params).seed, Hardware(threads=1), place=place)
    return prune.run(params, settings, chain.paths, MemoryTracker())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("gradual", 5), ("gradual", 20), ("iterative", 3), ("iterative", 20), ("iterative", 45)])
def test_a_pruning_that_was_stopped_goes_on_to_the_same_bytes(
    name: str, step: int, copy_of_chain: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, calls = copy_of_chain(), []
    params = load(chain.paths.params).block("prune", PruneParams)
    params = type(params).model_validate({**params.model_dump(), **WEIGHTS, "schedule": schedule(name)})
    run_here(chain, params)
    files = {file.name: file.read_bytes() for file in chain.paths.model("pruned").folder.iterdir()}
    numbers = metrics(chain)
    whole = prune.Prune.training_step

    def interrupted(self: prune.Prune, *batch: Any) -> None:
        whole(self, *batch)
        calls.append(1)
        if len(calls) == step:
            STOP.signum = signal.SIGTERM

    place = Place(tmp_path / "kept", "key", every=1e9)
    monkeypatch.setattr(prune.Prune, "training_step", interrupted)
    with pytest.raises(Stopped):
        run_here(chain, params, place)
    STOP.signum = None
    run_here(chain, params, place)
    assert {file.name: file.read_bytes() for file in chain.paths.model("pruned").folder.iterdir()} == files
    assert metrics(chain) == numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        {"hardware": {"strategy": {"name": "ddp"}}},
        {"hardware": {"strategy": {"name": "fsdp"}}},
        {"hardware": {"strategy": {"name": "pipeline"}}},
        {"synchrony": {"name": "local_sgd", "period": 3}},
        {"ema": 0.9},
    ],
    ids=str,
)
def test_masks_are_held_by_every_arrangement_of_processes(way: dict[str, Any], chain: Chain, tmp_path: Path) -> None:
    fit = {key: value for key, value in {**together.STEADY, **way}.items() if key != "hardware"}
    task = {"fit": fit, "hardware": way.get("hardware", {}), "classes": 10, "model": {"name": "together:half_pruned"}}
    fit["epochs"] = 1
    made = together.train(tmp_path, chain.paths.prepared, 2, **task)
    for state in made.states:
        masks = {name: tensor for name, tensor in state.items() if name.endswith(".mask")}
        assert len(masks) == 4
        for name, mask in masks.items():
            assert int(mask.sum()) == -(-mask.numel() // 2), name
            assert not bool(state[name.replace(".mask", ".weight")][~mask].any()), name


STEADY = {**together.STEADY, "epochs": 2, "batch_size": 20}
"""Its last batch of an epoch is one that two processes too can take: they leave out one with less than two images for each."""
GRADUAL = {**WEIGHTS, "criterion": {"name": "magnitude"}, "schedule": schedule("gradual"), "fit": STEADY}


def with_a_plain_student(chain: Chain) -> Path:
    """The workspace, its student one without statistics: one process and several can be compared by it."""
    manifest, _ = artifacts.load(chain.paths.model("student"))
    manifest = manifest.model_copy(update={"architecture": {"name": "together:Plain"}, "forms": ()})
    torch.manual_seed(0)
    artifacts.save(chain.paths.model("student"), manifest, artifacts.fresh(manifest))
    return chain.paths.root


@pytest.mark.slow
def test_masks_grow_within_a_training_of_two_processes_as_in_one(copy_of_chain: Copy, tmp_path: Path) -> None:
    workspace = with_a_plain_student(copy_of_chain())
    (one,) = pruned_together.prune(tmp_path / "one", workspace, 1, **GRADUAL)
    two = pruned_together.prune(tmp_path / "two", workspace, 2, **GRADUAL)
    masks = [name for name in one.state if name.endswith(".mask")]
    assert sum(int((~one.state[name]).sum()) for name in masks) >= 0.6 * sum(one.state[name].numel() for name in masks)
    for made in two:
        np.testing.assert_allclose(made.curve, one.curve, rtol=1e-9)
        for name, tensor in made.state.items():
            torch.testing.assert_close(tensor, one.state[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [{"criterion": {"name": "taylor"}}, {"target": {"name": "accuracy_drop", "points": 20.0}}, {"fit": {**STEADY, "ema": 0.5}}],
    ids=str,
)
def test_two_processes_whose_norms_saw_other_images_take_the_same_masks(block: dict[str, Any], copy_of_chain: Copy, tmp_path: Path) -> None:
    first, second = pruned_together.prune(tmp_path / "two", copy_of_chain().paths.root, 2, **{**GRADUAL, **block})
    assert len(first.cuts) == len(second.cuts) > 5
    for one, other in zip(first.cuts, second.cuts, strict=True):
        assert all(torch.equal(mask, other[name]) for name, mask in one.items())
    assert all(torch.equal(tensor, second.state[name]) for name, tensor in first.state.items())


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, 80])
def test_two_processes_that_were_stopped_while_masks_grew_or_afterwards_go_on_to_the_same_numbers(
    step: int, copy_of_chain: Copy, tmp_path: Path
) -> None:
    workspace = copy_of_chain().paths.root
    undisturbed = pruned_together.prune(tmp_path / "whole", workspace, 2, **GRADUAL)
    pruned_together.prune(tmp_path / "stopped", workspace, 2, stop_after=step, **GRADUAL)
    assert list((tmp_path / "stopped").rglob("*.checkpoint"))
    for made, expected in zip(pruned_together.prune(tmp_path / "stopped", workspace, 2, **GRADUAL), undisturbed, strict=True):
        assert len(made.cuts) < len(expected.cuts), "it started again"
        assert made.curve == expected.curve
        assert all(torch.equal(tensor, expected.state[name]) for name, tensor in made.state.items())
        for name, mask in made.state.items():
            if name.endswith(".mask"):
                assert not bool(made.state[name.replace(".mask", ".weight")][~mask].any()), name


@pytest.mark.slow
def test_masks_that_grow_within_a_training_of_two_processes_are_refused_where_parts_of_the_network_are_apart(copy_of_chain: Copy) -> None:
    chain = copy_of_chain()
    params = load(chain.paths.params).block("prune", PruneParams)
    params = type(params).model_validate({**params.model_dump(), **WEIGHTS, "schedule": schedule("gradual")})
    hardware = Hardware.model_validate({"threads": 1, "strategy": {"name": "fsdp"}})
    settings = Settings(0, hardware)
    settings = replace(settings, world=replace(settings.world, ranks=2))
    with pytest.raises(SlimlineError, match=r"gradual needs the whole network in each process"):
        prune.run(params, settings, chain.paths, MemoryTracker())


@pytest.mark.slow
def test_every_stage_after_pruning_takes_a_masked_model(copy_of_chain: Copy) -> None:
    assert set(RUNS) >= {"quantize", "evaluate"}
    chain = copy_of_chain().run("prune", "quantize", "evaluate", prune={**WEIGHTS, "fit": None}, quantize={"fit": None})
    card = json.loads(chain.paths.scorecard.read_text())["models"]["pruned"]
    assert card["nonzero_params"] < 0.6 * card["params"]


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["channels", "weights"])
def test_limits_by_sensitivity_spare_the_layers_that_cost_most(granularity: str, copy_of_chain: Copy) -> None:
    block = {"granularity": {"name": granularity}, "target": {"name": "fraction", "amount": 0.2}, "fit": None}
    free = metrics(copy_of_chain().run("prune", prune=block))
    spared = metrics(copy_of_chain().run("prune", prune={**block, "sensitivity": {"points": 15.0}}))
    assert spared["prune/obtained"] >= 0.2
    assert spared["prune/accuracy_cut"] >= free["prune/accuracy_cut"] - 0.05
