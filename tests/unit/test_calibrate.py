"""From float to integer grids: what is put on a grid, and how near it stays."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, fx, nn

import tiny
from slimline.core.normalize import Normalize
from slimline.core.quantized import POINTS, quantized_layers, stored_state
from slimline.errors import SlimlineError
from slimline.quantization import SCHEMES
from slimline.quantization.calibrate import calibrated, plan

SHAPE = (1, 8, 8)
ZOO = pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))
DULLER = {"densenet": 4.2, "wide_resnet": 2.0, "mobilenet_v2": 2.0, "binarynet_conv": 3.0}
DULLER_NORM = 4.5
"""How much larger an error may be beside the spread of the logits: a norm of each image by itself, or no norm, leaves untrained
networks with logits that hardly differ from one random image to the next; so do a norm right before the mean over the map, many layers,
and values near the ends of a hard tanh."""
QUICKER = {"mse": {"steps": 6}}
MIN_MAX = {"weights": {"name": "min_max"}, "activations": {"name": "min_max"}}


def quantized_at(model: nn.Module, bits: int, batches: list[Tensor], schemes=MIN_MAX) -> fx.GraphModule:
    return calibrated(model, plan(model, SHAPE, weight_bits=bits, activation_bits=bits), batches, **schemes)


def duller(name: str) -> float:
    family, _, norm = name.partition(" ")
    return DULLER.get(family, 1.0) * (DULLER_NORM if norm else 1.0)


def error(name: str, bits: int, images: Tensor) -> float:
    """Root mean square of the error of the logits, relative to their spread."""
    model = tiny.trained(name)
    with torch.no_grad():
        difference = quantized_at(model, bits, [images])(images) - model(images)
        return float(difference.square().mean().sqrt() / model(images).std())


@ZOO
def test_eight_bits_are_near_the_real_numbers_and_fewer_are_further_off(name, images) -> None:
    errors = [error(name, bits, images) for bits in (8, 6, 4, 2)]
    assert errors[0] < 0.05 * duller(name)
    assert errors == sorted(errors)
    assert errors[-1] > 0.2


@pytest.mark.parametrize("name", ["resnet", "lenet5", "vit"])
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_can_set_the_ranges_of_weights_and_of_activations(name, scheme, images) -> None:
    model, spec = tiny.trained(name), {"name": scheme, **QUICKER.get(scheme, {})}
    logits = quantized_at(model, 8, [images], {"weights": spec, "activations": spec})(images)
    assert (logits - model(images)).abs().max() < 0.15 * duller(name) * model(images).std()


@ZOO
def test_every_quantized_layer_reads_a_grid_and_the_logits_stay_real(name, images) -> None:
    model = tiny.trained(name)
    network = quantized_at(model, 4, [images])
    seen: dict[str, Tensor] = {}
    for key, layer in quantized_layers(network).items():
        layer.register_forward_pre_hook(lambda _, inputs, key=key: seen.__setitem__(key, inputs[0]))
    network(images)
    assert seen.keys() == quantized_layers(network).keys()
    assert max(len(values.unique()) for values in seen.values()) <= 16
    (output,) = (node for node in network.graph.nodes if node.op == "output")
    assert output.args[0].target == "network.classifier"


def test_both_inputs_of_an_addition_are_on_grids_so_that_a_runtime_can_add_integers(images) -> None:
    record = plan(tiny.trained("resnet"), SHAPE, weight_bits=8, activation_bits=8)
    assert len([name for name in record["activations"] if name.startswith("add")]) == 0, "a sum before a ReLU is fused into it"
    assert len([name for name in record["activations"] if "relu2" in name]) == 3
    assert len([name for name in record["activations"] if "conv2" in name]) == 3


def test_ranges_come_from_all_batches_and_not_from_the_last(images) -> None:
    model = tiny.trained()
    bright, dark = images, images * 0.8 + 0.1
    scales = [quantized_at(model, 8, batches).get_submodule(f"{POINTS}.normalize").scale for batches in ([bright], [bright, dark], [dark, bright])]
    assert scales[0] == scales[1] == scales[2] != quantized_at(model, 8, [dark]).get_submodule(f"{POINTS}.normalize").scale


def test_the_largest_value_counts_also_where_too_many_are_seen_to_keep_all() -> None:
    model, many = tiny.trained(), torch.rand(2100, *SHAPE)
    many.view(-1)[[7, 10_001]] = torch.tensor([-4.0, 9.0])  # odd places, of which none is among the every second kept
    scale = quantized_at(model, 8, [many]).get_submodule(f"{POINTS}.normalize").scale
    assert torch.isclose(scale * 255 * 0.3, torch.tensor(13.0), rtol=1e-4)


def test_a_range_of_activations_is_that_of_the_network_of_real_numbers(images) -> None:
    model = tiny.trained()
    seen: list[Tensor] = []
    model.network.pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    point = quantized_at(model, 2, [images]).get_submodule(f"{POINTS}.network_blocks_1_5")
    assert torch.isclose(point.scale * 3, seen[0].max(), rtol=1e-4)


def test_an_empty_calibration_set_is_refused() -> None:
    for batches in ([], [torch.rand(0, *SHAPE)]):
        with pytest.raises(SlimlineError, match="calibration set is empty"):
            quantized_at(tiny.trained(), 8, batches)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_activation_without_end_is_refused_with_its_tensors_name(value, images) -> None:
    images[3, 0, 2, 2] = value
    with pytest.raises(SlimlineError, match="tensor 'normalize' has infinite or undefined values"):
        quantized_at(tiny.trained(), 8, [images])


@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_a_layer_of_zeros_is_refused_with_its_name_and_not_with_that_of_one_it_made_idle(value, images) -> None:
    model = tiny.trained("lenet5")
    layer = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)][-1]
    nn.init.constant_(model.get_submodule(layer).weight, value)
    with pytest.raises(SlimlineError, match=f"layer '{layer}' has no range"):
        quantized_at(model, 8, [images])


@pytest.mark.parametrize(("part", "value"), [("weight", float("inf")), ("bias", float("nan"))])
def test_a_number_that_is_none_is_refused_with_its_layer_before_and_after_training(part, value, images) -> None:
    model = tiny.trained()
    trained = quantized_at(model, 8, [images])
    with torch.no_grad():
        getattr(model.network.classifier, part)[0] = value
        trained.get_submodule("network.classifier").bias[0] = value
    with pytest.raises(SlimlineError, match=r"layer 'network.classifier' has infinite or undefined weights"):
        quantized_at(model, 8, [images])
    with pytest.raises(SlimlineError, match=r"layer 'network.classifier': a bias needs more than 32 bits"):
        stored_state(trained)


def test_a_tensor_that_is_always_zero_is_refused_with_its_name(images) -> None:
    model = tiny.trained()
    nn.init.constant_(model.network.stem[1].bias, -1000)
    with pytest.raises(SlimlineError, match="tensor 'network_stem_2': a tensor without range"):
        quantized_at(model, 8, [images])


def test_a_model_without_layers_to_quantize_is_refused() -> None:
    with pytest.raises(SlimlineError, match="no convolution or fully connected layer"):
        plan(nn.Sequential(nn.Flatten()), SHAPE, weight_bits=8, activation_bits=8)


def test_a_nearly_dead_channel_keeps_its_bias() -> None:
    """Tiny weights mean a tiny step, at which a common bias would need more than 32 bits."""
    layer = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        layer.weight[1] *= 1e-9
        layer.bias.copy_(torch.tensor([0.1, 0.5]))
    model = nn.Sequential(OrderedDict(normalize=Normalize([0.0], [1.0]), network=nn.Sequential(layer, nn.Flatten(), nn.Linear(72, 3)))).eval()
    x = torch.rand(32, 1, 8, 8)
    record = plan(model, (1, 8, 8), weight_bits=8, activation_bits=8)
    scheme = {"name": "min_max"}
    quantized = calibrated(model, record, [x], weights=scheme, activations=scheme).eval()
    codes = stored_state(quantized)["network.0.bias"]
    step = quantized_layers(quantized)["network.0"].bias_step
    assert torch.allclose(codes * step, torch.tensor([0.1, 0.5]), atol=1e-3)
    assert float((quantized(x) - model(x)).abs().max()) < 0.05


def test_a_bias_that_training_made_too_large_is_refused_by_the_layer_s_name() -> None:
    model = tiny.trained()
    scheme = {"name": "min_max"}
    record = plan(model, (1, 8, 8), weight_bits=8, activation_bits=8)
    quantized = calibrated(model, record, [torch.rand(8, 1, 8, 8)], weights=scheme, activations=scheme)
    name, layer = next(iter(quantized_layers(quantized).items()))
    with torch.no_grad():
        layer.bias.fill_(1e9)
    with pytest.raises(SlimlineError, match=f"layer '{name}': a bias needs more than 32 bits"):
        stored_state(quantized)
