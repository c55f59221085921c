"""What a training refuses before it starts."""

from typing import Any

import pytest
import torch
from torch import nn

from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.fit import arranged
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.updates import Updates
from slimline.runtime.world import World

FIT = {"epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": {"name": "constant"}}


def refused(reason: str, fit: dict[str, Any], hardware: dict[str, Any]) -> None:
    settings = Settings(0, Hardware.model_validate({"threads": 1, "accelerator": "cpu", "devices": 2, **hardware}), World(0, 2, 0, 2))
    with pytest.raises(SlimlineError, match=reason):
        arranged(Fit.model_validate({**FIT, **fit}), settings, LabelsAlone(0.0))


@pytest.mark.parametrize("strategy", ["fsdp", "pipeline"])
@pytest.mark.parametrize(("key", "value"), [("ema", 0.9), ("compile", True), ("precision", "bf16")])
def test_what_needs_the_whole_network_is_refused_where_it_is_cut(strategy: str, key: str, value: object) -> None:
    told = f"fit.{key} {'bf16 ' if value == 'bf16' else ''}and hardware.strategy {strategy} do not go together"
    refused(told, {key: value}, {"strategy": {"name": strategy}})


@pytest.mark.parametrize("strategy", ["fsdp", "pipeline"])
@pytest.mark.parametrize("synchrony", [{"name": "local_sgd", "period": 2}, {"name": "asynchronous"}])
def test_another_synchrony_is_refused_where_the_network_is_cut(strategy: str, synchrony: dict[str, Any]) -> None:
    refused(f"fit.synchrony is {synchrony['name']}.* is {strategy}; make it ddp", {"synchrony": synchrony}, {"strategy": {"name": strategy}})


def test_16_bits_are_refused_on_a_processor() -> None:
    refused("fit.precision 16 needs a CUDA device; take bf16 or 32", {"precision": 16}, {})


@pytest.mark.parametrize("strategy", ["fsdp", "pipeline"])
def test_a_loss_with_weights_of_its_own_is_refused_where_the_network_is_divided(strategy: str) -> None:
    class Weighing(LabelsAlone):
        def __init__(self) -> None:
            super().__init__(0.0)
            self.weight = nn.Parameter(torch.ones(()))

    hardware = Hardware.model_validate({"threads": 1, "accelerator": "cpu", "devices": 2, "strategy": {"name": strategy}})
    model, fit, objective = nn.Linear(2, 2), Fit.model_validate(FIT), Weighing()
    arrangement = arranged(fit, Settings(0, hardware, World(0, 2, 0, 2)), objective)
    updates = Updates(model, objective, torch.optim.SGD(model.parameters(), 0.1), fit, 1, torch.device("cpu"))
    with pytest.raises(SlimlineError, match=f"strategy {strategy} cannot train a loss with weights of its own; make the strategy ddp"):
        arrangement.begin(updates, model, objective)
