"""A network cut for a pipeline, or into units to be sharded, is the same network."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.models.network import network
from slimline.runtime.parallel.fsdp import UNIT, units
from slimline.runtime.parallel.pipeline import cut

SHAPE = (1, 8, 8)


class Chain(nn.Module):
    """Linear layers of the given widths; `skips` name those that are added to their own input, where its width allows."""

    def __init__(self, widths: list[int], skips: set[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.skips = {n for n in skips if n < len(widths) - 1 and widths[n] == widths[n + 1]}

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = torch.relu(layer(x)) + x if number in self.skips else layer(x)
        return x


def weights(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def smallest_largest(sizes: list[int], parts: int) -> int:
    """The largest part of the best division of `sizes` into stretches, by trying every one."""
    choices = combinations(range(1, len(sizes)), parts - 1)
    return min(max(sum(sizes[a:b]) for a, b in pairwise((0, *places, len(sizes)))) for places in choices)


def same_layers_once(model: nn.Module, chain: list[nn.Module]) -> None:
    held = [id(p) for part in chain for p in part.parameters()]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def composed(chain: list[nn.Module], values: Tensor) -> Tensor:
    for part in chain:
        values = part(values)
    return values


@given(
    widths=st.lists(st.sampled_from([1, 2, 3, 8]), min_size=3, max_size=9),
    skips=st.sets(st.integers(0, 7)),
    parts=st.integers(1, 4),
)
def test_parts_hold_every_layer_once_compute_the_same_and_none_is_larger_than_it_must_be(widths: list[int], skips: set[int], parts: int) -> None:
    model = Chain(widths, skips)
    if parts > len(model.layers):
        with pytest.raises(SlimlineError, match=rf"fewer than the {parts} processes"):
            cut(model, parts)
        return
    chain = cut(model, parts)
    assert len(chain) == parts
    same_layers_once(model, chain)
    values = torch.randn(5, widths[0])
    assert torch.equal(composed(chain, values), model(values))
    assert max(map(weights, chain)) == smallest_largest([weights(layer) for layer in model.layers], parts)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("parts", [2, 3])
def test_a_network_of_the_zoo_is_the_chain_of_its_parts(name: str, parts: int) -> None:
    model = tiny.trained(name)
    chain = cut(model, parts)
    same_layers_once(model, chain)
    images = torch.rand(4, *SHAPE)
    assert torch.equal(composed(chain, images), model(images))


def test_halves_of_a_resnet_20_hold_at_most_60_percent_each() -> None:
    model = network({"name": "resnet", "depth": 20, "width": 16}, (3, 32, 32), 10, (0.5,) * 3, (0.2,) * 3)
    largest = max(map(weights, cut(model, 2)))
    assert largest <= 0.6 * weights(model)


class Undecided(nn.Module):
    """Branches on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if x.sum() > 0 else x


class Dense(nn.Module):
    """Two tensors are alive wherever it might be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


@pytest.mark.parametrize(("model", "reason"), [(Undecided(), "cannot be traced"), (Dense(), "fewer than the 2 processes")])
def test_a_network_that_cannot_be_cut_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(SlimlineError, match=reason):
        cut(model, 2)


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_units_are_apart_complete_and_small_where_modules_are(name: str) -> None:
    model = tiny.trained(name)
    limit = int(UNIT * weights(model))
    found = units(model, limit)
    same_layers_once(model, found)
    assert all(weights(unit) <= limit or not list(unit.children()) for unit in found)
