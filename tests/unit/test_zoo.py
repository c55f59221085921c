"""What every row of the zoo's table is held to, and what the papers' networks cost."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from torch import nn

import tiny
from slimline import artifacts
from slimline.core.cost import measure
from slimline.errors import SlimlineError
from slimline.export.runtime import OnnxModel
from slimline.models import MODELS
from slimline.models.convolution import normalized
from slimline.models.densenet import DenseNet
from slimline.models.lenet5 import LeNet5
from slimline.models.mobilenet_v2 import MobileNetV2, scaled
from slimline.models.network import network
from slimline.models.vit import Attention, ViT
from slimline.models.wide_resnet import WideResNet
from slimline.paths import ModelFolder
from slimline.quantization.calibrate import calibrated, plan
from slimline.registry import build

MODEL = pytest.mark.parametrize("name", sorted(MODELS))
DOCUMENT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
ROW = re.compile(r"^\| `(?P<spec>\{name.*?\})` \| (?P<shape>[\d×]+) \| (?P<classes>\d+) \| (?P<costs>.*) \|$", re.MULTILINE)
SLOW = 2e8
"""Multiply-accumulates from which building and running a network takes seconds."""
EXPORTED = ("resnet", "mobilenet", "vit", "lenet300")
"""Those that fast tests of test_artifacts.py export, which takes long."""
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def count(text: str) -> float:
    number, _, unit = text.replace(",", "").partition(" ")
    return float(number) * UNITS[unit]


def rows() -> list:  # type: ignore[type-arg]
    found = []
    for row in ROW.finditer(DOCUMENT):
        params, papers_params, macs, papers_macs = row["costs"].split(" | ")
        marks = [pytest.mark.slow] if count(macs) > SLOW else []
        shape = tuple(map(int, row["shape"].split("×")))
        spec = YAML(typ="safe").load(row["spec"])
        found.append(pytest.param(spec, shape, int(row["classes"]), (params, macs), (papers_params, papers_macs), marks=marks, id=row["spec"]))
    return found


@pytest.mark.parametrize(("spec", "shape", "classes", "ours", "papers"), rows())
def test_a_network_of_a_paper_costs_what_the_document_and_the_paper_say(spec, shape, classes, ours, papers) -> None:
    cost = measure(build(MODELS, spec, shape, classes), shape)
    assert (cost.params, cost.macs) == tuple(map(count, ours))
    for counted, said in zip((cost.params, cost.macs), papers, strict=True):
        assert said == "–" or counted == pytest.approx(count(said), rel=0.04)


def test_the_document_has_a_row_for_every_model_of_the_table() -> None:
    families = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE))
    assert families == set(MODELS)
    assert {row.values[0]["name"] for row in rows()} == set(MODELS) - {"mlp"}


@given(
    filters=st.integers(1, 12),
    channels=st.integers(1, 6),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 2),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
def test_separable_convolutions_cost_one_nth_plus_one_over_k_squared_of_standard_ones(filters, channels, kernel, stride, height, width) -> None:
    """Exactly where the first of the two keeps the size of the second's map, as it does: both make maps of one size."""
    standard, _ = normalized(channels, filters, kernel, nn.BatchNorm2d, stride=stride)
    each, _ = normalized(channels, channels, kernel, nn.BatchNorm2d, stride=stride, groups=channels)
    across, _ = normalized(channels, filters, 1, nn.BatchNorm2d)
    shape = (channels, height, width)
    whole, parts = measure(standard, shape).macs, measure(nn.Sequential(each, across), shape).macs
    assert Fraction(parts, whole) == Fraction(1, filters) + Fraction(1, kernel**2)


@given(tokens=st.integers(1, 9), heads=st.integers(1, 4), size=st.integers(1, 5))
def test_attention_costs_its_four_layers_and_two_products_of_all_pairs_of_tokens(tokens, heads, size) -> None:
    dim = heads * size
    model = nn.Sequential(nn.Flatten(0, 1), Attention(dim, heads))
    cost = measure(model, (1, tokens, dim))
    assert cost.macs == 4 * tokens * dim * dim + 2 * tokens * tokens * dim
    assert cost.bops == cost.macs * 32 * 32


