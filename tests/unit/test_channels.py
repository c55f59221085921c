"""Cutting channels: how many, which, and what the rest computes."""

from functools import cache

import pytest
import torch
from torch import nn

import tiny
from slimline.core.resized import shapes
from slimline.errors import SlimlineError
from slimline.models.network import network
from slimline.pruning.channels import ChannelGroup, channel_groups
from slimline.pruning.magnitude import magnitude
from slimline.pruning.plan import Plan
from slimline.pruning.targets.params import Params
from tiny import cut_channels
from zeroed import ranking, units_left, zeroed

SHAPE = (1, 8, 8)
ZOO = pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@cache
def whole(name: str) -> nn.Module:
    """The network that is cut; cuts must not change it."""
    return tiny.trained(name)


@cache
def planned(name: str, layer_limit: float, multiple_of: int) -> Plan:
    # To find out which layers share channels takes most of the time.
    return tiny.plan_of(whole(name), "channels", layer_limit=layer_limit, multiple_of=multiple_of)


@cache
def cut(name: str, amount: float, layer_limit: float = 0.9, multiple_of: int = 1) -> nn.Module:
    plan = planned(name, layer_limit, multiple_of)
    return plan.cut(Params(tiny.scales(whole(name)), amount=amount).count(plan, whole(name)))(whole(name))


@cache
def groups_of(name: str) -> list[ChannelGroup]:
    return channel_groups(whole(name), SHAPE)


def gone(name: str, pruned: nn.Module) -> float:
    return 1 - size(pruned) / size(whole(name))


@ZOO
def test_at_least_what_was_asked_for_goes_and_by_the_smallest_cut_that_suffices(name) -> None:
    amounts = (0.05, 0.1, 0.15, 0.3, 0.5, 0.52, 0.54, 0.7)
    obtained = [gone(name, cut(name, amount)) for amount in amounts]
    assert obtained == sorted(obtained)
    assert all(share >= amount for amount, share in zip(amounts, obtained, strict=True))
    for smaller, share in zip(amounts, obtained, strict=True):
        for larger, other in zip(amounts, obtained, strict=True):
            if smaller < larger <= share:
                assert other == share, f"{smaller} removes {share}, enough for {larger}, where {other} was removed"


@ZOO
def test_the_same_cut_twice_is_the_same_to_the_last_bit_and_the_original_keeps_its_channels(name, images) -> None:
    model = tiny.trained(name)
    before, output = shapes(model), model(images)
    again = cut_channels(model, magnitude(model, ()), SHAPE, amount=0.5, layer_limit=0.9)
    assert shapes(model) == before
    assert torch.equal(model(images), output)
    first, second = cut(name, 0.5).state_dict(), again.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@ZOO
@pytest.mark.parametrize("multiple_of", [2, 4])
def test_what_is_left_of_a_cut_layer_is_a_multiple(name, multiple_of) -> None:
    pruned = cut(name, 0.3, multiple_of=multiple_of)
    assert gone(name, pruned) >= 0.3
    for group in groups_of(name):
        left = pruned.get_submodule(group.root).weight.shape[0]
        assert left == group.width or left % multiple_of == 0


@ZOO
@pytest.mark.parametrize(("limit", "amount"), [(0.25, 0.3), (0.5, 0.55)])
def test_no_layer_loses_more_than_its_limit(name, limit, amount) -> None:
    # The stream between a ViT's blocks stays, so its rest loses less than the square of what is left of each layer.
    pruned = cut(name, 0.7 * amount if name == "vit" else amount, layer_limit=limit)
    lost = [1 - units_left(group, pruned) / group.units for group in groups_of(name)]
    assert max(lost) <= limit
    assert max(lost) > 0


@ZOO
def test_one_channel_of_each_layer_stays_however_high_the_limit(name) -> None:
    # A channel of each group of its norms stays, and the stream between the blocks of a ViT.
    amount = 0.8 if name.endswith("group") else 0.7 if name == "vit" else 0.9
    pruned = cut(name, amount, layer_limit=0.999)
    assert all(pruned.get_submodule(group.root).weight.shape[0] >= 1 for group in groups_of(name))
    assert pruned(torch.rand(2, *SHAPE)).shape == (2, 3)


@ZOO
@pytest.mark.parametrize(("limit", "multiple_of"), [(0.3, 1), (0.9, 4)])
def test_an_amount_out_of_reach_is_refused_with_how_far_one_can_get(name, limit, multiple_of) -> None:
    with pytest.raises(SlimlineError, match=rf"prune.target params 0.99 cannot be reached: with layer_limit {limit:g} and ") as refusal:
        cut(name, 0.99, limit, multiple_of)
    reach = float(str(refusal.value).rsplit("at most ", 1)[1].split()[0])
    assert abs(gone(name, cut(name, reach - 0.001, limit, multiple_of)) - reach) < 0.002


ACROSS_CHANNELS = ("layer", "group")
"""Norms whose mean and variance are taken over several channels, so that a channel of zeros is not the same as none."""


