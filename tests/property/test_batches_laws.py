"""Laws of batches and augmentations."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from slimline.data.augment import AUGMENTATIONS
from slimline.data.batches import Ordered, Shuffled
from slimline.data.prepared import Images
from slimline.registry import build

SHIFT = ({"name": "shift", "pixels": 2},)
counts, sizes, seeds = st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1)


def numbered(count: int) -> Images:
    """Images whose label is their number, and whose pixels tell it too."""
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 8, 8).contiguous()
    return Images(pixels, torch.arange(count))


def labels(batches) -> list[int]:
    return torch.cat([y for _, y in batches]).tolist()


@given(counts, st.integers(2, 50), seeds)
def test_every_sample_comes_exactly_once_an_epoch_but_for_a_last_batch_of_one(count, size, seed) -> None:
    batches = list(Shuffled(numbered(count), size, seed))
    seen = labels(batches)
    left_out = 1 if count % size == 1 and count > 1 else 0
    assert len(set(seen)) == len(seen) == count - left_out
    assert set(seen) <= set(range(count))
    assert len(batches) == len(Shuffled(numbered(count), size, seed))
    assert all(len(y) == size for _, y in batches[:-1])


@given(st.integers(20, 40), sizes, seeds)
def test_each_epoch_has_another_order_and_the_same_seed_the_same_orders(count, size, seed) -> None:
    first, second = Shuffled(numbered(count), size, seed), Shuffled(numbered(count), size, seed)
    epochs = [labels(first) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [labels(second) for _ in range(3)] == epochs
    assert labels(Shuffled(numbered(count), size, seed, epoch=2)) == epochs[2], "a later epoch can be entered directly"


@given(seeds, seeds)
def test_another_seed_gives_another_order_and_other_augmentations(seed, other) -> None:
    assume(seed != other)
    images = Images(torch.arange(30 * 64, dtype=torch.float32).reshape(30, 1, 8, 8).remainder(251).byte(), torch.arange(30))
    assert labels(Shuffled(images, 30, seed)) != labels(Shuffled(images, 30, other))
    views = []
    for own in (seed, other):
        ((x, y),) = Shuffled(images, 30, own, SHIFT)
        views.append(x[y.argsort()])
    assert not torch.equal(*views)


@given(counts, sizes)
def test_the_ordered_split_keeps_its_order_and_leaves_nothing_out(count, size) -> None:
    batches = list(Ordered(numbered(count), size))
    assert labels(batches) == list(range(count))
    assert len(batches) == len(Ordered(numbered(count), size))
    assert torch.equal(torch.cat([x for x, _ in batches]) * 255, numbered(count).pixels.float())


@given(st.integers(2, 12), st.integers(2, 12), seeds, st.sampled_from(sorted(AUGMENTATIONS)))
def test_what_happens_to_a_sample_does_not_depend_on_the_size_of_its_batch(a, b, seed, name) -> None:
    images = Images(torch.randint(0, 256, (a * b, 1, 8, 8), dtype=torch.uint8), torch.arange(a * b))
    augment = SHIFT if name == "shift" else ({"name": name},)
    one, other = (torch.cat([x for x, _ in Shuffled(images, size, seed, augment)]) for size in (a, b))
    assert torch.equal(one, other)


@given(seeds)
def test_augmentation_changes_images_anew_each_epoch_but_keeps_them_with_their_labels(seed) -> None:
    pixels = torch.zeros(30, 1, 9, 9, dtype=torch.uint8)
    pixels[torch.arange(30), 0, 4, 4] = torch.arange(30, dtype=torch.uint8) + 1
    batches = Shuffled(Images(pixels, torch.arange(30)), 10, seed, SHIFT)
    views = []
    for _ in range(2):
        view = torch.zeros(30, 1, 9, 9)
        for x, y in batches:
            assert torch.equal((x.amax((1, 2, 3)) * 255).round().long(), y + 1)
            view[y] = x
        views.append(view)
    assert not torch.equal(views[0], views[1])


@given(st.integers(1, 3), st.integers(1, 6), seeds)
def test_a_shift_is_that_of_the_naive_loop(pixels, count, seed) -> None:
    images = torch.rand(count, 2, 5, 6)
    samples = torch.randperm(count)
    shifted = build(AUGMENTATIONS, {"name": "shift", "pixels": pixels}, count, torch.Generator().manual_seed(seed))(images, samples)
    offsets = torch.randint(0, 2 * pixels + 1, (count, 2), generator=torch.Generator().manual_seed(seed)) - pixels
    expected = torch.zeros_like(images)
    for n in range(count):
        down, right = offsets[samples[n]].tolist()
        for row in range(5):
            for column in range(6):
                if 0 <= row + down < 5 and 0 <= column + right < 6:
                    expected[n, :, row, column] = images[n, :, row + down, column + right]
    assert torch.equal(shifted, expected)


def test_a_shift_reaches_every_distance_in_each_direction() -> None:
    images = torch.zeros(400, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    shifted = build(AUGMENTATIONS, {"name": "shift", "pixels": 2}, 400, torch.Generator().manual_seed(0))(images, torch.arange(400))
    assert (shifted.sum(0) > 0).all()


def test_the_last_epochs_of_the_largest_seed_still_run() -> None:
    assert len(labels(Shuffled(numbered(4), 2, 2**32 - 1, SHIFT, epoch=99_999))) == 4
