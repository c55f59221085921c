"""The packed file is as small as its codes' entropy lets it be, whatever the bits and however sparse."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from slimline.artifacts import Manifest, load_packed, packed
from slimline.core.binary import packed_signs
from slimline.core.masked import Mask, copy_masked
from slimline.core.quantized import stored_state
from slimline.export.packed import read_packed, to_packed
from slimline.models.network import network
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan

REST = 1024
"""Bytes for all that is neither a code nor a scale nor a shape."""


def entropy_bytes(tensor: Tensor) -> float:
    counts = tensor.flatten().unique(return_counts=True)[1].double()
    return float((counts * torch.log2(counts.sum() / counts)).sum()) / 8


def made(spec: dict, shape: tuple[int, int, int], bits: int, zeros: float, *, codebook: bool) -> tuple[Manifest, dict[str, Tensor]]:
    """A network with bell-shaped weights, `zeros` of which are zero, put on grids."""
    torch.manual_seed(0)
    model = network(spec, shape, 10, (0.4,) * shape[0], (0.3,) * shape[0]).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.05)
                module.weight[torch.rand_like(module.weight) < zeros] = 0
    record = plan(model, shape, weights=Choice(bits, per_channel=True, codebook=codebook))
    graph = calibrated(
        model, record, [torch.rand(4, *shape)], weights={"name": "mse"}, activations={"name": "min_max"}, codebook={"name": "k_means", "rounds": 20}
    )
    manifest = Manifest(architecture=spec, input_shape=shape, mean=(0.4,) * shape[0], std=(0.3,) * shape[0], classes=tuple("0123456789"))
    return manifest.after("quantized", record), stored_state(graph)


LENET, RESNET = ({"name": "lenet300"}, (1, 28, 28)), ({"name": "resnet", "depth": 20, "width": 16}, (3, 32, 32))
CASES = [
    pytest.param(LENET, 8, 0.0, False, marks=pytest.mark.slow),
    pytest.param(LENET, 3, 0.0, False, marks=pytest.mark.slow),
    pytest.param(LENET, 2, 0.0, False, marks=pytest.mark.slow),
    (LENET, 5, 0.92, True),
    (LENET, 4, 0.98, False),
    pytest.param(RESNET, 8, 0.0, False, marks=pytest.mark.slow),
    pytest.param(RESNET, 4, 0.5, False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("which", "bits", "zeros", "codebook"), CASES)
def test_a_packed_file_is_within_three_hundredths_of_what_its_codes_are_worth(which, bits, zeros, codebook, tmp_path) -> None:
    manifest, state = made(*which, bits, zeros, codebook=codebook)
    description = manifest.model_dump(mode="json")
    content = to_packed(description, state)
    codes = sum(entropy_bytes(tensor) for tensor in state.values() if tensor.itemsize == 1)
    scales = sum(tensor.nbytes for tensor in state.values() if tensor.itemsize > 1)
    shapes = sum(2 * tensor.ndim for tensor in state.values())
    assert len(content) <= 1.03 * (codes + scales + shapes + REST)
    path = tmp_path / "model.slim"
    path.write_bytes(content)
    begin = time.perf_counter()
    again, tensors = read_packed(path)
    assert time.perf_counter() - begin < 5
    assert again == description
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype for name, tensor in state.items())


REALS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
KINDS = [*REALS, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 5), (1001,)])
def test_tensors_of_every_type_and_shape_come_back(kind, shape, tmp_path) -> None:
    values = torch.from_numpy(np.random.default_rng(0).integers(-100, 100, shape)).to(kind)
    path: Path = tmp_path / "model.slim"
    path.write_bytes(to_packed({}, {"a": values, "b": values}))
    tensors = read_packed(path)[1]
    for tensor in tensors.values():
        assert tensor.dtype == kind
        assert torch.equal(tensor.float(), values.float())
        assert tensor.shape == values.shape


@pytest.mark.parametrize("kind", [*REALS[:-1], torch.int32], ids=str)
@pytest.mark.parametrize("zeros", [0.05, 0.5, 0.95, 1.0])
def test_pruned_numbers_come_back_and_cost_their_places_and_themselves(kind, zeros, tmp_path) -> None:
    torch.manual_seed(0)
    values = (torch.randn(200, 300) * 1000).to(kind)
    values[torch.rand_like(values, dtype=torch.float32) < zeros] = 0
    values[0, 0] = -0.0
    content = to_packed({}, {"a": values, "b": torch.arange(5, dtype=torch.int8)})
    (tmp_path / "model.slim").write_bytes(content)
    again = read_packed(tmp_path / "model.slim")[1]["a"]
    assert torch.equal(again, values)
    assert torch.equal(again.double().signbit(), values.double().signbit())
    if zeros >= 0.5:
        present = int(values.count_nonzero())
        assert len(content) <= 1.01 * (entropy_bytes(values != 0) + present * kind.itemsize) + 200


@pytest.mark.parametrize("form", ["masked", "quantized", "with zero points"])
def test_masks_cost_nothing_in_a_packed_file_and_are_there_again(form, tmp_path) -> None:
    torch.manual_seed(0)
    model = tiny.trained("lenet5")
    masks = {name: Mask(torch.rand_like(layer.weight) < 0.2) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    made, manifest = copy_masked(model, masks), tiny.manifest("lenet5").after("masked", {"layers": list(masks)})
    images = torch.rand(8, 1, 8, 8)
    if form != "masked":
        record = plan(made, (1, 8, 8), weights=Choice(8, symmetric=form == "quantized", per_channel=True))
        made = calibrated(made, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"}).eval()
        manifest = manifest.after("quantized", record)
    content = packed(manifest, made)
    (tmp_path / "model.slim").write_bytes(content)
    assert not [name for name in read_packed(tmp_path / "model.slim")[1] if name.endswith("mask")]
    _, again = load_packed(tmp_path / "model.slim")
    assert torch.equal(again(images), made(images))
    for name, mask in masks.items():
        found = again.get_buffer(f"{name}.mask")
        assert not bool((found & ~mask.kept).any()), "nothing that was pruned is kept"
        # Units that nothing reads, or that read nothing, were taken out before they were put on grids.
        assert found.sum() >= 0.95 * int((made.get_parameter(f"{name}.weight") * mask.kept).count_nonzero())


@pytest.mark.parametrize("plus", [0.5, 0.505, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("count", [64, 4096, 400_000])
def test_bits_take_an_eighth_of_a_byte_each_or_less_where_signs_are_uneven(plus, count, tmp_path) -> None:
    torch.manual_seed(0)
    weight = torch.where(torch.rand(count) < plus, 1.0, -1.0)
    bits = {"a.weight": packed_signs(weight), "b.weight": packed_signs(-weight.flip(0)), "zero": torch.tensor([3], dtype=torch.uint8)}
    content = to_packed({}, bits)
    (tmp_path / "model.slim").write_bytes(content)
    again = read_packed(tmp_path / "model.slim")[1]
    assert all(torch.equal(again[name], tensor) for name, tensor in bits.items())
    empty = len(to_packed({}, {name: tensor[:0] for name, tensor in bits.items()}))
    assert len(content) <= empty + 2 * count // 8 + 32
    if plus == 0.5:
        assert bits["a.weight"].numpy().tobytes() in content, "as they are"
    if plus >= 0.8 and count > 4096:
        assert len(content) < 0.8 * 2 * count / 8
