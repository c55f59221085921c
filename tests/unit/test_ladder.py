"""Every rung of the ladder of widths: what is saved, exported and run is what was made."""

import onnx
import pytest
import torch
from torch import Tensor, fx, nn

import tiny
from slimline.artifacts import load, load_packed, save
from slimline.core.cost import measure
from slimline.core.double import double
from slimline.core.quantized import quantized_layers
from slimline.errors import SlimlineError
from slimline.export.parity import parity
from slimline.export.runtime import OnnxModel, TorchModel, deployed, optimized_nodes
from slimline.paths import ModelFolder
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import ACTIVATIONS, WEIGHTS, calibrated, plan
from slimline.quantization.learning import learnable

SHAPE = (1, 8, 8)
REAL, BOOK = Choice(32), Choice(4, codebook=True)
RUNGS = {
    # weights, activations, whether ONNX Runtime computes it in integers from the first grid to the logits
    "32": (Choice(32), REAL, False),
    "16": (Choice(16), Choice(16), False),
    "bf16": (Choice("bf16"), Choice("bf16"), False),
    "e4m3": (Choice("e4m3", per_channel=True), Choice("e4m3"), False),
    "e5m2": (Choice("e5m2"), Choice("e5m2"), False),
    "8": (WEIGHTS, ACTIVATIONS, True),
    "5 and 6": (Choice(5, per_channel=True), Choice(6, symmetric=False), True),
    "2": (Choice(2, per_channel=True), Choice(2, symmetric=False), True),
    "one scale": (Choice(8), ACTIVATIONS, True),
    "zero points": (Choice(4, symmetric=False, per_channel=True), ACTIVATIONS, True),
    "symmetric activations": (WEIGHTS, Choice(8), False),
    "weights alone": (Choice(4, per_channel=True), REAL, False),
    "a codebook": (BOOK, ACTIVATIONS, False),
    "by name": (Choice(4, {"*stem*": 8, "*classifier": 16}, per_channel=True), Choice(8, {"normalize": 32}, symmetric=False), False),
}
WEIGHT_BYTES = {"32": 4, "16": 2, "bf16": 2}
REAL_NODES = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "GlobalAveragePool", "ReduceMean"}
AT_BORDERS = {"Add", "Mul", "QuantizeLinear"}
"""The normalization of the image, before its first grid."""


def put_on(weights: Choice, activations: Choice, images: Tensor, model: nn.Module) -> tuple[dict, fx.GraphModule]:
    record = plan(model, SHAPE, weights=weights, activations=activations)
    schemes = {"weights": {"name": "mse"}, "activations": {"name": "min_max"}, "codebook": {"name": "k_means"}}
    return record, calibrated(model, record, [images], **schemes).eval()


QUICK = ("8", "2")


@pytest.mark.parametrize("rung", [rung if rung in QUICK else pytest.param(rung, marks=pytest.mark.slow) for rung in RUNGS])
def test_a_rung_is_rebuilt_from_codes_and_scales_and_exported_exactly(rung, images, tmp_path) -> None:
    weights, activations, integers = RUNGS[rung]
    record, network = put_on(weights, activations, images, tiny.trained("resnet"))
    files = ModelFolder(tmp_path / "model")
    save(files, tiny.manifest("resnet").after("quantized", record), network)
    expected = network(images).detach()
    for _, again in (load(files), load_packed(files.packed)):
        assert torch.equal(again(images), expected)
    result = parity(network, OnnxModel(files.onnx, threads=1), [images])
    step = 255 if activations.bits == 8 else 15
    assert result.agreement == 1 or result.largest_difference < float(expected.detach().std())
    assert result.mean_difference <= float(expected.max() - expected.min()) / step
    nodes = optimized_nodes(files.onnx)
    assert (set(nodes) & REAL_NODES == set()) == integers, nodes
    if integers:
        assert sum(nodes[kind] for kind in AT_BORDERS) == 3
        assert nodes["DequantizeLinear"] == 0
        assert nodes["QLinearConv"] + nodes["QGemm"] == len(quantized_layers(network))
    if not weights.exceptions:
        sizes = sorted(layer.weight.numel() * WEIGHT_BYTES.get(rung, 1) for layer in quantized_layers(network).values())
        held = [len(tensor.raw_data) for tensor in onnx.load(files.onnx).graph.initializer]
        assert set(sizes[-3:]) <= set(held), "weights take as many bytes as their codes"


