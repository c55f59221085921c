"""What every scheme that finds ranges must keep."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.core.affine import PER_TENSOR, learned_quantize
from slimline.core.codebook import linear_start, lloyd, nearest
from slimline.core.grids import of_kind
from slimline.quantization import CODEBOOKS, LEARNING, SCHEMES
from slimline.quantization.lsq import lsq
from slimline.quantization.min_max import min_max
from slimline.quantization.mse import mse
from slimline.quantization.pact import pact
from slimline.quantization.percentile import percentile
from slimline.registry import build

values = st.integers(1, 4).flatmap(
    lambda channels: st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=channels, max_size=channels), min_size=1, max_size=40).map(
        lambda rows: torch.tensor(rows).T.contiguous()
    )
)
INTEGER = {"kind": "integer", "bits": 3, "symmetric": True, "per_channel": True}


def error_of(x: torch.Tensor, record: dict = INTEGER):  # type: ignore[type-arg]
    """The squared error of `x` on a grid over a range."""
    grid = of_kind(record, x.shape)

    def error(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        grid.set_range(low, high)
        return (grid(x) - x).square().mean(1)

    return error


def found(name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return build(SCHEMES, {"name": name}, x, error_of(x))


@given(st.sampled_from(sorted(SCHEMES)), values)
def test_a_range_lies_within_its_channel_and_its_ends_are_in_order(name, x) -> None:
    low, high = found(name, x)
    assert low.shape == high.shape == x.shape[:1]
    assert (x.amin(1) <= low).all()
    assert (low <= high).all()
    assert (high <= x.amax(1)).all()


@given(st.sampled_from(sorted(SCHEMES)), values)
def test_a_channel_has_its_range_whatever_the_others_hold(name, x) -> None:
    low, high = found(name, x)
    for channel in range(len(x)):
        alone = found(name, x[channel : channel + 1])
        assert (alone[0].item(), alone[1].item()) == (low[channel].item(), high[channel].item())


@given(values)
def test_min_max_clips_nothing_and_neither_does_the_hundredth_percentile(x) -> None:
    assert torch.equal(min_max(x, error_of(x))[0], x.amin(1))
    assert torch.equal(min_max(x, error_of(x))[1], x.amax(1))
    assert all(torch.equal(a, b) for a, b in zip(percentile(x, error_of(x), share=1.0), min_max(x, error_of(x)), strict=True))


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 0.99])
def test_a_percentile_keeps_the_share_asked_for_and_hardly_more(share) -> None:
    x = torch.randn(3, 2001, generator=torch.Generator().manual_seed(0))
    low, high = percentile(x, error_of(x), share=share)
    above, below = (x <= high[:, None]).float().mean(1), (x >= low[:, None]).float().mean(1)
    assert (above >= share).all()
    assert (below >= share).all()
    assert (above <= share + 0.002).all()
    assert (below <= share + 0.002).all()


def test_an_outlier_moves_min_max_and_not_the_percentile() -> None:
    x = torch.linspace(-1, 1, 1001)[None].clone()
    x[0, 0], x[0, -1] = -1000, 1000
    assert min_max(x, error_of(x))[1].item() == 1000
    assert percentile(x, error_of(x), share=0.99)[1].item() < 1
    assert percentile(x, error_of(x), share=0.99)[0].item() > -1


RECORDS = {
    "integers with a zero point": {**INTEGER, "symmetric": False},
    "integers without": INTEGER,
    "one scale for all": {**INTEGER, "per_channel": False},
    "8-bit floats": {"kind": "float", "type": "e4m3", "per_channel": True},
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_range_of_least_error_has_no_larger_error_than_the_whole_one(record, bits) -> None:
    x = torch.randn(4, 600, generator=torch.Generator().manual_seed(bits)) ** 3
    record = {**record, "bits": bits}
    rows = x if record["per_channel"] else x.reshape(1, -1)
    error = error_of(rows, record)
    whole, best = error(*min_max(rows, error)), error(*mse(rows, error))
    assert (best <= whole).all()
    if record["kind"] == "integer" and bits <= 4:
        assert (best < 0.95 * whole).all(), "clipping long tails must pay at few bits"


def test_of_ranges_with_equal_errors_the_widest_is_taken() -> None:
    x = torch.zeros(2, 5)
    x[0, 0], x[1, 3] = -2.0, 1.0
    low, high = mse(x, lambda low, high: torch.zeros_like(low))
    assert (low.tolist(), high.tolist()) == ([-2, 0], [0, 1])


@pytest.mark.parametrize("name", sorted(LEARNING))
def test_every_way_of_learning_leaves_the_values_as_they_were_and_moves_the_scale(name) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 40)
    grid = of_kind({**INTEGER, "bits": 4}, x.shape)
    grid.set_range(-x.abs().amax(1) * 0.6, x.abs().amax(1) * 0.6)
    before = grid(x)
    grid.learn(build(LEARNING, {"name": name}, 40, grid.high))
    assert torch.equal(grid(x), before)
    optimizer = torch.optim.SGD(grid.parameters(), lr=1e-4)
    error = (grid(x) - x).square().mean()
    for _ in range(30):
        optimizer.zero_grad()
        (grid(x) - x).square().mean().backward()
        optimizer.step()
    assert (grid(x) - x).square().mean() < error
    learned, codes = grid(x), grid.encode(x)
    grid.settle()
    assert list(grid.parameters()) == []
    assert torch.equal(grid(x), learned)
    assert torch.equal(grid.decode(codes), learned)


def test_a_scale_that_is_trained_by_its_gain_goes_the_way_of_one_that_is_trained_itself() -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 50)
    grid = of_kind(INTEGER, x.shape)
    grid.set_range(x.amin(1), x.amax(1))
    grid.learn(lsq(50, grid.high))
    scale = grid.scale.clone().requires_grad_()
    ours, plain = torch.optim.SGD(grid.parameters(), lr=0.05), torch.optim.SGD([scale], lr=0.05)
    for _ in range(5):
        for optimizer in (ours, plain):
            optimizer.zero_grad()
        (grid(x) - x).square().sum().backward()
        y = learned_quantize(x, scale, grid.zero_point, 0, grid.low, grid.high, factor=grid.learning.factor)
        (y - x).square().sum().backward()
        ours.step()
        plain.step()
    assert torch.allclose(grid.step, scale.detach(), rtol=1e-4)
    assert not torch.allclose(grid.scale, scale.detach(), rtol=1e-2)


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("inside", [0.0, 1.0])
@pytest.mark.parametrize("offset", [0, 3])
def test_gradients_of_value_and_scale_are_those_of_the_formula(inside, factor, offset) -> None:
    x = torch.tensor([-5.0, -1.3, -0.2, 0.3, 0.9, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    low, high = (0, 7) if offset else (-3, 3)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    y = learned_quantize(x, scale, torch.tensor(offset), PER_TENSOR, low, high, inside=inside, factor=factor)
    y.backward(weights)
    expected, passed = 0.0, []
    for value, weight in zip(x.tolist(), weights.tolist(), strict=True):
        code = round(value / 0.5) + offset
        within = low <= code <= high
        slope = inside * (round(value / 0.5) - value / 0.5) if within else min(max(code, low), high) - offset
        expected += weight * slope * factor
        passed.append(weight if within else 0.0)
    assert scale.grad is not None
    assert x.grad is not None
    assert scale.grad.item() == pytest.approx(expected, rel=1e-5)
    assert x.grad.tolist() == passed


def test_decay_pulls_the_end_of_the_range_towards_zero() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    learned_quantize(torch.zeros(1), scale, torch.tensor(0), PER_TENSOR, 0, 15, inside=0.0, decay=0.1).sum().backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(0.1 * 0.5 * 15 * 15)
    assert pact(3, 15, decay=0.1).decay == 0.1


@given(st.sampled_from(sorted(CODEBOOKS)), values, st.integers(2, 16))
def test_a_codebook_ascends_and_stays_within_its_values(name, x, entries) -> None:
    book = build(CODEBOOKS, {"name": name}, x[0], entries)
    assert book.shape == (entries,)
    assert torch.equal(book, book.sort().values)
    assert x[0].min() <= book[0]
    assert book[-1] <= x[0].max()


@given(values, st.integers(2, 8))
def test_each_round_of_k_means_leaves_no_larger_error(x, entries) -> None:
    book = linear_start(x[0], entries)
    errors = []
    for _ in range(6):
        errors.append(float((x[0].double() - book[nearest(x[0], book)].double()).square().sum()))
        book = lloyd(x[0], book, 1)
    assert all(after <= before * (1 + 1e-4) + 1e-6 * float(x.abs().max()) ** 2 for before, after in pairwise(errors))


def test_k_means_starts_evenly_spread_and_ends_at_the_means_of_its_clusters() -> None:
    x = torch.tensor([0.0, 0.1, 0.2, 5.0, 5.2, 9.9, 10.0])
    assert linear_start(x, 3).tolist() == [0, 5, 10]
    assert torch.allclose(build(CODEBOOKS, {"name": "k_means"}, x, 3), torch.tensor([0.1, 5.1, 9.95]))
    assert torch.allclose(build(CODEBOOKS, {"name": "k_means", "rounds": 0}, x, 3), torch.tensor([0.0, 5.0, 10.0]))


def test_a_value_between_two_entries_takes_the_lower_one() -> None:
    assert nearest(torch.tensor([-9.0, 0.5, 0.6, 9.0]), torch.tensor([0.0, 1.0])).tolist() == [0, 0, 1, 1]


def test_the_gradient_of_a_shared_value_is_the_sum_over_its_cluster_and_zero_is_not_trained() -> None:
    weight = torch.tensor([[0.0, 1.0, 1.1], [0.0, -2.0, 0.9]])
    grid = of_kind({"kind": "codebook", "bits": 2, "zero": True}, weight.shape)
    grid.fill(torch.tensor([-2.0, 0.5, 1.0]), weight)
    assert grid.codes.tolist() == [[0, 3, 3], [0, 1, 3]]
    assert grid(weight).tolist() == [[0, 1, 1], [0, -2, 1]]
    (grid(weight) * torch.tensor([[10.0, 1.0, 2.0], [20.0, 4.0, 8.0]])).sum().backward()
    assert grid.entries.grad.tolist() == [4, 0, 11]
