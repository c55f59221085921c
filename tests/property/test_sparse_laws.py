"""Masks, and how weights with zeros are packed: nothing is lost, and zeros are not paid for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from slimline.core.masked import Mask, MaskedLinear, copy_masked, masked, set_masks, settle
from slimline.errors import SlimlineError
from slimline.export.packed import read_packed, to_packed

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.float8_e4m3fn)


def through(state: dict[str, Tensor], folder: Path) -> tuple[dict[str, Tensor], int]:
    content = to_packed({}, state)
    path = folder / "model.slim"
    path.write_bytes(content)
    return read_packed(path)[1], len(content)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype
        and first[key].shape == second[key].shape
        and torch.equal(first[key].reshape(-1).view(torch.uint8), second[key].reshape(-1).view(torch.uint8))
        for key in first
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 999), kept=st.floats(0, 1), shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), kind=st.sampled_from(TYPES))
def test_a_sparse_weight_comes_back_to_the_last_bit(tmp_path_factory, seed, kept, shape, kind) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < kept
    weight = (torch.randn(shape, generator=generator) * 9).to(kind)
    weight.view(torch.uint8 if kind.itemsize == 1 else kind)[~mask] = 0
    state = {"a.weight": weight, "a.mask": mask, "a.bias": torch.randn(3, generator=generator), "b.weight": torch.randn(2, 2, generator=generator)}
    assert same(through(state, tmp_path_factory.mktemp("packed"))[0], state)


def test_minus_zero_comes_back_with_its_sign(tmp_path) -> None:
    back, _ = through({"a.weight": torch.tensor([1.0, -0.0, 0.0, 0.0])}, tmp_path)
    assert torch.signbit(back["a.weight"]).tolist() == [False, True, False, False]


@pytest.mark.parametrize("kind", [torch.float32, torch.int8])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
def test_positions_cost_their_entropy_and_values_what_they_are(kind, density, tmp_path) -> None:
    """Nearly: less than both a list of positions of 16 bits and a map of one bit a weight, beside the values."""
    mask = torch.rand(300, 100) < density
    weight = (torch.randn(300, 100) * 40).to(kind).masked_fill(~mask, 0)
    count, cells = int(mask.sum()), mask.numel()
    p = count / cells
    positions = cells * -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) / 8
    _, size = through({"a.weight": weight}, tmp_path)
    values = count * kind.itemsize
    assert size <= positions + values + 600
    assert size < min(cells / 8, 2 * count) + values + 300


def test_a_mask_is_of_zeros_and_ones_alone() -> None:
    assert Mask.of(torch.tensor([0.0, 1.0, 1.0])).count == 2
    for values in ([0.0, 0.5], [2.0], [float("nan")], [-1.0]):
        with pytest.raises(SlimlineError, match="a mask is of 0 and 1 alone"):
            Mask.of(torch.tensor(values))


@given(seed=st.integers(0, 999))
def test_what_a_mask_takes_has_no_say_and_no_gradient(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    kept = torch.rand(4, 5, generator=generator) < 0.5
    pruned = copy_masked(model, {"0": Mask(kept)})
    assert isinstance(pruned[0], MaskedLinear)
    assert not isinstance(model[0], MaskedLinear)
    x = torch.randn(6, 5, generator=generator)
    expected = pruned(x).detach()
    with torch.no_grad():
        pruned[0].weight[~kept] = 7.0  # what an optimizer's momentum might do
    assert torch.equal(pruned(x), expected)
    pruned(x).square().sum().backward()
    assert not bool(pruned[0].weight.grad[~kept].any())
    settle(pruned)
    assert not bool(pruned[0].weight[~kept].any())
    assert not bool(torch.signbit(pruned[0].weight[~kept]).any())


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=0.1)])
def test_a_pruned_weight_stays_exactly_zero_through_training(optimizer) -> None:
    model = copy_masked(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), {"0": Mask(torch.rand(4, 5) < 0.5)})
    rule = optimizer(model.parameters(), lr=0.1)
    for _ in range(20):
        model(torch.randn(6, 5)).square().mean().backward()
        rule.step()
        rule.zero_grad()
    assert not bool(model[0].weight[~model[0].mask].any())


def test_masks_can_be_set_again_and_only_where_there_are_weights() -> None:
    model = masked(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), {"layers": ["0"]})
    set_masks(model, {"0": Mask(torch.tensor([[True, False], [True, True]]))})
    assert not bool(model[0].weight[0, 1])
    assert masked(model, {"layers": ["0"]})[0].mask.sum() == 3
    for name, told in (("5", "no layer '5' to mask"), ("1", r"layer '1' is a ReLU")):
        with pytest.raises(SlimlineError, match=told):
            masked(model, {"layers": [name]})