@pytest.mark.parametrize("name", tiny.shared(name for name in tiny.ZOO if not name.endswith(ACROSS_CHANNELS)))
@pytest.mark.parametrize("multiple_of", [1, 2])
def test_the_least_valuable_channels_go_and_the_rest_computes_as_if_they_were_zero(name, multiple_of, images) -> None:
    model, pruned = whole(name), cut(name, 0.4, multiple_of=multiple_of)
    assert torch.allclose(pruned(images), zeroed(model, groups_of(name), magnitude(model, ()), pruned)(images), atol=1e-5)


@pytest.mark.parametrize("norm", ACROSS_CHANNELS)
@pytest.mark.parametrize("model_name", ["resnet", "mobilenet", "mobilenet_v2"])  # a norm follows the first convolution
def test_a_channel_that_stays_keeps_its_weights_and_its_norms_scale_and_shift(norm, model_name) -> None:
    model = tiny.trained(f"{model_name} {norm}")
    scores = magnitude(model, ())
    pruned = cut_channels(model, scores, SHAPE, amount=0.6, layer_limit=0.9)
    groups = channel_groups(model, SHAPE)
    (place,) = (place for place, group in enumerate(groups) if any((share.layer, share.dim) == ("network.stem.0", 0) for share in group.shares))
    left = pruned.network.stem[0].out_channels
    kept = sorted(channel for _, channel in ranking(groups, scores)[place][groups[place].width - left :])
    assert 0 < left < groups[place].width
    assert torch.equal(pruned.network.stem[0].weight, model.network.stem[0].weight[kept])
    assert torch.equal(pruned.network.stem[1].weight, model.network.stem[1].weight[kept])
    assert torch.equal(pruned.network.stem[1].bias, model.network.stem[1].bias[kept])


@pytest.mark.parametrize(("groups", "multiple_of", "left"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (4, 6, 12), (2, 3, 6)])
def test_the_groups_of_a_group_norm_divide_what_is_left(groups, multiple_of, left, images) -> None:
    model = tiny.warmed(
        network({"name": "resnet", "depth": 8, "width": 12, "norm": {"name": "group", "groups": groups}}, SHAPE, 3, (0.4,), (0.3,)), SHAPE
    )
    with pytest.raises(SlimlineError, match="cannot be reached") as refusal:
        cut_channels(model, magnitude(model, ()), SHAPE, amount=0.999, layer_limit=0.95, multiple_of=multiple_of)
    most = float(str(refusal.value).rsplit("at most ", 1)[1].split()[0])
    for amount in (0.2, 0.5, most - 0.001):
        if amount > most:
            continue
        pruned = cut_channels(model, magnitude(model, ()), SHAPE, amount=amount, layer_limit=0.95, multiple_of=multiple_of)
        widths = [pruned.get_submodule(group.root).weight.shape[0] for group in channel_groups(model, SHAPE)]
        assert all(width % groups == 0 for width in widths)
        assert pruned(images).shape == (16, 3)
    assert min(widths) == left


def chain(widths: tuple[int, int]) -> nn.Sequential:
    first, second = widths
    return nn.Sequential(nn.Conv2d(1, first, 3), nn.ReLU(), nn.Conv2d(first, second, 3), nn.ReLU(), nn.Flatten(), nn.Linear(second * 16, 3))


@pytest.mark.parametrize("amount", [0.05, 0.2, 0.35, 0.5, 0.65, 0.8])
def test_the_fewest_channels_that_suffice_are_cut_in_the_order_of_their_value(amount) -> None:
    model = chain((6, 7)).eval()
    scores = {key: torch.rand(p.shape, dtype=torch.float64) for key, p in model.named_parameters() if p.ndim > 1}
    groups = channel_groups(model, SHAPE)
    assert [(group.root, group.width) for group in groups] == [("0", 6), ("2", 7)]
    ranked = ranking(groups, scores)
    order = sorted((value, number) for number, group in enumerate(ranked) for value, _ in group[: len(group) - 1])
    widths = [6, 7]
    while size(chain(tuple(widths))) > size(model) * (1 - amount):
        widths[order.pop(0)[1]] -= 1
    pruned = cut_channels(model, scores, SHAPE, amount=amount, layer_limit=0.999)
    assert [pruned[0].out_channels, pruned[2].out_channels] == widths
    kept = sorted(channel for _, channel in ranked[0][6 - widths[0] :])
    assert torch.equal(pruned[0].weight, model[0].weight[kept])


def test_equal_channels_go_one_by_one_the_first_before_the_last() -> None:
    model = chain((6, 6)).eval()
    scores = {key: torch.ones(p.shape) for key, p in model.named_parameters() if p.ndim > 1}
    pruned = cut_channels(model, scores, SHAPE, amount=0.1, layer_limit=0.9)
    lost = 6 - pruned[0].out_channels
    assert 0 < lost < 5
    assert torch.equal(pruned[0].weight, model[0].weight[lost:])


def test_a_model_without_channels_to_cut_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.raises(SlimlineError, match="no channels that can be pruned"):
        cut_channels(model, magnitude(model, ()), SHAPE, amount=0.5, layer_limit=0.9)


@ZOO
def test_the_logits_are_never_cut(name) -> None:
    assert cut(name, 0.7)(torch.rand(2, *SHAPE)).shape == (2, 3)
    assert all(group.root != "network.classifier" for group in groups_of(name))
