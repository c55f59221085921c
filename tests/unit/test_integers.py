"""The integer reference, the bound of its sums, and parity with what was trained."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import fx, nn

import tiny
from slimline.artifacts import save
from slimline.core.cost import measure
from slimline.core.integers import _Codes, _Integers, check_sums, integer_reference
from slimline.core.masked import Mask, copy_masked
from slimline.core.normalize import Normalize
from slimline.core.quantized import QuantizedConv2d, point_of, quantized_layers, settled, weight_codes
from slimline.errors import SlimlineError
from slimline.export.parity import parities, parity, ways
from slimline.export.runtime import OnnxModel
from slimline.export.session import adds_in_16_bits
from slimline.paths import ModelFolder
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import WEIGHTS, calibrated, plan

SHAPE = (1, 8, 8)
MIN_MAX = {"weights": {"name": "min_max"}, "activations": {"name": "min_max"}}


def on_grids(name: str, bits: int, images: torch.Tensor, **choices: Choice):  # type: ignore[no-untyped-def]
    model = tiny.trained(name)
    record = plan(model, SHAPE, weight_bits=bits, activation_bits=8, **choices)
    return record, calibrated(model, record, [images], **MIN_MAX).eval()


@pytest.mark.parametrize("bits", [8, pytest.param(4, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))
def test_integers_compute_what_was_trained(name, bits, images) -> None:
    _, network = on_grids(name, bits, images)
    result = parity(network, lambda x: integer_reference(network)(torch.from_numpy(x)).numpy(), [images])
    assert result.mean_steps < 0.5
    assert result.agreement >= 15 / 16


def test_integers_with_zero_points_on_both_sides_compute_what_was_trained(images) -> None:
    _, network = on_grids("resnet", 8, images, weights=Choice(8, symmetric=False, per_channel=True))
    assert torch.allclose(integer_reference(network)(images), network(images), atol=0.02)


@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_are_settled_where_no_sum_falls_between_two_codes_and_weights_keep_their_codes(per_channel, images) -> None:
    _, network = on_grids("mobilenet", 2, images, weights=Choice(2, per_channel=per_channel))
    name, layer = list(quantized_layers(network).items())[2]  # the first that sees one pixel at a time
    behind = network.get_submodule(f"quantizers.{layer_behind(network, name)}")
    layer.grid.scale = torch.full_like(layer.grid.scale, 1.5) * behind.scale / point_of(network, layer).scale  # odd sums lie on a half
    layer.weight.data = layer.grid.decode(torch.randint_like(layer.weight, -1, 2))
    codes = {name: weight_codes(layer).clone() for name, layer in quantized_layers(network).items()}
    settled(network)
    assert all(torch.equal(weight_codes(layer), codes[name]) for name, layer in quantized_layers(network).items())
    ratio = (layer.bias_step.double() / behind.scale.double()) / 1.5
    assert ((ratio - 1).abs() > 2**-15).all()
    assert ((ratio - 1).abs() < 2**-10).all()
    step = float(network(images).detach().abs().max()) / 255
    assert torch.allclose(integer_reference(network)(images), network(images), atol=step / 1000)


def layer_behind(network: fx.GraphModule, layer: str) -> str:
    """The name of the grid behind a layer and its activation."""
    node = next(node for node in network.graph.nodes if node.target == layer)
    while not str(node.target).startswith("quantizers."):
        node = next(iter(node.users))
    return str(node.target).removeprefix("quantizers.")


def test_what_a_mask_takes_has_no_say_in_integers_nor_in_what_is_counted(images) -> None:
    model = tiny.trained("lenet5")
    masked = copy_masked(model, {"network.hidden": Mask(torch.rand_like(model.network.hidden.weight) < 0.5)})
    network = calibrated(masked, plan(masked, SHAPE), [images], **MIN_MAX).eval()
    logits, cost = integer_reference(network)(images), measure(network, SHAPE)
    layer = quantized_layers(network)["network.hidden"]
    with torch.no_grad():
        layer.weight[~layer.mask] = 1.0  # what an optimizer might do
    assert torch.equal(integer_reference(network)(images), logits)
    assert measure(network, SHAPE) == cost


def test_sums_are_whole_numbers_and_inputs_integers_in_their_range(images) -> None:
    _, network = on_grids("mobilenet", 8, images)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Listening(_Integers):
        def run_node(self, node):  # type: ignore[no-untyped-def]
            result = super().run_node(node)
            layer = self.fetch_attr(node.target) if node.op == "call_module" else None
            if isinstance(layer, QuantizedConv2d):
                seen.append((self.env[node.args[0]].codes, result / layer.bias_step.view(-1, 1, 1)))
            if isinstance(result, _Codes):
                assert torch.equal(result.codes, result.codes.round())
            return result

    Listening(network.double()).run(images.double())
    assert len(seen) == 5
    for codes, sums in seen:
        assert codes.abs().max() <= 255
        assert torch.allclose(sums, sums.round(), atol=1e-6)


def test_images_that_a_runtime_of_32_bit_scales_rounds_otherwise_are_few(images, tmp_path) -> None:
    record, network = on_grids("resnet", 8, images)
    files = ModelFolder(tmp_path / "model")
    save(files, tiny.manifest("resnet").after("quantized", record), network)
    others = ways(network, files.onnx, OnnxModel(files.onnx, threads=1), threads=1)
    assert list(others) == ["deployed", "unoptimized", "integers"]
    for result in parities(network, others, [images]).values():
        assert result.agreement == 1
        assert result.largest_steps <= 1
        assert result.mean_steps < 0.05


def test_a_network_of_real_numbers_has_no_integers_to_compare(tmp_path) -> None:
    assert list(ways(tiny.trained(), tmp_path / "none.onnx", lambda x: x, threads=1)) == ["deployed"]  # type: ignore[arg-type]


def test_differences_are_told_in_steps_of_eight_bits_over_the_range_of_logits(images) -> None:
    model = tiny.trained()
    logits = model(images).detach()
    step = float(logits.max() - logits.min()) / 255
    result = parity(model, lambda x: model(torch.from_numpy(x)).detach().numpy() + np.float32(3 * step), [images])
    assert result.agreement == 1
    assert result.largest_steps == pytest.approx(3, rel=1e-3)
    assert result.mean_steps == pytest.approx(3, rel=1e-3)


def wide(inputs: int) -> nn.Module:
    layer = nn.Linear(inputs, 2)
    nn.init.constant_(layer.weight, 0.5)
    return nn.Sequential(OrderedDict(normalize=Normalize([0.0], [1.0]), network=nn.Sequential(nn.Flatten(), layer))).eval()


@pytest.mark.parametrize(("bits", "overflows"), [(8, True), (7, False)])
def test_sums_that_could_leave_32_bits_are_refused_by_their_bound(bits, overflows) -> None:
    side = 258  # 258² · 255 · 127 is just above 2^31
    model, shape = wide(side * side), (1, side, side)
    record = plan(model, shape, weights=Choice(bits, per_channel=WEIGHTS.per_channel))
    network = calibrated(model, record, [torch.rand(2, *shape)], **MIN_MAX)
    assert len(quantized_layers(network)) == 1
    if overflows:
        with pytest.raises(SlimlineError, match=r"layer 'network.1': sums could reach 2.16e\+09, where 32 bits end at 2.15e\+09"):
            check_sums(network)
    else:
        check_sums(network)


@pytest.mark.parametrize(
    ("flags", "saturates"), [("fpu avx2 avx512f", True), ("fpu avx512_vnni", False), ("fpu avx_vnni", False), ("amx_int8", False)]
)
def test_a_processor_without_vnni_is_told_by_its_flags(flags, saturates, tmp_path, monkeypatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : x\nflags\t\t: {flags}\n")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert adds_in_16_bits(tmp_path / "cpuinfo") == saturates
    assert not adds_in_16_bits(tmp_path / "nowhere")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not adds_in_16_bits(tmp_path / "cpuinfo")


@pytest.mark.parametrize("saturates", [False, True])
def test_the_exact_and_slower_way_is_asked_for_where_it_is_needed_and_nowhere_else(saturates, monkeypatch, tmp_path) -> None:
    asked = []

    class Options:
        def add_session_config_entry(self, key: str, value: str) -> None:
            asked.append((key, value))

    monkeypatch.setattr("onnxruntime.SessionOptions", Options)
    monkeypatch.setattr("slimline.export.session.adds_in_16_bits", lambda: saturates)
    with pytest.raises(SlimlineError, match="ONNX Runtime cannot load it"):
        OnnxModel(tmp_path / "none.onnx", threads=1)
    assert asked == ([("session.x64quantprecision", "1")] if saturates else [])
