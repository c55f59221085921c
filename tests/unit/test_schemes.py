"""What every scheme that finds ranges must keep."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.quantization import SCHEMES
from slimline.quantization.min_max import min_max
from slimline.quantization.percentile import percentile
from slimline.registry import build

values = st.integers(1, 4).flatmap(
    lambda channels: st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=channels, max_size=channels), min_size=1, max_size=40).map(
        lambda rows: torch.tensor(rows).T.contiguous()
    )
)


@given(st.sampled_from(sorted(SCHEMES)), values)
def test_a_range_lies_within_its_channel_and_its_ends_are_in_order(name, x) -> None:
    low, high = build(SCHEMES, {"name": name}, x)
    assert low.shape == high.shape == x.shape[:1]
    assert (x.amin(1) <= low).all()
    assert (low <= high).all()
    assert (high <= x.amax(1)).all()


@given(st.sampled_from(sorted(SCHEMES)), values)
def test_a_channel_has_its_range_whatever_the_others_hold(name, x) -> None:
    low, high = build(SCHEMES, {"name": name}, x)
    for channel in range(len(x)):
        alone = build(SCHEMES, {"name": name}, x[channel : channel + 1])
        assert (alone[0].item(), alone[1].item()) == (low[channel].item(), high[channel].item())


@given(values)
def test_min_max_clips_nothing_and_neither_does_the_hundredth_percentile(x) -> None:
    assert torch.equal(min_max(x)[0], x.amin(1))
    assert torch.equal(min_max(x)[1], x.amax(1))
    assert all(torch.equal(a, b) for a, b in zip(percentile(x, share=1.0), min_max(x), strict=True))


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 0.99])
def test_a_percentile_keeps_the_share_asked_for_and_hardly_more(share) -> None:
    x = torch.randn(3, 2001, generator=torch.Generator().manual_seed(0))
    low, high = percentile(x, share=share)
    above, below = (x <= high[:, None]).float().mean(1), (x >= low[:, None]).float().mean(1)
    assert (above >= share).all()
    assert (below >= share).all()
    assert (above <= share + 0.002).all()
    assert (below <= share + 0.002).all()


def test_an_outlier_moves_min_max_and_not_the_percentile() -> None:
    x = torch.linspace(-1, 1, 1001)[None].clone()
    x[0, 0], x[0, -1] = -1000, 1000
    assert min_max(x)[1].item() == 1000
    assert percentile(x, share=0.99)[1].item() < 1
    assert percentile(x, share=0.99)[0].item() > -1
