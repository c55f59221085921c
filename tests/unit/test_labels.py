"""Labels of any form, unknown ones among them, and the cross-entropy that all losses share."""

import pytest
import torch
import torch.nn.functional as F

from slimline.core.labels import UNKNOWN, cross_entropy, known, largest
from slimline.data.shuffled import shares

LOGITS = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
NUMBERS = torch.tensor([3, UNKNOWN, 0, 2, UNKNOWN, 1])
LABELLED = [0, 2, 3, 5]
ROWS = torch.tensor([[0.0, 0.25, 0.0, 0.75], [0.0] * 4, [1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0] * 4, [0.1, 0.2, 0.3, 0.4]])
EITHER = pytest.mark.parametrize("labels", [NUMBERS, ROWS], ids=["numbers", "rows"])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1])


@EITHER
def test_unknown_labels_are_known_as_such(labels) -> None:
    assert known(labels).nonzero().flatten().tolist() == LABELLED


def test_the_largest_share_is_the_class_and_of_equals_the_first() -> None:
    assert largest(ROWS).tolist() == [3, UNKNOWN, 0, 1, UNKNOWN, 3]
    assert torch.equal(largest(NUMBERS), NUMBERS)


@EITHER
@SMOOTHING
def test_unlabelled_images_are_skipped(labels, smoothing) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, labels, smoothing)
    loss.backward()
    assert torch.isclose(loss, F.cross_entropy(LOGITS[LABELLED], labels[LABELLED], label_smoothing=smoothing))
    assert logits.grad is not None
    assert not logits.grad[~known(labels)].any()


@EITHER
@SMOOTHING
def test_without_any_label_there_is_nothing_to_learn(labels, smoothing) -> None:
    logits = LOGITS[:2].clone().requires_grad_()
    loss = cross_entropy(logits, labels[[1, 4]], smoothing)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@EITHER
def test_where_all_are_labelled_the_bits_are_torchs(labels) -> None:
    ours, theirs = (LOGITS[LABELLED[:3]].clone().requires_grad_() for _ in range(2))
    values = []
    for logits, loss in ((ours, cross_entropy), (theirs, F.cross_entropy)):
        value = loss(logits, labels[LABELLED[:3]])
        (0.3 * value).backward()
        values.append(value)
    assert torch.equal(*values)
    assert torch.equal(ours.grad, theirs.grad)


def test_a_mix_with_an_unlabelled_image_is_unlabelled() -> None:
    mixed = shares(torch.tensor([0, UNKNOWN, 2, UNKNOWN, 1, 0, UNKNOWN, UNKNOWN]), torch.tensor([0.75, 0.5, 0.5, 0.5]), 3)
    assert mixed.tolist() == [[0.75, 0.25, 0.0], [0.0] * 3, [0.0] * 3, [0.0] * 3]
