"""Laws of pruning for every criterion, granularity and model of the zoo."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from slimline import artifacts
from slimline.core.batch import Batch
from slimline.core.masked import masked_layers
from slimline.export.runtime import OnnxModel
from slimline.models import MODELS
from slimline.paths import ModelFolder
from slimline.pruning import CRITERIA, GRANULARITIES, TARGETS
from slimline.pruning.channels import channel_groups
from slimline.pruning.plan import Granularity, Plan
from slimline.registry import build
from zeroed import zeroed

SHAPE = (1, 8, 8)
FRACTIONS = {"channels": (0.1, 0.25, 0.4), "weights": (0.1, 0.5, 0.9), "n_m": (0.1, 0.3, 0.5)}
QUICK = ("resnet", "vit")


def scored(criterion: str, model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    images, labels = torch.rand(6, *SHAPE, generator=generator), torch.randint(0, 3, (6,), generator=generator)
    return build(CRITERIA, {"name": criterion}, model, [Batch(images, labels, torch.arange(6))])


def cases() -> list:  # type: ignore[type-arg]
    found = []
    for name in sorted(MODELS):
        normed = any(isinstance(m, nn.BatchNorm2d) for m in tiny.trained(name).modules())
        for criterion in sorted(CRITERIA):
            for granularity in sorted(GRANULARITIES):
                if criterion == "batch_norm" and (granularity != "channels" or not normed):
                    continue  # refused: tests of targets and criteria see to it
                quick = name in QUICK and criterion in ("magnitude", "taylor", "batch_norm")
                found.append(pytest.param(name, criterion, granularity, marks=() if quick else pytest.mark.slow))
    return found


EVERY = pytest.mark.parametrize(("name", "criterion", "granularity"), cases())


def left(model: nn.Module) -> dict[str, Tensor]:
    """What a cut has left of each layer: its mask, or its shape."""
    masks = {name: layer.mask for name, layer in masked_layers(model).items()}
    return masks or {name: torch.tensor(p.shape) for name, p in model.named_parameters()}


def covered(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    """A copy of `model` with zeros where `masks` take weights, and no masks."""
    dense = copy.deepcopy(model)
    with torch.no_grad():
        for layer, mask in masks.items():
            dense.get_submodule(layer).weight.mul_(mask)
    return dense


def cut(plan: Plan, model: nn.Module, fraction: float) -> tuple[int, nn.Module]:
    count = build(TARGETS, {"name": "fraction", "amount": fraction}, tiny.scales(model)).count(plan, model)
    return count, plan.cut(count)(model)


@EVERY
def test_counts_are_exact_cuts_are_nested_and_the_same_cut_again_is_none(name: str, criterion: str, granularity: str, images: Tensor) -> None:
    model = tiny.trained(name)
    whole, before = model(images), left(model)
    made: Granularity = build(GRANULARITIES, {"name": granularity}, model, SHAPE)
    scores = scored(criterion, model)
    plan = made.plan(model, scores)
    last: dict[str, Tensor] | None = None
    for fraction in FRACTIONS[granularity]:
        if plan.fraction(plan.most) < fraction:
            continue
        count, pruned = cut(plan, model, fraction)
        assert plan.fraction(count) >= fraction > plan.fraction(count - 1)
        now = left(pruned)
        assert last is None or all(bool((now[key] <= last[key]).all()) for key in now), "what was gone is there again"
        last = now
        again = made.plan(pruned, scored(criterion, pruned))
        assert again.fraction(again.gone) == plan.fraction(count)
        assert cut(again, pruned, fraction)[0] == again.gone
        assert all(torch.equal(value, now[key]) for key, value in left(cut(again, pruned, fraction)[1]).items())
        dense = zeroed(model, channel_groups(model, SHAPE), scores, pruned) if granularity == "channels" else covered(model, now)
        assert torch.allclose(pruned(images), dense(images), atol=1e-5)
    assert last is not None
    assert torch.equal(model(images), whole)
    assert all(torch.equal(value, before[key]) for key, value in left(model).items())


@pytest.mark.slow
@EVERY
def test_a_pruned_model_comes_back_from_its_files_the_same_and_its_onnx_file_agrees(
    name: str, criterion: str, granularity: str, images: Tensor, tmp_path: Path
) -> None:
    model, manifest = tiny.trained(name), tiny.manifest(name)
    made: Granularity = build(GRANULARITIES, {"name": granularity}, model, SHAPE)
    plan = made.plan(model, scored(criterion, model))
    _, pruned = cut(plan, model, FRACTIONS[granularity][1])
    described = manifest.after(made.form, made.record(artifacts.fresh(manifest), pruned))
    folder = ModelFolder(tmp_path / "model")
    artifacts.save(folder, described, pruned)
    expected = pruned.eval()(images)
    for manifest_again, again in (artifacts.load(folder), artifacts.load_packed(folder.packed)):
        assert manifest_again == described
        assert torch.equal(again(images), expected)
        assert all(torch.equal(value, left(pruned)[key]) for key, value in left(again).items())
    assert np.abs(OnnxModel(folder.onnx, threads=1)(images.numpy()) - expected.detach().numpy()).max() < 1e-5
