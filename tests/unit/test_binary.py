"""The binary form, and how networks come into it."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file
from torch import nn

import tiny
from slimline.artifacts import load, load_packed, packed, save
from slimline.core.binary import (
    Binarization,
    BinaryConv2d,
    BinaryLinear,
    binary,
    binary_layers,
    clip_latent,
    learn,
    packed_signs,
    settle_binary,
    sign,
)
from slimline.core.cost import measure
from slimline.core.quantized import load_stored_state, stored_state
from slimline.errors import SlimlineError
from slimline.export.runtime import OnnxModel
from slimline.models.network import network
from slimline.paths import ModelFolder
from slimline.pruning.plan import Plan
from slimline.quantization import BINARY
from slimline.quantization.binarize import binarization, check_signs, widths
from slimline.quantization.bits import Choice
from slimline.registry import build

SHAPE = (1, 8, 8)


def formed(name: str, *, inputs: bool = True, scaled: bool = False, exceptions=(), model: nn.Module | None = None) -> tuple[dict, nn.Module]:
    model = tiny.trained(name) if model is None else model
    record = binarization(model, widths(model, Choice(1, dict.fromkeys(exceptions, 32))), Binarization(scaled=scaled), inputs=inputs)
    return record, binary(copy.deepcopy(model), record)


@pytest.mark.parametrize("scaled", [False, True])
def test_layers_compute_the_formula_of_the_papers(scaled) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 5)
    for plain, run in ((nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.functional.conv2d), (nn.Linear(5, 6), nn.functional.linear)):
        model = binary(nn.Sequential(plain), {"layers": {"0": {"inputs": True, "scaled": scaled}}, "signs": []})
        learn(model)
        (layer,) = binary_layers(model).values()
        alpha = layer.weight.abs().flatten(1).mean(1).reshape(-1, *[1] * (layer.weight.ndim - 1)) if scaled else 1.0
        how = {"stride": 2, "padding": 1, "groups": 2} if isinstance(layer, BinaryConv2d) else {}
        expected = run(torch.where(x >= 0, 1.0, -1.0), alpha * torch.where(layer.weight >= 0, 1.0, -1.0), layer.bias, **how)
        assert torch.allclose(model(x), expected, atol=1e-5)
        settle_binary(model)
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert set(layer.weight.unique().tolist()) == {-1.0, 1.0}


def test_the_gradient_of_a_scaled_weight_is_the_product_rule_s() -> None:
    torch.manual_seed(0)
    model = binary(nn.Sequential(nn.Linear(7, 2, bias=False)), {"layers": {"0": {"inputs": False, "scaled": True}}, "signs": []})
    learn(model)
    layer, x, above = model[0], torch.randn(5, 7), torch.randn(5, 2)
    with torch.no_grad():
        layer.weight.mul_(6)
    (model(x) * above).sum().backward()
    of_product = above.T @ x
    weight = layer.weight.detach()
    signs, alpha = sign(weight), weight.abs().mean(1, keepdim=True)
    expected = alpha * of_product * (weight.abs() <= 1) + (of_product * signs).sum(1, keepdim=True) * signs / 7
    assert torch.allclose(layer.weight.grad, expected, atol=1e-5)


def test_signs_are_drawn_in_training_alone_and_by_the_global_generator() -> None:
    model = binary(nn.Sequential(nn.Linear(50, 8)), {"layers": {"0": {"inputs": False, "scaled": False}}, "signs": []})
    learn(model, draws=True)
    x = torch.randn(4, 50)
    torch.manual_seed(1)
    first, other = model.train()(x), model(x)
    torch.manual_seed(1)
    assert torch.equal(model(x), first)
    assert not torch.equal(other, first)
    assert torch.equal(model.eval()(x), model(x))


def test_weights_whose_signs_are_drawn_begin_within_one_and_reach_it() -> None:
    model = binary(nn.Sequential(nn.Linear(50, 8)), {"layers": {"0": {"inputs": False, "scaled": False}}, "signs": []})
    before = sign(model[0].weight.detach())
    learn(model, draws=True)
    assert float(model[0].weight.detach().abs().max()) == 1
    assert torch.equal(sign(model[0].weight.detach()), before)


def test_latent_weights_are_brought_back_to_one() -> None:
    layer = binary(nn.Sequential(nn.Linear(3, 1)), {"layers": {"0": {"inputs": False, "scaled": False}}, "signs": []})[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.5, 0.25, 7.0]]))
        layer.bias.fill_(3.0)
    clip_latent([layer.weight])
    assert layer.weight.tolist() == [[-1.0, 0.25, 1.0]]
    assert layer.bias.item() == 3.0


def test_the_first_layer_reads_the_image_and_signs_take_the_place_of_activations() -> None:
    record, _ = formed("lenet5")
    assert {name: one["inputs"] for name, one in record["layers"].items()} == {
        "network.conv1": False,
        "network.conv2": True,
        "network.hidden": True,
        "network.classifier": True,
    }
    assert record["signs"] == ["network.relu"]
    record, _ = formed("resnet", exceptions=["*.classifier"])
    assert not any("classifier" in name for name in (*record["layers"], *record["signs"]))
    assert "network.blocks.2.relu2" not in record["signs"], "the classifier reads it in real numbers"
    assert "network.blocks.1.relu2" in record["signs"]
    assert formed("resnet", inputs=False)[0]["signs"] == []


@pytest.mark.parametrize("name", sorted(tiny.MODEL))
@pytest.mark.parametrize("inputs", [False, True])
def test_every_network_of_the_zoo_can_be_binarized_and_its_stored_state_is_bits(name, inputs, images) -> None:
    record, model = formed(name, inputs=inputs, scaled=True)
    learn(model)
    model.train()(images).square().mean().backward()
    assert all(layer.weight.grad is not None for layer in binary_layers(model).values())
    settle_binary(model.eval())
    state = stored_state(model)
    assert sorted(record["layers"]) == sorted(binary_layers(model))
    for layer_name, layer in binary_layers(model).items():
        assert state[f"{layer_name}.weight"].numel() == (layer.weight.numel() + 7) // 8
    again = binary(tiny.trained(name), record).eval()
    load_stored_state(again, state)
    assert torch.equal(again(images), model(images))


def test_bit_operations_count_one_bit_where_there_is_one() -> None:
    plain = measure(tiny.trained("lenet5"), SHAPE)
    _, model = formed("lenet5")
    first = measure(formed("lenet5", exceptions=["*.conv2", "*.hidden", "*.classifier"])[1], SHAPE).bops - plain.bops
    conv1 = -first // (32 * 32 - 32)
    cost = measure(model, SHAPE)
    assert cost.macs == plain.macs
    assert cost.bops == conv1 * 32 + (plain.macs - conv1)


def test_what_cannot_be_binary_is_refused_by_name() -> None:
    plan: Plan = tiny.plan_of(tiny.trained("lenet5"))
    pruned = plan.cut(plan.units // 2)(tiny.trained("lenet5"))
    with pytest.raises(SlimlineError, match=r"layer 'network.conv1' has pruned weights, and of -1 and \+1 none is zero"):
        formed("lenet5", model=pruned)
    with pytest.raises(SlimlineError, match=r"no layer is left with 1 bit, so nothing would be binary"):
        formed("lenet5", exceptions=["*"])
    with pytest.raises(SlimlineError, match=r"no layer fits the pattern '\*.clasifier'"):
        formed("lenet5", exceptions=["*.clasifier"])
    for name, told in {"conv": "the model has no layer 'conv' to make binary", "network.pool1": "is a MaxPool2d, which has no weights"}.items():
        with pytest.raises(SlimlineError, match=told):
            binary(tiny.trained("lenet5"), {"layers": {name: {"inputs": True, "scaled": False}}, "signs": []})


def test_an_activation_that_cannot_be_taken_out_is_refused() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    class Shared(Functional):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.second(self.relu(self.first(x))))

    for made, told in ((Functional(), "'relu' is no module"), (Shared(), "module 'relu' is called elsewhere too")):
        with pytest.raises(SlimlineError, match=told):
            formed("", model=made)
        assert formed("", model=made, inputs=False)[0]["signs"] == []


def test_a_layer_that_would_read_one_sign_alone_is_refused(images) -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3)

        def forward(self, x):
            return self.second(self.first(x).square())

    _, model = formed("", model=Squared())
    with pytest.raises(SlimlineError, match=r"layer 'second' would read one sign alone, on all of 16 training images"):
        check_signs(model, images)
    check_signs(formed("resnet")[1], images)


def test_every_way_to_binarize_is_built_by_its_name() -> None:
    made = {name: build(BINARY, {"name": name}) for name in BINARY}
    assert made == {"binary_connect": Binarization(inputs=False), "binarized": Binarization(inputs=True), "xnor": Binarization(scaled=True)}
    assert isinstance(binary(nn.Linear(2, 2), {"layers": {"": {"inputs": True, "scaled": False}}, "signs": []}), BinaryLinear)


@pytest.mark.parametrize("name", ["lenet5", "mobilenet"])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_binary_network_comes_back_from_its_files_and_its_export_answers_alike(name, scaled, images, tmp_path) -> None:
    record, model = formed(name, scaled=scaled)
    learn(model)
    settle_binary(tiny.centred(model.eval(), SHAPE))
    files, manifest = ModelFolder(tmp_path / "model"), tiny.manifest(name).after("binary", record)
    save(files, manifest, model)
    expected = model(images).detach()
    for _, again in (load(files), load_packed(files.packed)):
        assert torch.equal(again(images), expected)
    for optimized in (False, True):
        answers = OnnxModel(files.onnx, threads=1, optimized=optimized)(images.numpy())
        assert torch.allclose(torch.from_numpy(answers), expected, atol=1e-4 * float(expected.abs().max()))
    held = {i.name: i for i in onnx.load(files.onnx).graph.initializer}
    codes = [numpy_helper.to_array(one) for one in held.values() if one.data_type == TensorProto.INT8 and len(one.dims) > 1]
    assert sorted(code.size for code in codes) == sorted(layer.weight.numel() for layer in binary_layers(model).values())
    assert all(set(np.unique(code)) <= {-1, 1} for code in codes)
    binary_bytes = sum((layer.weight.numel() + 7) // 8 for layer in binary_layers(model).values())
    stored = load_file(files.weights)
    assert sum(stored[f"{layer}.weight"].nbytes for layer in record["layers"]) == binary_bytes


def test_an_eighth_of_a_byte_is_all_that_a_binary_weight_takes_in_the_packed_file() -> None:
    """1/32 of 32-bit floats to the byte: twice as wide a layer makes the file larger by its bits and what a unit has beside them."""
    sizes = []
    for hidden in (256, 512):
        spec = {"name": "mlp", "hidden": [1024, hidden]}
        torch.manual_seed(0)
        model = network(spec, SHAPE, 3, (0.4,), (0.3,)).eval()
        record, made = formed("", model=model, exceptions=["*.hidden.0", "*.classifier"])
        learn(made)
        settle_binary(made)
        content = packed(tiny.manifest().model_copy(update={"architecture": spec}).after("binary", record), made)
        (layer,) = binary_layers(made).values()
        bits = packed_signs(layer.weight).numpy().tobytes()
        assert len(bits) == 4 * 1024 * hidden / 32
        assert bits in content
        sizes.append(len(content) - len(bits))
    assert sizes[1] - sizes[0] < 256 * 4 * 4
