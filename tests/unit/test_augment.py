"""Augmentations and mixes against slow references, and the numbers that they are decided by."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from slimline.core.draws import Draws
from slimline.data.augment import AUGMENTATIONS
from slimline.data.augment.sampling import bilinear, folded, nearest
from slimline.data.mix import MIXES
from slimline.errors import SlimlineError
from slimline.registry import build

DRAWS = Draws(0, 0, "test")
OUTSIDE = ("black", "edge", "reflect")
REQUIRED = {"shift": {"pixels": 2}}
EACH = pytest.mark.parametrize("name", AUGMENTATIONS)
EACH_MIX = pytest.mark.parametrize("name", MIXES)


def augmented(name: str, images: torch.Tensor, samples: torch.Tensor, draws: Draws = DRAWS, **parameters: object) -> torch.Tensor:
    return build(AUGMENTATIONS, {"name": name, **REQUIRED.get(name, {}), **parameters}, draws)(images, samples)


def mixed(name: str, images: torch.Tensor, partners: torch.Tensor, samples: torch.Tensor, **parameters: object) -> tuple[torch.Tensor, torch.Tensor]:
    return build(MIXES, {"name": name, **parameters}, DRAWS)(images, partners, samples)


# Numbers.


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_samples_numbers_do_not_depend_on_what_else_is_asked_for(count) -> None:
    samples = torch.tensor([5, 0, 10**12, 3, -1])
    for kind in (DRAWS.uniform, DRAWS.normal, lambda samples, count: DRAWS.integers(samples, count, 10)):
        whole = kind(samples, 9)
        assert torch.equal(kind(samples[2:3], count), whole[2:3, :count])
        assert torch.equal(kind(samples.flip(0), count), whole.flip(0)[:, :count])


@pytest.mark.parametrize("other", [Draws(1, 0, "test"), Draws(0, 1, "test"), Draws(0, 0, "other"), Draws(2**32 - 1, 99_999, "test")])
def test_another_seed_epoch_or_stream_gives_unrelated_numbers(other) -> None:
    ours, theirs = (draws.uniform(torch.arange(5000), 2).flatten() for draws in (DRAWS, other))
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.04


@pytest.mark.parametrize("spacing", [1, 2, 1024, 2**32])
def test_uniform_numbers_are_uniform_and_unrelated_between_samples_and_draws(spacing) -> None:
    numbers = DRAWS.uniform(torch.arange(4000) * spacing, 4).double().numpy()
    assert 0 <= numbers.min() < numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.06
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.06
    squares, _, _ = np.histogram2d(numbers[:, 0], numbers[:, 1], bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(squares.ravel()).pvalue > 1e-3


def test_whole_numbers_are_all_met_alike() -> None:
    counts = torch.bincount(DRAWS.integers(torch.arange(5000), 2, 7).flatten(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_normal_numbers_are_normal() -> None:
    numbers = DRAWS.normal(torch.arange(2000), 10).double().numpy()
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers.T) - np.eye(10)).max() < 0.1
    assert numbers.mean() == pytest.approx(0, abs=0.03)
    assert numbers.std() == pytest.approx(1, abs=0.03)


def test_the_numbers_are_those_of_splitmix_in_pythons_own_integers() -> None:
    import hashlib

    def stirred(word: int) -> int:
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    gamma, key = 0x9E3779B97F4A7C15, int.from_bytes(hashlib.sha256(b"3 4 five").digest()[:8], "little")
    expected = [[stirred((stirred((key + s * gamma) % 2**64) + k * gamma) % 2**64) >> 40 for k in (1, 2, 3)] for s in (0, 1, 10**9)]
    assert (Draws(3, 4, "five").uniform(torch.tensor([0, 1, 10**9]), 3) * 2**24).long().tolist() == expected


# What all have in common.


@EACH
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (2, 1, 4), (1, 1, 1)])
def test_a_view_keeps_shape_and_range_and_has_the_same_bits_in_any_batch(name, shape) -> None:
    images, samples = torch.rand(33, *shape), torch.randperm(1000)[:33]
    views = augmented(name, images, samples)
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert 0 <= views.min() <= views.max() <= 1
    assert torch.equal(augmented(name, images, samples), views)
    for size in (1, 2, 7, 16):
        assert torch.equal(augmented(name, images[:size], samples[:size]), views[:size])
        assert torch.equal(augmented(name, images[-size:].flip(0), samples[-size:].flip(0)), views[-size:].flip(0))


@EACH
def test_an_augmentation_changes_images_and_not_its_input(name) -> None:
    images, before = (torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert not torch.equal(augmented(name, images, torch.arange(20)), before)
    assert torch.equal(images, before)


@EACH
def test_an_augmentation_stays_on_the_device_of_its_images(name) -> None:
    """A tensor made on the processor would not go together with one on `meta`."""
    images, samples = torch.rand(4, 3, 8, 8, device="meta"), torch.arange(4, device="meta")
    assert augmented(name, images, samples).device.type == "meta"


@EACH_MIX
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (1, 1, 1)])
def test_a_mixed_view_has_the_same_bits_in_any_batch_and_its_weight_is_a_share(name, shape) -> None:
    images, partners, samples = torch.rand(33, *shape), torch.rand(33, *shape), torch.randperm(1000)[:33]
    views, weights = mixed(name, images, partners, samples)
    assert views.shape == images.shape
    assert 0 <= views.min() <= views.max() <= 1
    assert 0 <= weights.min() <= weights.max() <= 1
    for size in (1, 2, 7, 16):
        some, own = mixed(name, images[:size], partners[:size], samples[:size])
        assert torch.equal(some, views[:size])
        assert torch.equal(own, weights[:size])


@EACH_MIX
def test_a_mix_stays_on_the_device_of_its_images(name) -> None:
    images, samples = torch.rand(4, 3, 8, 8, device="meta"), torch.arange(4, device="meta")
    assert {tensor.device.type for tensor in mixed(name, images, images, samples)} == {"meta"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("shift", {"pixels": 0}),
        ("shift", {"pixels": 1, "outside": "white"}),
        ("flip", {"horizontal": 1.5}),
        ("crop", {"area": 0.0}),
        ("crop", {"ratio": 0.5}),
        ("rotate", {"degrees": 0.0}),
        ("affine", {"scale": (1.2, 0.8)}),
        ("affine", {"scale": (0.0, 1.0)}),
        ("affine", {"shear": 90.0}),
        ("cutout", {"size": 0.0}),
        ("noise", {"std": 0.0}),
    ],
)
def test_an_impossible_parameter_is_refused(name, parameters) -> None:
    with pytest.raises(SlimlineError, match=rf"method \"{name}\""):
        build(AUGMENTATIONS, {"name": name, **parameters}, DRAWS)


# Each against a slow reference.


def test_half_of_the_images_are_flipped_and_each_is_whole() -> None:
    images = torch.rand(2000, 1, 2, 3)
    views = augmented("flip", images, torch.arange(2000), horizontal=0.5, vertical=0.25)
    across, over = (views == images.flip(3)).flatten(1).all(1), (views == images.flip(2)).flatten(1).all(1)
    both, neither = (views == images.flip(2, 3)).flatten(1).all(1), (views == images).flatten(1).all(1)
    assert (across.int() + over.int() + both.int() + neither.int() == 1).all()
    assert [float(kind.float().mean()) for kind in (across, over, both, neither)] == pytest.approx([0.375, 0.125, 0.125, 0.375], abs=0.04)


@pytest.mark.parametrize("pixels", [1, 3])
def test_a_shift_is_that_of_the_naive_loop(pixels) -> None:
    images, samples = torch.rand(9, 2, 5, 6), torch.randperm(100)[:9]
    offsets = DRAWS.integers(samples, 2, 2 * pixels + 1) - pixels
    expected = torch.zeros_like(images)
    for n, (down, right) in enumerate(offsets.tolist()):
        for row in range(5):
            for column in range(6):
                if 0 <= row + down < 5 and 0 <= column + right < 6:
                    expected[n, :, row + down, column + right] = images[n, :, row, column]
    assert torch.equal(augmented("shift", images, samples, pixels=pixels), expected)


def test_a_shift_reaches_every_distance_in_each_direction() -> None:
    images = torch.zeros(400, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    assert (augmented("shift", images, torch.arange(400), pixels=2).sum(0) > 0).all()


@pytest.mark.parametrize(("outside", "mode"), [("edge", "replicate"), ("reflect", "reflect"), ("black", "constant")])
def test_what_comes_in_at_the_edges_is_what_torch_pads_with(outside, mode) -> None:
    images = torch.rand(2, 3, 6, 7)
    rows, columns = (torch.arange(-4, side + 4).float().expand(2, -1) for side in (6, 7))
    assert torch.equal(nearest(images, rows, columns, outside), F.pad(images, (4,) * 4, mode=mode))


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_folding_ends_within_the_image_from_however_far(outside, length) -> None:
    frame = 1 if outside == "black" else 0
    positions = folded(torch.linspace(-50, 50, 4001), length, outside)
    assert -frame <= positions.min() <= positions.max() <= length - 1 + frame


@pytest.mark.parametrize(("outside", "padding"), [("black", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_bilinear_reading_is_that_of_torch(outside, padding) -> None:
    images, rows, columns = torch.rand(4, 3, 6, 7), torch.rand(4, 5, 8) * 16 - 5, torch.rand(4, 5, 8) * 16 - 5
    grid = torch.stack([columns / 3 - 1, rows / 2.5 - 1], dim=3)
    expected = F.grid_sample(images, grid, padding_mode=padding, align_corners=True)
    assert torch.allclose(bilinear(images, rows, columns, outside), expected, atol=1e-5)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_an_affine_map_that_moves_nothing_gives_the_very_same_image(outside) -> None:
    images = torch.rand(5, 2, 6, 9)
    still = {"degrees": 0.0, "translate": 0.0, "scale": (1.0, 1.0), "shear": 0.0}
    assert torch.equal(augmented("affine", images, torch.arange(5), outside=outside, **still), images)


def test_an_affine_map_is_the_one_of_its_formula() -> None:
    images, samples = torch.rand(6, 1, 7, 9), torch.arange(6)
    ours = augmented("affine", images, samples, degrees=30.0, translate=0.2, scale=(0.7, 1.4), shear=20.0)
    for n, (turn, slant, size, down, right) in enumerate(DRAWS.uniform(samples, 5).double().tolist()):
        angle, lean = math.radians(30 * (2 * turn - 1)), math.tan(math.radians(20 * (2 * slant - 1)))
        scale, (dx, dy) = 0.7 + 0.7 * size, ((2 * right - 1) * 0.2 * 9, (2 * down - 1) * 0.2 * 7)
        turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        inverse = np.linalg.inv(scale * turned @ np.array([[1, lean], [0, 1]]))
        for row in range(7):
            for column in range(9):
                x, y = inverse @ [column - 4 - dx, row - 3 - dy]
                seen = bilinear(images[n : n + 1], torch.tensor([[[y + 3.0]]]).float(), torch.tensor([[[x + 4.0]]]).float(), "black")
                assert float(ours[n, 0, row, column]) == pytest.approx(float(seen), abs=2e-3)


def test_a_rotation_keeps_a_disc_and_turns_to_both_sides() -> None:
    y, x = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(31.0) - 15, indexing="ij")
    disc = (1 - (x**2 + y**2).sqrt() / 12).clamp(min=0).expand(50, 1, 31, 31)
    assert (augmented("rotate", disc, torch.arange(50), degrees=180.0) - disc).abs().max() < 0.05
    hand = ((x.abs() < 1) & (y < 0)).float().expand(50, 1, 31, 31)
    leaning = (augmented("rotate", hand, torch.arange(50), degrees=30.0) * x).sum((1, 2, 3))
    assert leaning.min() < -20
    assert leaning.max() > 20


def test_a_crop_shows_a_part_and_nothing_from_outside() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    ramp = torch.stack([(y + 0.5) / 16, (x + 0.5) / 24]).expand(500, 2, 16, 24)
    views = augmented("crop", ramp, torch.arange(500), area=0.25, ratio=1.5)
    high, wide = ((views[:, 0, 12, 0] - views[:, 0, 4, 0]) * 2, (views[:, 1, 0, 18] - views[:, 1, 0, 6]) * 2)
    assert (high * wide).min() > 0.25 - 0.02
    assert (high * wide).max() < 1.02
    assert (wide / high).min() == pytest.approx(1 / 1.5, abs=0.05)
    assert (wide / high).max() == pytest.approx(1.5, abs=0.05)
    assert views[:, 0].amin((1, 2)).min() < 0.05
    assert views[:, 0].amax((1, 2)).max() > 0.95


@pytest.mark.parametrize(("area", "ratio"), [(0.9, 4.0), (0.9, 1.0), (0.3, 4.0), (0.08, 4 / 3)])
def test_the_area_of_a_crop_is_uniform_whatever_its_ratio(area, ratio) -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = torch.stack([y, x]).expand(1000, 2, 64, 64)
    views = augmented("crop", ramp, torch.arange(1000), area=area, ratio=ratio).double()
    # Between pixels that lie within the part, away from the edge beyond which nothing is read.
    shares = (views[:, 0, 40, 0] - views[:, 0, 24, 0]) * (views[:, 1, 0, 40] - views[:, 1, 0, 24]) / 16**2
    assert area - 1e-4 <= shares.min() <= shares.max() <= 1 + 1e-4
    assert stats.kstest(shares.numpy(), stats.uniform(area, 1 - area).cdf).pvalue > 1e-3


@pytest.mark.parametrize("ratio", [1.0, 4 / 3, 4.0])
def test_a_crop_of_the_whole_area_is_the_image_itself(ratio) -> None:
    images = torch.rand(40, 1, 8, 8)
    assert torch.equal(augmented("crop", images, torch.arange(40), area=1.0, ratio=ratio), images)


@pytest.mark.parametrize(("area", "ratio"), [(0.9, 4.0), (0.2, 1.5)])
def test_a_crop_is_that_of_the_naive_loop(area, ratio) -> None:
    images, samples = torch.rand(12, 2, 5, 7), torch.randperm(100)[:12]
    ours = augmented("crop", images, samples, area=area, ratio=ratio)
    for n, (share, stretch, upright, down, right) in enumerate(DRAWS.uniform(samples, 5).double().tolist()):
        share, stretch = area + (1 - area) * share, 1 + (ratio - 1) * stretch
        width = min(1.0, math.sqrt(share * stretch))
        height = share / width
        if upright < 0.5:
            width, height = height, width
        for row in range(5):
            for column in range(7):
                y = (down * (1 - height) + (row + 0.5) / 5 * height) * 5 - 0.5
                x = (right * (1 - width) + (column + 0.5) / 7 * width) * 7 - 0.5
                top, left = math.floor(y), math.floor(x)
                seen = sum(
                    (1 - abs(y - i)) * (1 - abs(x - j)) * images[n, :, min(max(i, 0), 4), min(max(j, 0), 6)].double()
                    for i in (top, top + 1)
                    for j in (left, left + 1)
                )
                assert torch.allclose(ours[n, :, row, column].double(), seen, atol=1e-5)


def test_cutout_is_that_of_the_naive_loop() -> None:
    images, samples = torch.rand(40, 2, 6, 9) + 0.1, torch.arange(40)
    images = images.clamp(max=1)
    expected = images.clone()
    for n, (down, right) in enumerate(DRAWS.uniform(samples, 2).tolist()):
        top, left = int(down * 6) - 1, int(right * 9) - 1
        expected[n, :, max(top, 0) : top + 3, max(left, 0) : left + 3] = 0
    assert torch.equal(augmented("cutout", images, samples, size=0.5), expected)


def test_noise_has_the_deviation_that_was_asked_for_and_another_value_at_each_place() -> None:
    difference = augmented("noise", torch.full((50, 3, 16, 16), 0.5), torch.arange(50), std=0.1) - 0.5
    assert float(difference.std()) == pytest.approx(0.1, rel=0.02)
    assert float(difference.mean()) == pytest.approx(0, abs=0.002)
    rows = difference.flatten(1)
    assert float(torch.corrcoef(rows).fill_diagonal_(0).abs().max()) < 0.2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_weights_of_mixup_follow_the_beta_distribution_and_the_image_is_the_weighted_mean(alpha) -> None:
    images, partners = torch.rand(2000, 1, 2, 2), torch.rand(2000, 1, 2, 2)
    views, weights = mixed("mixup", images, partners, torch.arange(2000), alpha=alpha)
    assert stats.kstest(weights.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    w = weights[:, None, None, None]
    assert torch.allclose(views, w * images + (1 - w) * partners, atol=1e-6)


def test_cutmix_takes_one_rectangle_from_the_partner_and_weighs_by_its_area() -> None:
    images, partners = torch.zeros(500, 1, 12, 10), torch.ones(500, 1, 12, 10)
    views, weights = mixed("cutmix", images, partners, torch.arange(500))
    assert torch.allclose(views.mean((1, 2, 3)), 1 - weights)
    rows, columns = views[:, 0].amax(2), views[:, 0].amax(1)
    assert torch.equal(views[:, 0], rows[:, :, None] * columns[:, None, :])
    for edges in (rows, columns):
        assert (F.pad(edges, (1, 1)).diff(dim=1).abs().sum(1) <= 2).all(), "in one piece"
    # On average a rectangle that is cut off at the edges covers less than the half of the area that it would have covered.
    assert 0.5 < float(weights.mean()) < 0.75
    assert float(weights.min()) < 0.2