def test_quantized_attention_counts_the_bits_of_its_layers_and_thirty_two_for_its_products(images) -> None:
    model = tiny.trained("vit")
    shape = (1, 8, 8)
    record = plan(model, shape, weight_bits=8, activation_bits=8)
    network = calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    products = 2 * 2 * 4 * 4 * 16  # blocks, products, pairs of tokens, dim
    plain, cost = measure(model, shape), measure(network, shape)
    assert cost.macs == plain.macs
    assert cost.bops == (plain.macs - products) * 8 * 8 + products * 32 * 32


def tiny_network(name: str, shape: tuple[int, int, int]) -> nn.Module:
    return network(tiny.model_spec(name), shape, 3, (0.4,) * shape[0], (0.3,) * shape[0])


@MODEL
@settings(max_examples=8)
@given(channels=st.integers(1, 5), height=st.integers(8, 40), width=st.integers(8, 40))
def test_images_of_every_size_get_one_logit_a_class_or_are_refused_in_one_line(name, channels, height, width) -> None:
    shape = (channels, height, width)
    patch = tiny.model_spec(name).get("patch", 1)
    if height % patch or width % patch:
        with pytest.raises(SlimlineError, match=rf"patches of {patch}×{patch} do not divide images of {height}×{width}; choose [^\n]*$"):
            tiny_network(name, shape)
        return
    model = tiny_network(name, shape)
    image = torch.rand(1, channels, height, width)
    logits = model.eval()(image)
    assert logits.shape == (1, 3)
    assert bool(torch.isfinite(logits).all())
    assert torch.equal(logits, model(image))


@MODEL
def test_a_network_computes_in_64_bits_what_it_does_in_32(name, images) -> None:
    model = tiny.trained(name)
    logits = model(images)
    again = model.double()(images.double())
    assert again.dtype == torch.float64
    assert torch.allclose(again.float(), logits, atol=1e-4)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in EXPORTED else name for name in sorted(MODELS)])
@pytest.mark.parametrize("shape", [pytest.param((1, 8, 8), marks=pytest.mark.slow), (4, 12, 20)])
def test_a_saved_network_is_the_same_and_its_onnx_file_agrees(name, shape, tmp_path) -> None:
    channels = shape[0]
    torch.manual_seed(0)
    model = tiny.warmed(tiny_network(name, shape), shape)
    manifest = artifacts.Manifest(
        architecture=tiny.model_spec(name), input_shape=shape, mean=(0.4,) * channels, std=(0.3,) * channels, classes=("a", "b", "c")
    )
    folder = ModelFolder(tmp_path / "model")
    artifacts.save(folder, manifest, model)
    images = torch.rand(3, *shape)
    expected = model(images).detach()
    for again in (artifacts.load(folder)[1], artifacts.load_packed(folder.packed)[1]):
        assert torch.equal(again(images), expected)
    run = OnnxModel(folder.onnx, threads=1)
    for batch in (images, images[:1]):
        assert np.abs(run(batch.numpy()) - model(batch).detach().numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "wide_resnet", "depth": 15}, r"wide_resnet depth 15 is not 6n \+ 4; the nearest are 10 and 16"),
        ({"name": "densenet", "depth": 41}, r"densenet depth 41 is not 6n \+ 4; the nearest are 40 and 46"),
        ({"name": "densenet", "depth": 7}, r"densenet depth 7 is not 6n \+ 4; the nearest are 10 and 16"),
        ({"name": "densenet", "depth": 41, "bottleneck": False}, r"densenet depth 41 is not 3n \+ 4; the nearest are 40 and 43"),
        ({"name": "densenet", "compression": 0.0}, "compression: found 0.0; it should be greater than 0"),
        ({"name": "mobilenet", "stride": 3}, "stride: found 3; it should be less than or equal to 2"),
        ({"name": "mobilenet_v2", "stages": [[6, 24, 2]]}, "stages.0.3: missing"),
        ({"name": "mobilenet_v2", "stages": [[6, 24, 2, 3]]}, "stages.0.3: found 3; it should be less than or equal to 2"),
        ({"name": "mobilenet_v2", "width": 0}, "width: found 0; it should be greater than 0"),
        ({"name": "vit", "patch": 3}, "vit: patches of 3×3 do not divide images of 8×8; choose another patch or data.size"),
        ({"name": "vit", "dim": 10, "heads": 4}, "vit: 4 heads do not divide dim 10"),
        ({"name": "vit", "pool": "max"}, "pool: found .max.; it should be 'token' or 'mean'"),
        ({"name": "lenet5", "filters": [4]}, "filters"),
    ],
)
def test_what_a_family_cannot_be_is_refused_in_one_line(spec, told) -> None:
    with pytest.raises(SlimlineError, match=told) as refusal:
        network(spec, (1, 8, 8), 3, (0.4,), (0.3,))
    assert "\n" not in str(refusal.value)


