"""Laws of batches: every sample once, whatever the batch size, the processes, the epoch of entry and the place of the images."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from slimline.data.augment import AUGMENTATIONS
from slimline.data.batches import Ordered
from slimline.data.mix import MIXES
from slimline.data.prepared import Images
from slimline.data.resident import resident
from slimline.data.shuffled import Mixing, Shuffled
from slimline.errors import SlimlineError

SHIFT = ({"name": "shift", "pixels": 2},)
EVERYTHING = tuple({"name": name, **({"pixels": 2} if name == "shift" else {})} for name in AUGMENTATIONS)
"""Every augmentation, one after the other."""
CPU = torch.device("cpu")
counts, sizes, seeds = st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1)
mixes = st.sampled_from([None, *(Mixing({"name": name}, 256) for name in MIXES)])


def numbered(count: int) -> Images:
    """Images whose label is their number, and whose pixels tell it too."""
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 8, 8).contiguous()
    return Images(pixels, torch.arange(count))


def speckled(count: int, channels: int = 1) -> Images:
    return Images(torch.randint(0, 256, (count, channels, 7, 8), dtype=torch.uint8), torch.arange(count))


def labels(batches) -> list[int]:
    return torch.cat([y for _, y, *_ in batches]).tolist()


def needed(ranks: int) -> int:
    """Images that a batch must have."""
    return 2 * ranks if ranks > 1 else 1


def same(ours, theirs) -> bool:
    """The same batches, bit for bit."""
    return all(torch.equal(x, other_x) and torch.equal(y, other_y) for (x, y, *_), (other_x, other_y, *_) in zip(ours, theirs, strict=True))


def joined(parts) -> tuple[torch.Tensor, torch.Tensor]:
    images, answers, *_ = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(answers)


@given(counts, st.integers(2, 50), seeds)
def test_every_sample_comes_exactly_once_an_epoch_but_for_a_last_batch_of_one(count, size, seed) -> None:
    batches = list(Shuffled(numbered(count), size, seed))
    seen = labels(batches)
    left_out = 1 if count % size == 1 and count > 1 else 0
    assert len(set(seen)) == len(seen) == count - left_out
    assert set(seen) <= set(range(count))
    assert len(batches) == len(Shuffled(numbered(count), size, seed))
    assert all(len(y) == size for _, y, *_ in batches[:-1])


@given(st.integers(20, 40), sizes, seeds)
def test_each_epoch_has_another_order_and_the_same_seed_the_same_orders(count, size, seed) -> None:
    first, second = Shuffled(numbered(count), size, seed), Shuffled(numbered(count), size, seed)
    epochs = [labels(first) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [labels(second) for _ in range(3)] == epochs


@given(seeds, seeds)
def test_another_seed_gives_another_order_and_other_augmentations(seed, other) -> None:
    assume(seed != other)
    images = speckled(30)
    assert labels(Shuffled(images, 30, seed)) != labels(Shuffled(images, 30, other))
    views = []
    for own in (seed, other):
        ((x, y, *_),) = Shuffled(images, 30, own, SHIFT)
        views.append(x[y.argsort()])
    assert not torch.equal(*views)


@given(counts, sizes)
def test_the_ordered_split_keeps_its_order_and_leaves_nothing_out(count, size) -> None:
    batches = list(Ordered(numbered(count), size))
    assert labels(batches) == list(range(count))
    assert len(batches) == len(Ordered(numbered(count), size))
    assert torch.equal(torch.cat([x for x, *_ in batches]) * 255, numbered(count).pixels.float())


@given(counts, sizes, st.integers(1, 50))
def test_in_the_ordered_split_every_image_counts_once_over_all_processes(count, size, ranks) -> None:
    shares = [Ordered(numbered(count), size, rank, ranks) for rank in range(ranks)]
    seen = [[int(y) for _, ys, *_ in share for y in ys] for share in shares]
    assert [y for share in seen for y in share] == list(range(count))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1
    assert [len(list(share)) for share in shares] == [len(share) for share in shares]
    assert len({len(share) for share in shares}) == 1, "what processes do together at a batch is done by all"


@given(counts, sizes, st.integers(1, 6), seeds, mixes)
def test_processes_together_meet_exactly_the_batches_of_one(count, size, ranks, seed, mix) -> None:
    images = speckled(count)
    assume(min(count, size) >= needed(ranks))
    alone = list(Shuffled(images, size, seed, EVERYTHING, mix))
    parts = [list(Shuffled(images, size, seed, EVERYTHING, mix, rank=rank, ranks=ranks)) for rank in range(ranks)]
    steps = list(zip(*parts, strict=True))  # as many steps in each
    assert len(steps) == len(Shuffled(images, size, seed, rank=0, ranks=ranks))
    assert same([joined(step) for step in steps], alone[: len(steps)])
    assert sum(len(y) for _, y, *_ in alone[len(steps) :]) < 2 * ranks, "no more is left out than would leave a process one image"
    assert ranks == 1 or all(len(y) >= 2 for step in steps for _, y, *_ in step), "batch statistics of one image are undefined"


@given(st.integers(1, 20).flatmap(lambda ranks: st.tuples(st.integers(1, needed(ranks)), st.just(ranks))))
def test_less_than_two_images_a_process_are_refused_with_what_to_do(case) -> None:
    count, ranks = case
    if count == needed(ranks):
        assert len(Shuffled(numbered(count), count, 0, ranks=ranks)) == 1
        return
    with pytest.raises(
        SlimlineError, match=rf"^fit\.batch_size is {count}, .*; raise fit\.batch_size to at least {2 * ranks}, or use fewer devices$"
    ):
        Shuffled(numbered(40), count, 0, ranks=ranks)
    with pytest.raises(SlimlineError, match=rf"^the split has {count} images, .*; add images or use fewer devices$"):
        Shuffled(numbered(count), 40, 0, ranks=ranks)


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(SlimlineError, match=r"^the split has 0 images, and one is needed; add images$"):
        Shuffled(numbered(0), 4, 0)


@given(st.integers(2, 12), st.integers(2, 12), seeds, mixes, st.sampled_from([1, 3]))
def test_what_happens_to_a_sample_does_not_depend_on_the_size_of_its_batch(a, b, seed, mix, channels) -> None:
    images = speckled(a * b, channels)
    one, other = (joined(Shuffled(images, size, seed, EVERYTHING, mix)) for size in (a, b))
    assert same([one], [other])


@given(st.integers(0, 3), seeds, mixes)
def test_a_resumed_run_meets_the_batches_that_it_would_have_met(epoch, seed, mix) -> None:
    images = speckled(9)
    whole = Shuffled(images, 4, seed, EVERYTHING, mix)
    for _ in range(epoch):
        list(whole)
    assert same(list(whole), list(Shuffled(images, 4, seed, EVERYTHING, mix, epoch=epoch)))


@given(counts, sizes, seeds, mixes)
def test_batches_are_the_same_resident_or_read_ahead(count, size, seed, mix) -> None:
    images = speckled(count)
    near, far = (resident(images, CPU, limit) for limit in (1, 0))
    assert type(near) is not type(far)
    assert same(list(Shuffled(near, size, seed, EVERYTHING, mix)), list(Shuffled(far, size, seed, EVERYTHING, mix)))
    assert same(list(Ordered(near, size)), list(Ordered(far, size)))


@given(seeds)
def test_augmentation_changes_images_anew_each_epoch_but_keeps_them_with_their_labels(seed) -> None:
    pixels = torch.zeros(30, 1, 9, 9, dtype=torch.uint8)
    pixels[torch.arange(30), 0, 4, 4] = torch.arange(30, dtype=torch.uint8) + 1
    batches = Shuffled(Images(pixels, torch.arange(30)), 10, seed, SHIFT)
    views = []
    for _ in range(2):
        view = torch.zeros(30, 1, 9, 9)
        for x, y, *_ in batches:
            assert torch.equal((x.amax((1, 2, 3)) * 255).round().long(), y + 1)
            view[y] = x
        views.append(view)
    assert not torch.equal(views[0], views[1])


@given(st.integers(1, 40), seeds)
def test_a_mixed_label_tells_how_much_of_each_image_is_seen(count, seed) -> None:
    """Images of one colour, its own for each: the mean of a mixed one is that of the colours under its label."""
    colours = torch.arange(count) * 5
    images = Images(colours.byte()[:, None, None, None].expand(count, 1, 6, 7).contiguous(), torch.arange(count))
    for name in MIXES:
        for x, y, *_ in Shuffled(images, 8, seed, mix=Mixing({"name": name}, count)):
            assert y.shape == (len(x), count)
            assert torch.allclose(y.sum(1), torch.ones(len(x)))
            assert (y >= 0).all()
            assert torch.allclose(x.mean((1, 2, 3)), y @ (colours / 255), atol=1e-5)


def test_partners_come_from_the_whole_split_and_not_from_the_batch() -> None:
    met = torch.zeros(20, 20)
    for epoch in range(60):
        for _, y, *_ in Shuffled(numbered(20), 2, 0, mix=Mixing({"name": "mixup", "alpha": 50.0}, 20), epoch=epoch):
            for row in y:
                pair = row.nonzero().flatten()
                met[pair[0], pair[-1]] += 1
    met = met + met.T
    assert (met.fill_diagonal_(1) > 0).all()


def test_the_last_epochs_of_the_largest_seed_still_run() -> None:
    assert len(labels(Shuffled(numbered(4), 2, 2**32 - 1, SHIFT, epoch=99_999))) == 4
