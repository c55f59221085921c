"""The resized form: from channel numbers back to shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from slimline.core.resized import differing, resized
from slimline.errors import SlimlineError


def chain(first: int, second: int) -> nn.Module:
    """A convolution with a bias, a depthwise one without, a norm of each kind, a classifier."""
    return nn.Sequential(
        nn.Conv2d(1, first, 3, bias=True),
        nn.BatchNorm2d(first),
        nn.Conv2d(first, first, 3, groups=first, bias=False),
        nn.InstanceNorm2d(first, affine=True),
        nn.Conv2d(first, second, 1),
        nn.GroupNorm(1, second),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second, 3),
    )


widths = st.integers(1, 9)


@settings(max_examples=15)
@given(widths, widths, widths, widths)
def test_a_network_brought_to_the_shapes_of_another_takes_its_tensors_and_computes_the_same(a, b, c, d) -> None:
    changed = tiny.warmed(chain(c, d), (1, 8, 8))
    rebuilt = resized(chain(a, b), differing(chain(a, b), changed)).eval()
    rebuilt.load_state_dict(changed.state_dict())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(rebuilt(images), changed(images))


def test_only_layers_that_differ_are_recorded() -> None:
    assert differing(chain(4, 6), chain(4, 6)) == {}
    record = differing(chain(4, 6), chain(4, 5))
    assert record == {"4": {"in_channels": 4, "out_channels": 5, "groups": 1}, "5": {"num_channels": 5}, "8": {"in_features": 5, "out_features": 3}}


def test_a_depthwise_layer_keeps_one_group_a_channel() -> None:
    model = resized(chain(4, 6), differing(chain(4, 6), chain(3, 6)))
    assert (model[2].groups, tuple(model[2].weight.shape)) == (3, (3, 1, 3, 3))


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"9": {"num_features": 3}}, "'9'"),
        ({"1.nowhere": {"num_features": 3}}, "'1.nowhere'"),
        ({"1": {"num_features": 0}}, "'1'"),
        ({"1": {"out_features": 3}}, "'1'"),
        ({"6": {"num_features": 3}}, "'6'"),
        ({"8": {"in_features": 3}}, "'8'"),
        ({"5": {"num_features": 3}}, "'5'"),
    ],
)
def test_a_record_that_fits_no_layer_is_refused_with_the_layers_name(record, named) -> None:
    with pytest.raises(SlimlineError, match=named):
        resized(chain(4, 6), record)


def test_a_changed_layer_of_another_kind_is_refused_by_name() -> None:
    before = nn.Sequential(nn.Conv2d(1, 8, 3), nn.PReLU(8))
    after = nn.Sequential(nn.Conv2d(1, 6, 3), nn.PReLU(6))
    with pytest.raises(SlimlineError, match=r"layer '1' \(PReLU\) changed its shape"):
        differing(before, after)
