"""The quantized form, and folding before it."""

import pytest
import torch
from torch import Tensor, fx, nn

import tiny
from slimline.core.normalize import Normalize
from slimline.core.quantized import folded, load_stored_state, quantized, quantized_layers, stored_state
from slimline.errors import SlimlineError
from slimline.quantization.calibrate import calibrated, plan

SHAPE = (1, 8, 8)
EIGHT = {"kind": "integer", "bits": 8, "symmetric": False, "per_channel": False}
NORM_FIRST = ("binarynet_conv", "densenet", "wide_resnet")
"""Networks with norms that follow no convolution, and stay."""


def calibrated_tiny(name: str, images: Tensor, bits: int = 8) -> tuple[nn.Module, dict, fx.GraphModule]:
    model = tiny.trained(name)
    record = plan(model, SHAPE, weight_bits=bits, activation_bits=bits)
    return model, record, calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})


@pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))
def test_folding_batch_norms_away_leaves_the_function_as_it_was(name, images) -> None:
    model = tiny.trained(name)
    before = [type(module) for module in model.modules()]
    graph = folded(model)
    assert any(isinstance(module, nn.BatchNorm2d) for module in graph.modules()) == (name in NORM_FIRST)
    assert torch.allclose(graph(images), model(images), atol=1e-4)
    assert [type(module) for module in model.modules()] == before, "the original must stay as it was"


@pytest.mark.parametrize("norm", ["layer", "instance", "group"])
def test_norms_that_depend_on_the_image_stay_where_they_were(norm, images) -> None:
    kinds = (nn.GroupNorm, nn.InstanceNorm2d)
    model = tiny.trained(f"resnet {norm}")
    kept = [name for name, module in folded(model).named_modules() if isinstance(module, kinds)]
    assert sorted(kept) == sorted(name for name, module in model.named_modules() if isinstance(module, kinds)) != []


class Dropping(nn.Module):
    """Dropout and an identity between a convolution and its norm, and before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same, self.norm = nn.Conv2d(1, 3, 3), nn.Identity(), nn.BatchNorm2d(3)
        self.first, self.second, self.classifier = nn.Dropout2d(0.5), nn.Dropout(0.5), nn.Linear(3 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.second(torch.relu(self.norm(self.same(self.first(self.conv(x))))).flatten(1)))


def test_dropout_is_no_part_of_the_quantized_form_even_while_it_trains(images) -> None:
    model = tiny.warmed(nn.Sequential(Normalize([0.4], [0.3]), Dropping()), SHAPE)
    graph = folded(model)
    assert not any(isinstance(module, nn.Dropout | nn.Dropout2d | nn.Identity | nn.BatchNorm2d) for module in graph.modules())
    assert torch.allclose(graph(images), model(images), atol=1e-5)
    record = plan(model, SHAPE, weight_bits=8, activation_bits=8)
    network = calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    assert torch.equal(network.train()(images), network.eval()(images))


class TwoReaders(nn.Module):
    """The norm is not the only one who reads the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class OneConvolutionTwice(nn.Module):
    """The same convolution before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


class NormFirst(nn.Module):
    """A norm that follows no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(1), nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.norm(x)))


@pytest.mark.parametrize("kind", [TwoReaders, OneConvolutionTwice, NormFirst])
def test_a_norm_that_cannot_be_folded_stays_and_so_does_the_function(kind, images) -> None:
    model = tiny.warmed(kind(), SHAPE)
    assert torch.allclose(folded(model)(images), model(images), atol=1e-5)


class Moody(nn.Module):
    """Decides by its data, so it has no fixed graph."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_without_a_fixed_graph_is_refused_by_name() -> None:
    with pytest.raises(SlimlineError, match="Moody cannot be traced"):
        folded(Moody())


@pytest.mark.parametrize("bits", [2, pytest.param(4, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))
def test_a_quantized_network_comes_back_exactly_from_weights_of_one_byte_and_biases_of_four(name, bits, images) -> None:
    model, record, network = calibrated_tiny(name, images, bits)
    with torch.no_grad():  # as after training on the grid: weights lie between codes, some beyond the last
        for layer in quantized_layers(network).values():
            layer.weight.mul_(1 + 0.3 * torch.randn_like(layer.weight))
            layer.bias.add_(0.1 * torch.randn_like(layer.bias))
    state = stored_state(network)
    for layer in record["weights"]:
        assert state[f"{layer}.weight"].dtype == torch.int8
        assert state[f"{layer}.weight"].abs().max() <= 2 ** (bits - 1) - 1
        assert state[f"{layer}.bias"].dtype == torch.int32
    again = quantized(model, record)
    load_stored_state(again, state)
    assert torch.equal(again(images), network(images))
    restored = stored_state(again)
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[key], state[key]) for key in state)


def test_every_convolution_and_classifier_takes_on_the_quantized_form(images) -> None:
    model, record, network = calibrated_tiny("resnet", images)
    wanted = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert set(quantized_layers(network)) == wanted == set(record["weights"])


def test_a_bias_step_is_the_product_of_the_scales_of_input_and_weight(images) -> None:
    _, _, network = calibrated_tiny("mobilenet", images)
    first = network.get_submodule("network.stem.0")
    assert torch.equal(first.bias_step, network.get_submodule("quantizers.normalize").scale * first.grid.scale)


def test_making_the_quantized_form_leaves_the_original_as_it_was(images) -> None:
    model = tiny.trained()
    before, output = {key: tensor.clone() for key, tensor in model.state_dict().items()}, model(images)
    record = plan(model, SHAPE, weight_bits=4, activation_bits=4)
    calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(model(images), output)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": {"network.nowhere": EIGHT}, "inputs": {"network.nowhere": None}}, "no layer 'network.nowhere'"),
        ({"weights": {"network.pool": EIGHT}, "inputs": {"network.pool": None}}, "'network.pool' is a AdaptiveAvgPool2d"),
        ({"activations": {"no_such_tensor": EIGHT}}, "no tensor 'no_such_tensor'"),
        ({"activations": {"normalize": {**EIGHT, "bits": 9}}}, "found 9"),
        ({"activations": {"normalize": {"kind": "melted"}}}, "a grid of kind 'melted'"),
        ({"activations": {"normalize": {"kind": "codebook", "bits": 4, "zero": False}}}, "a codebook is for weights"),
        ({"activations": {"normalize": {"kind": "float", "type": "e9m9", "per_channel": False}}}, "'e9m9' is no floating-point format"),
    ],
)
def test_a_record_that_fits_another_network_is_refused(change, named) -> None:
    record = {"weights": {}, "activations": {}, "inputs": {}} | change
    with pytest.raises(SlimlineError, match=named):
        quantized(tiny.trained(), record)
