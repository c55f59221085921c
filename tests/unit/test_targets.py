"""How much goes: exact counts, stable ties, fractions of the original, and what cannot be met."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from slimline.core.cost import measure
from slimline.core.masked import masked_layers
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.pruning import GRANULARITIES, TARGETS
from slimline.pruning.channels import Channels
from slimline.pruning.magnitude import magnitude
from slimline.pruning.n_m import NofM
from slimline.pruning.plan import Granularity, Plan
from slimline.pruning.target import Scales
from slimline.pruning.weights import Weights
from slimline.registry import build

SHAPE = (1, 8, 8)
plan_of = tiny.plan_of
REACH = {"channels": 0.4, "weights": 0.9, "n_m": 0.5}
"""A fraction that each granularity can reach on every tiny network."""


def pruned_by(model: nn.Module, plan: Plan, scales: Scales | None = None, **target) -> nn.Module:
    return plan.cut(build(TARGETS, target, scales or tiny.scales(model)).count(plan, model))(model)


def removed(model: nn.Module) -> int:
    return sum(int((~layer.mask).sum()) for layer in masked_layers(model).values())


def small(*weights: list[list[float]]) -> nn.Module:
    """Fully connected layers of these weights, one after another."""
    model = nn.Sequential(*(nn.Linear(len(w[0]), len(w), bias=False) for w in weights))
    with torch.no_grad():
        for layer, w in zip(model, weights, strict=True):
            layer.weight.copy_(torch.tensor(w))
    return model


@given(share=st.integers(1, 99), equal=st.booleans())
def test_of_a_hundred_weights_as_many_go_as_were_asked_for_even_when_all_are_equal(share, equal) -> None:
    model = small(torch.ones(10, 5).tolist() if equal else torch.randn(10, 5).tolist(), torch.ones(5, 10).tolist())
    granularity = Weights(model, SHAPE)
    plan = granularity.plan(model, magnitude(model, ()))
    if share == 99:  # a weight of each layer stays
        with pytest.raises(SlimlineError, match=r"fraction 0.99 cannot be reached: with layer_limit 1, one weight .* at most 0.9800 of the weights"):
            pruned_by(model, plan, name="fraction", amount=0.99)
        return
    assert removed(pruned_by(model, plan, name="fraction", amount=share / 100)) == share


def test_the_layers_own_limits_are_told_where_they_keep_a_target_from_being_met() -> None:
    model = small(torch.ones(10, 5).tolist(), torch.ones(5, 10).tolist())
    granularity = Weights(model, SHAPE, limits={"0": 0.1, "1": 0.0})
    with pytest.raises(SlimlineError, match=r"with layer_limit 1, limits of 2 layers \(from 0, 1\), one weight .* at most 0.0500"):
        pruned_by(model, granularity.plan(model, magnitude(model, ())), name="fraction", amount=0.5)


def test_ties_go_to_the_earlier_layer_and_the_earlier_weight() -> None:
    model = small([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]])
    pruned = pruned_by(model, plan_of(model), name="fraction", amount=0.5)
    assert pruned[0].mask.tolist() == [[False, False], [False, True]]
    assert pruned[1].mask.tolist() == [[False, True], [True, True]]


def test_the_smallest_weights_of_all_layers_go_or_the_smallest_of_each() -> None:
    model = small([[0.1, 0.2], [0.3, 0.4]], [[5.0, 6.0], [7.0, 8.0]])
    anywhere = pruned_by(model, plan_of(model), name="fraction", amount=0.25)
    assert anywhere[0].mask.tolist() == [[False, False], [True, True]]
    assert anywhere[1].mask.all()
    each = pruned_by(model, plan_of(model, scope="layer"), name="fraction", amount=0.25)
    assert [layer.mask.tolist() for layer in each] == [[[False, True], [True, True]]] * 2


def test_weights_below_a_threshold_go_and_no_others() -> None:
    model = small([[0.09, -0.05], [0.1, -3.0]], [[0.2, 0.0999], [-0.11, 1.0]])
    pruned = pruned_by(model, plan_of(model, criterion="threshold"), name="threshold")
    assert [layer.mask.tolist() for layer in pruned] == [[[False, False], [True, True]], [[True, False], [True, True]]]
    same = pruned_by(model, Weights(model, SHAPE).plan(model, magnitude(model, (), p=1)), name="threshold", below=0.1)
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(pruned, same, strict=True))


@pytest.mark.parametrize("granularity", ["channels", "weights"])
def test_a_threshold_that_would_leave_a_layer_empty_is_refused_with_the_layers_name(granularity) -> None:
    model = nn.Sequential(nn.Flatten(), *small([[0.9, 0.8], [0.3, 0.9]], [[0.01, 0.02], [0.03, 0.01]], [[0.7, 0.8]]))
    parameters = {"readers": False, "relative": False} if granularity == "channels" else {}
    made: Granularity = build(GRANULARITIES, {"name": granularity, **parameters}, model, (1, 1, 2))
    plan = made.plan(model, magnitude(model, (), p=1))
    with pytest.raises(SlimlineError, match=r"threshold 0.2 cannot be met: with layer_limit .*, and all that is left of layer '2' would be what"):
        build(TARGETS, {"name": "threshold", "below": 0.2}, tiny.scales(model, (1, 1, 2))).count(plan, model)


@pytest.mark.parametrize(("below", "scope", "told"), [(1e-9, "global", "remove nothing: no score is below"), (1.0, "layer", "scope global")])
def test_a_threshold_that_takes_nothing_or_that_is_no_order_is_refused(below, scope, told) -> None:
    model = tiny.trained("mlp")
    with pytest.raises(SlimlineError, match=told):
        pruned_by(model, plan_of(model, scope=scope), name="threshold", below=below)


@given(rows=st.integers(1, 6), groups=st.integers(1, 4), n=st.integers(1, 3), seed=st.integers(0, 99))
def test_n_of_m_keeps_the_n_best_of_each_group_of_inputs(rows, groups, n, seed) -> None:
    weight = torch.randn(rows, groups * 4, generator=torch.Generator().manual_seed(seed))
    model = small(weight.tolist())
    plan = NofM(model, SHAPE, n=n, m=4).plan(model, magnitude(model, ()))
    pruned = pruned_by(model, plan, name="fraction", amount=1 - n / 4)
    mask = pruned[0].mask.reshape(rows, groups, 4)
    assert bool((mask.sum(2) == n).all())
    parts = weight.abs().reshape(rows, groups, 4)
    assert bool((parts.masked_fill(~mask, torch.inf).amin(2) >= parts.masked_fill(mask, 0.0).amax(2)).all())


def test_n_of_m_groups_the_channels_that_a_convolution_reads_at_one_place() -> None:
    model = nn.Sequential(nn.Conv2d(8, 3, 3))
    pruned = pruned_by(model, NofM(model, (8, 8, 8)).plan(model, magnitude(model, ())), tiny.scales(model, (8, 8, 8)), name="fraction", amount=0.5)
    assert bool((pruned[0].mask.reshape(3, 2, 4, 3, 3).sum(2) == 2).all())


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_a_fraction_is_of_the_original_however_many_rounds_lead_to_it(granularity) -> None:
    model = tiny.trained("resnet")
    made: Granularity = build(GRANULARITIES, {"name": granularity}, model, SHAPE)
    reach = REACH[granularity]
    target = build(TARGETS, {"name": "fraction", "amount": reach}, tiny.scales(model))
    at_once = made.plan(model, magnitude(model, ()))
    half = build(TARGETS, {"name": "fraction", "amount": reach / 2}, tiny.scales(model))
    between = at_once.cut(half.count(at_once, model))(model)
    later = made.plan(between, magnitude(between, ()))
    count = target.count(later, between)
    assert later.units == at_once.units
    assert later.fraction(later.gone) == at_once.fraction(half.count(at_once, model))
    assert later.fraction(count) == at_once.fraction(target.count(at_once, model)) >= reach
    assert measure(later.cut(count)(between), SHAPE).nonzero_params == later.params(count)


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("resnet", "vit") else pytest.mark.slow) for name in sorted(MODELS)])
def test_what_a_plan_says_is_what_its_cut_leaves(granularity, name) -> None:
    model = tiny.trained(name)
    whole = measure(model, SHAPE)
    plan = plan_of(model, granularity)
    last = -1.0
    for count in sorted({0, 1, plan.most // 3, plan.most // 2, plan.most}):
        pruned = plan.cut(count)(model)
        cost = measure(pruned, SHAPE)
        assert cost.params - removed(pruned) == plan.params(count)
        assert plan.fraction(count) >= last
        last = plan.fraction(count)
        assert cost.macs <= whole.macs
        if granularity != "channels":
            assert removed(pruned) / sum(layer.weight.numel() for layer in masked_layers(pruned).values()) == pytest.approx(last)
    assert measure(model, SHAPE) == whole


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_multiply_accumulates_fall_by_what_was_asked_for_and_by_no_channel_more(share) -> None:
    model = tiny.trained("resnet")
    plan = plan_of(model, "channels")
    target = build(TARGETS, {"name": "macs", "amount": share}, tiny.scales(model))
    count = target.count(plan, model)
    macs = [measure(plan.cut(c)(model), SHAPE).macs for c in (count - 1, count)]
    goal = measure(model, SHAPE).macs * (1 - share)
    assert macs[1] <= goal < macs[0]
    assert target.obtained(plan, count, plan.cut(count)(model)) == pytest.approx(1 - macs[1] / measure(model, SHAPE).macs)


def test_masks_cannot_make_fewer_multiply_accumulates_and_say_so() -> None:
    model = tiny.trained("mlp")
    with pytest.raises(SlimlineError, match=r"macs 0.5 cannot be reached.* at most 0.0000 .*; masked weights are multiplied too, so take channels"):
        pruned_by(model, plan_of(model), name="macs", amount=0.5)


def nonzero_bytes(model: nn.Module) -> int:
    return 4 * sum(int(p.count_nonzero()) for p in model.parameters())


def test_a_file_gets_as_small_as_was_asked_for_and_one_that_is_small_enough_is_refused() -> None:
    model = tiny.trained("mlp")
    scales, plan = tiny.scales(model, packed_bytes=nonzero_bytes), plan_of(model)
    most = nonzero_bytes(model) // 3
    pruned = pruned_by(model, plan, scales, name="bytes", most=most)
    assert 0.98 * most < nonzero_bytes(pruned) <= 0.99 * most
    with pytest.raises(SlimlineError, match=r"remove nothing: the packed file of the whole network has at most"):
        pruned_by(model, plan, scales, name="bytes", most=2 * nonzero_bytes(model))
    with pytest.raises(SlimlineError, match=r"bytes 9 cannot be reached.* the packed file has \d+ bytes at least"):
        pruned_by(model, plan, scales, name="bytes", most=9)
    target = build(TARGETS, {"name": "bytes", "most": most}, scales)
    target.check(pruned)
    with pytest.raises(SlimlineError, match=r"retrained, the packed file has"):
        target.check(model)


@pytest.mark.parametrize("points", [1.0, 10.0, 40.0])
def test_as_much_goes_as_a_drop_of_accuracy_allows(points) -> None:
    """With an accuracy that falls by one point a percent of the weights."""
    model = tiny.trained("mlp")
    plan = plan_of(model)
    scales = tiny.scales(model, accuracy=lambda m: 0.9 - removed(m) / plan.units)
    target = build(TARGETS, {"name": "accuracy_drop", "points": points}, scales)
    count = target.count(plan, model)
    assert count == int(points / 100 * plan.units)
    assert target.obtained(plan, count, plan.cut(count)(model)) <= points


def test_a_drop_that_one_unit_exceeds_or_that_earlier_rounds_have_used_up_is_refused() -> None:
    model = tiny.trained("mlp")
    plan = plan_of(model)
    cliff = tiny.scales(model, accuracy=lambda m: 0.9 if removed(m) == 0 else 0.5)
    with pytest.raises(SlimlineError, match=r"one unit less costs 40.00 points already"):
        pruned_by(model, plan, cliff, name="accuracy_drop", points=3.0)
    between = plan.cut(10)(model)
    with pytest.raises(SlimlineError, match=r"earlier rounds have left is 40.00 points below"):
        build(TARGETS, {"name": "accuracy_drop", "points": 3.0}, cliff).count(Weights(model, SHAPE).plan(between, magnitude(between, ())), between)


@pytest.mark.parametrize("amount", [0.0, 1.0, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize("target", ["fraction", "params", "macs"])
def test_shares_outside_nought_and_one_are_refused(target, amount) -> None:
    with pytest.raises(SlimlineError, match=r"amount"):
        build(TARGETS, {"name": target, "amount": amount}, tiny.scales(tiny.trained("mlp")))


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_layers_that_do_not_exist_are_refused_with_those_that_do(granularity) -> None:
    model = tiny.trained("mlp")
    for parameters in ({"layers": ("nowhere*",)}, {"skip": ("nowhere*",)}):
        with pytest.raises(SlimlineError, match=r"no prunable layer is called 'nowhere\*'; there are: network\.hidden\.0, network\.hidden\.3"):
            plan_of(model, granularity, **parameters)


@pytest.mark.parametrize("granularity", ["channels", "weights"])
def test_layers_that_are_skipped_or_not_named_stay_whole(granularity) -> None:
    model = tiny.trained("mlp")
    pruned = pruned_by(model, plan_of(model, granularity, skip=("*.hidden.0",)), name="fraction", amount=0.3)
    assert torch.equal(pruned.network.hidden[0].weight, model.network.hidden[0].weight)
    only = pruned_by(model, plan_of(model, granularity, layers=("*.hidden.0",)), name="fraction", amount=0.3)
    left = only.network.hidden[0]
    assert (left.weight.shape[0] if granularity == "channels" else int(left.weight.count_nonzero())) < 0.75 * (
        24 if granularity == "channels" else 24 * 64
    )
    assert only.network.hidden[3].weight.shape[0] == 32
    if granularity == "weights":
        assert torch.equal(only.network.hidden[3].weight, model.network.hidden[3].weight)


@pytest.mark.parametrize("granularity", ["channels", "weights"])
def test_a_layer_loses_no_more_than_its_own_limit(granularity) -> None:
    model = tiny.trained("mlp")
    plan = plan_of(model, granularity, limits={"network.hidden.0": 0.25})
    first = plan.cut(plan.most)(model).network.hidden[0]
    assert (first.weight.shape[0] if granularity == "channels" else int(first.weight.count_nonzero())) == 0.75 * (
        24 if granularity == "channels" else 24 * 64
    )
    with pytest.raises(SlimlineError, match=r"limits: no layer .* is called 'nowhere'"):
        plan_of(model, granularity, limits={"nowhere": 0.5})


def test_scores_that_say_nothing_of_single_weights_and_models_that_cannot_be_pruned_are_refused() -> None:
    model = tiny.trained("resnet")
    with pytest.raises(SlimlineError, match=r"gives no score to each weight of layer 'network.stem.0'"):
        plan_of(model, criterion="batch_norm")
    with pytest.raises(SlimlineError, match=r"no prunable layer"):
        Weights(nn.Sequential(nn.ReLU()), SHAPE)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(SlimlineError, match=r"layers '0' and '1' share one weight"):
        Weights(tied, SHAPE)
    with pytest.raises(SlimlineError, match=r"3 divides the inputs of no layer"):
        NofM(small(torch.ones(2, 4).tolist()), SHAPE, n=1, m=3)
    with pytest.raises(SlimlineError, match=r"n is smaller than m"):
        NofM(model, SHAPE, n=4, m=4)
    pruned = pruned_by(model, plan_of(model), name="fraction", amount=0.5)
    with pytest.raises(SlimlineError, match=r"has masks.*prune channels first"):
        Channels(pruned, SHAPE)
    scores: dict[str, Tensor] = {name: torch.full_like(s, torch.nan) for name, s in magnitude(model, ()).items()}
    for granularity in (Weights(model, SHAPE), Channels(model, SHAPE)):
        with pytest.raises(SlimlineError, match=r"are no numbers"):
            granularity.plan(model, scores)
