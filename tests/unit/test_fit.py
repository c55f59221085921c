"""What a training refuses before it starts."""

from typing import Any

import pytest

from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.fit import arranged
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
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