def test_bit_operations_count_each_layer_s_own_widths(images) -> None:
    model = tiny.trained("lenet5")
    plain = measure(model, SHAPE)
    for rung, bits in {"16": 16 * 16, "e4m3": 64, "8": 64, "5 and 6": 30, "weights alone": 4 * 32, "a codebook": 32}.items():
        assert measure(put_on(*RUNGS[rung][:2], images, model)[1], SHAPE).bops == plain.macs * bits, rung
    assert measure(double(tiny.trained("lenet5"), {}), SHAPE).bops == plain.macs * 64 * 64


def test_sixty_four_bits_are_rebuilt_and_run_by_torch_which_says_so(images, tmp_path) -> None:
    model = tiny.trained("lenet5")
    expected = model(images)
    network = double(model, {})
    files, manifest = ModelFolder(tmp_path / "model"), tiny.manifest("lenet5").after("double", {})
    save(files, manifest, network)
    for _, again in (load(files), load_packed(files.packed)):
        assert next(again.parameters()).dtype == torch.float64
        assert torch.equal(again(images), network(images))
    runs = deployed(manifest.forms, files.onnx, network, threads=1)
    assert isinstance(runs, TorchModel)
    assert runs.runtime == "torch"
    assert torch.equal(torch.from_numpy(runs(images.numpy())), network(images))
    assert torch.allclose(network(images), expected, atol=1e-4)
    with pytest.raises(SlimlineError, match=r"ONNX Runtime cannot load it"):
        OnnxModel(files.onnx, threads=1)


def test_a_pattern_that_fits_no_layer_is_refused_with_what_there_is(images) -> None:
    model = tiny.trained("lenet5")
    with pytest.raises(SlimlineError, match=r"no layer fits the pattern '\*.clasifier'; .*allowed here: .*network.classifier"):
        plan(model, SHAPE, weights=Choice(8, {"*.clasifier": 4}))
    with pytest.raises(SlimlineError, match=r"no tensor fits the pattern 'nowhere'"):
        plan(model, SHAPE, activations=Choice(8, {"nowhere": 4}))


def test_of_several_patterns_the_last_that_fits_counts() -> None:
    choice = Choice(8, {"a*": 4, "*b": 2})
    assert choice.bits_of(["a", "ab", "b", "c"], "layer") == {"a": 4, "ab": 2, "b": 2, "c": 8}


def test_a_weight_beyond_a_format_s_range_is_refused_with_its_layer(images) -> None:
    model = tiny.trained("lenet5")
    with torch.no_grad():
        model.network.classifier.weight[0, 0] = 1e5
    with pytest.raises(SlimlineError, match=r"layer 'network.classifier': values up to 1e\+05, where float16 ends at 6.55e\+04"):
        put_on(Choice(16), REAL, images, model)
    put_on(Choice("e4m3"), REAL, images, model)


def test_scales_are_learned_by_integers_alone(images) -> None:
    graph = put_on(*RUNGS["16"][:2], images, tiny.trained("lenet5"))[1]
    with pytest.raises(SlimlineError, match=r"quantize.weights.learn: no layer's weights are integers"):
        learnable(graph, SHAPE, weights={"name": "lsq"})
    with pytest.raises(SlimlineError, match=r"quantize.activations.learn: no activations are integers"):
        learnable(graph, SHAPE, activations={"name": "pact"})
