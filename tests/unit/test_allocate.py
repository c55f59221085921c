"""Which bits where: sensitivities of layers, and the integer programme over them."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from slimline.errors import SlimlineError
from slimline.quantization.allocate import within_bytes, within_drop
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import WEIGHTS, plan
from slimline.quantization.sensitivity import Row, sensitivity

SHAPE = (1, 8, 8)
MIN_MAX = {"name": "min_max"}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    torch.manual_seed(0)
    model = tiny.trained("lenet5")
    images = torch.rand(64, *SHAPE)
    labels = model(images).argmax(1)
    return sensitivity(model, SHAPE, [(images[:40], labels[:40]), (images[40:], labels[40:])], [8, 4, 2, "e4m3"], scheme=MIN_MAX, choice=WEIGHTS)


def test_every_layer_is_measured_at_every_width_in_the_order_in_which_layers_run(rows) -> None:
    layers = list(plan(tiny.trained("lenet5"), SHAPE)["weights"])
    assert [(row.layer, row.width) for row in rows] == list(product(layers, [8, 4, 2, "e4m3"]))
    assert {row.bits for row in rows if row.width == "e4m3"} == {8}


def test_fewer_bits_of_a_layer_err_more_and_each_layer_alone_hardly_at_eight(rows) -> None:
    for layer in dict.fromkeys(row.layer for row in rows):
        eight, four, two, _ = (row.error for row in rows if row.layer == layer)
        assert eight < four < two
        assert eight < 1e-3
    assert all(row.drop == pytest.approx(max(0.0, 1 - row.accuracy)) for row in rows), "labels are the network's own answers"


def test_codebooks_are_measured_too(images) -> None:
    model = tiny.trained("lenet5")
    with torch.no_grad():
        model.network.hidden.weight[:, :5] = 0
    labels = model(images).argmax(1)
    rows = sensitivity(model, SHAPE, [(images, labels)], [4, 2], scheme=MIN_MAX, choice=Choice(4, codebook=True), codebook={"name": "k_means"})
    assert all(0 < row.error < 2 for row in rows)


@pytest.mark.parametrize(("batches", "widths"), [([], [8]), ([(torch.rand(2, *SHAPE), torch.zeros(2, dtype=torch.long))], [])])
def test_without_images_or_widths_there_is_nothing_to_measure(batches, widths) -> None:
    with pytest.raises(SlimlineError, match="needs validation images and at least one width"):
        sensitivity(tiny.trained("lenet5"), SHAPE, batches, widths, scheme=MIN_MAX, choice=WEIGHTS)


def test_of_a_network_that_tells_no_images_apart_no_width_is_better(images) -> None:
    model = tiny.trained("lenet5")
    with torch.no_grad():
        model.network.classifier.weight.zero_()
        model.network.classifier.bias.zero_()
    with pytest.raises(SlimlineError, match="the same logits, so no width can be told from another"):
        sensitivity(model, SHAPE, [(images, torch.zeros(len(images), dtype=torch.long))], [8], scheme=MIN_MAX, choice=WEIGHTS)


tables = st.lists(
    st.tuples(st.integers(1, 5000), *[st.floats(0, 1)] * 3),
    min_size=1,
    max_size=5,
).map(
    lambda layers: [
        Row(f"layer {place}", bits, bits, weights, error, 1 - error, error)
        for place, (weights, *errors) in enumerate(layers)
        for bits, error in zip((8, 4, 2), errors, strict=True)
    ]
)


def choices(rows: list[Row]) -> list[tuple[Row, ...]]:
    layers = list(dict.fromkeys(row.layer for row in rows))
    return list(product(*([row for row in rows if row.layer == layer] for layer in layers)))


@settings(max_examples=25)
@given(tables, st.floats(0.25, 1.0))
def test_no_choice_within_the_bytes_has_a_smaller_error(rows, share) -> None:
    budget = share * sum(row.bytes for row in rows if row.width == 8)
    found = within_bytes(rows, budget)
    chosen = [row for row in rows if found[row.layer] == row.width]
    best = min(sum(row.error for row in choice) for choice in choices(rows) if sum(row.bytes for row in choice) <= budget)
    assert sum(row.bytes for row in chosen) <= budget * (1 + 1e-6)
    assert sum(row.error for row in chosen) == pytest.approx(best, abs=1e-6)


@settings(max_examples=25)
@given(tables, st.floats(0.0, 1.0))
def test_no_choice_within_the_drop_takes_fewer_bytes(rows, more) -> None:
    budget = min(sum(row.drop for row in choice) for choice in choices(rows)) + more
    found = within_drop(rows, budget)
    chosen = [row for row in rows if found[row.layer] == row.width]
    best = min(sum(row.bytes for row in choice) for choice in choices(rows) if sum(row.drop for row in choice) <= budget + 1e-9)
    assert sum(row.drop for row in chosen) <= budget + 1e-6
    assert sum(row.bytes for row in chosen) == pytest.approx(best, abs=1.0)


def test_a_budget_that_cannot_be_met_is_refused_with_how_close_one_can_get(rows) -> None:
    least = sum(row.bytes for row in rows if row.width == 2)
    with pytest.raises(SlimlineError, match=rf"a budget of 10 bytes cannot be met: with these widths it takes at least {least:.4g}"):
        within_bytes(rows, 10.0)
    with pytest.raises(SlimlineError, match="a budget of -1 of accuracy cannot be met"):
        within_drop(rows, -1.0)


def test_with_room_for_all_every_layer_gets_its_least_error(rows) -> None:
    found = within_bytes(rows, 1e9)
    for layer, width in found.items():
        assert width == min((row for row in rows if row.layer == layer), key=lambda row: row.error).width
