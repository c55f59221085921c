"""The penalty of network slimming, and weights of an early step."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from slimline.core.batch import Batch
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import arranged, fit
from slimline.runtime.objectives import LabelsAlone, Slimming
from slimline.runtime.settings import Settings
from slimline.tracking.memory import MemoryTracker

HERE = Settings(seed=0, hardware=Hardware(threads=1))
FIT: dict[str, Any] = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": {"name": "constant"}}


@pytest.fixture
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(90, classes=3)) as made:
        yield made.folder


def trained(prepared: Path, *, keep: int | None = None, **changes: Any) -> Classifier:
    params = Fit.model_validate(FIT | changes)
    module = Classifier(tiny.trained("resnet"), params, LabelsAlone(0.0))
    module.keep_step = keep
    fit(module, prepared, params, HERE, tracker=MemoryTracker(), name="training")
    return module


def scales(model: nn.Module) -> torch.Tensor:
    return torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.BatchNorm2d)])


def test_the_penalty_adds_its_strength_times_the_sign_to_the_gradient_of_scales_alone(images) -> None:
    model, batch = tiny.trained("resnet"), Batch(images, torch.zeros(16, dtype=torch.int64), torch.arange(16))
    gradients = []
    for objective in (LabelsAlone(0.0), Slimming(LabelsAlone(0.0), model, 0.25)):
        model.zero_grad()
        objective(batch, model).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    norms = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, parameter in model.named_parameters():
        expected = 0.25 * parameter.detach().sign() if name in norms else torch.zeros_like(parameter)
        assert torch.allclose(gradients[1][name] - gradients[0][name], expected, atol=1e-5), name


def test_scales_shrink_under_the_penalty_and_the_network_is_all_that_is_saved(prepared: Path) -> None:
    plain, slim = trained(prepared), trained(prepared, norm_sparsity=0.1)
    assert scales(slim.model).abs().sum() < 0.9 * scales(plain.model).abs().sum()
    assert not list(slim.objective.parameters())


def test_a_network_without_batch_norms_cannot_be_slimmed() -> None:
    with pytest.raises(SlimlineError, match=r"fit\.norm_sparsity needs batch norms"):
        Slimming(LabelsAlone(0.0), tiny.trained("mlp"), 0.1)


def test_a_network_in_parts_cannot_be_slimmed() -> None:
    params = Fit.model_validate(FIT | {"norm_sparsity": 0.1})
    hardware = Hardware.model_validate({"threads": 1, "strategy": {"name": "fsdp"}})
    with pytest.raises(SlimlineError, match=r"norm_sparsity needs the whole network in each process"):
        arranged(params, replace(HERE, hardware=hardware, world=replace(HERE.world, ranks=2)), LabelsAlone(0.0))


@pytest.mark.parametrize("step", [0, 5])
def test_the_weights_before_a_chosen_step_are_kept_as_they_were_then(step: int, prepared: Path) -> None:
    kept = trained(prepared, keep=step).kept
    assert kept is not None
    # Else the weights of a training that ends soon after.
    expected = tiny.trained("resnet").state_dict() if step == 0 else trained(prepared, keep=step, epochs=2).kept
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


def test_a_step_that_never_comes_keeps_nothing(prepared: Path) -> None:
    assert trained(prepared, keep=10_000).kept is None