def weighted(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("depth", [10, 16, 22])
def test_a_wide_resnet_has_as_many_layers_as_its_depth_says_the_three_shortcuts_among_them(depth) -> None:
    """6n convolutions in blocks, the first one and three shortcuts; the classifier is not counted."""
    model = WideResNet((1, 8, 8), 3, depth=depth, widen=2, width=2)
    assert len([name for name in weighted(model) if name != "classifier"]) == depth


@pytest.mark.parametrize(("depth", "bottleneck"), [(10, True), (16, True), (7, False), (10, False), (13, False)])
def test_a_densenet_has_as_many_layers_as_its_depth_says(depth, bottleneck) -> None:
    assert len(weighted(DenseNet((1, 8, 8), 3, depth=depth, growth=2, bottleneck=bottleneck))) == depth


def test_a_dense_layer_keeps_what_it_reads_and_adds_the_growth_rate() -> None:
    layer = DenseNet((1, 8, 8), 3, depth=10, growth=3).blocks[0]
    x = torch.rand(2, 6, 8, 8)
    y = layer(x)
    assert y.shape == (2, 9, 8, 8)
    assert torch.equal(y[:, :6], x)


@given(channels=st.integers(1, 2000), width=st.floats(0.05, 4.0))
def test_scaled_channels_are_a_multiple_of_eight_near_what_was_asked_for(channels, width) -> None:
    found = scaled(channels, width)
    assert found % 8 == 0
    assert 0.9 * width * channels <= found <= max(8, width * channels + 8)
    assert found == 8 or found <= width * channels + 4 or found - 8 < 0.9 * width * channels


def test_an_inverted_residual_ends_without_activation_and_adds_its_input_where_shapes_allow() -> None:
    model = MobileNetV2((1, 8, 8), 3, stages=((1, 8, 1, 1), (6, 8, 2, 2)), stem=8, head=8).eval()
    widened, strided, kept = model.blocks
    assert [block.residual for block in model.blocks] == [True, False, True]
    assert isinstance(kept.layers[-1], nn.BatchNorm2d)
    with torch.no_grad():
        kept.layers[-1].weight.zero_()
    x = torch.rand(2, 8, 8, 8)
    assert torch.equal(kept(x), x)
    assert strided(widened(x)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize("side", [8, 15, 16, 17, 28, 33])
def test_a_lenet_5_sees_its_images_up_to_every_border(side) -> None:
    model = LeNet5((1, side, side), 3).eval()
    image = torch.rand(1, 1, side, side, requires_grad=True)
    (model(image) * torch.randn(3)).sum().backward()
    assert image.grad is not None
    slopes = image.grad[0, 0]
    assert all(bool(border.any()) for border in (slopes[0], slopes[-1], slopes[:, 0], slopes[:, -1]))


def test_attention_is_the_softmax_of_scaled_products() -> None:
    attention = Attention(6, 3)
    x = torch.rand(2, 5, 6)
    query, key, value = (layer(x).reshape(2, 5, 3, 2) for layer in (attention.query, attention.key, attention.value))
    scores = torch.einsum("bihd,bjhd->bhij", query, key) / 2**0.5
    mixed = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), value).reshape(2, 5, 6)
    assert torch.allclose(attention(x), attention.projection(mixed), atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_a_vit_knows_where_a_patch_was(pool) -> None:
    torch.manual_seed(0)
    model = ViT((1, 8, 8), 3, dim=8, depth=1, heads=2, pool=pool).eval()
    image = torch.rand(1, 1, 8, 8)
    moved = image.roll(4, 2)
    assert not torch.allclose(model(image), model(moved), atol=1e-6)
    with torch.no_grad():
        model.positions.weight.zero_()
    assert torch.allclose(model(image), model(moved), atol=1e-5)
