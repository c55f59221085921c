"""Units that count for nothing are taken out, and the network computes what it did."""

from typing import Any

import pytest
import torch
from torch import nn

import tiny
from slimline.core.quantized import folded
from slimline.models.network import network
from slimline.quantization.idle import take_out_idle_units

SHAPE = (1, 16, 16)


def pruned(spec: dict[str, Any], keep: float, seed: int = 0) -> nn.Module:
    """A network of the zoo with random biases, of whose weights a share `keep` is left."""
    torch.manual_seed(seed)
    model = network(spec, SHAPE, 10, (0.5,), (0.3,)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight *= torch.rand_like(module.weight) < keep
                if module.bias is not None:
                    module.bias.normal_()
    return model


def layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def numbers(model: nn.Module) -> int:
    return sum(int(p.count_nonzero()) for layer in layers(model) for p in (layer.weight, layer.bias) if p is not None)


@pytest.mark.parametrize("keep", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet", "mobilenet", "vit", "densenet"])
def test_the_network_computes_what_it_did(name: str, keep: float) -> None:
    model = pruned(tiny.model_spec(name), keep)
    images = torch.rand(8, *SHAPE)
    with torch.no_grad():
        before = model(images)
        after = take_out_idle_units(folded(model))(images)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_few_weights_leave_fewer_numbers(name: str) -> None:
    graph = folded(pruned({"name": name}, 0.01))
    before = numbers(graph)
    after = numbers(take_out_idle_units(graph))
    assert after < before
    *hidden, last = layers(graph)
    for layer, reader in zip(hidden, [*hidden[1:], last], strict=True):
        read = reader.weight.flatten(1).unflatten(1, (len(layer.weight), -1)).any(2).any(0)
        idle = ~read
        assert not layer.weight[idle].any()
        assert not layer.bias[idle].any()  # type: ignore[index]
        assert layer.weight[read].flatten(1).any(1).all()  # nothing constant is read


def test_a_whole_network_stays_as_it_is() -> None:
    graph = folded(pruned({"name": "lenet5"}, 2.0))
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    after = take_out_idle_units(graph).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class Shared(nn.Module):
    """One layer twice, and a sum that reads another one's units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.last(torch.relu(self.twice(torch.relu(self.twice(hidden)))) + hidden)


def test_units_that_cannot_be_followed_are_left_alone() -> None:
    torch.manual_seed(0)
    model = Shared()
    with torch.no_grad():
        for layer in (model.first, model.twice, model.last):
            layer.weight[:, 0] = 0.0
            layer.weight[1] = 0.0
    graph = folded(model)
    x = torch.randn(5, 4)
    assert torch.equal(take_out_idle_units(graph)(x), model(x))
    assert graph.get_submodule("first").bias.all()  # type: ignore[union-attr,operator]
