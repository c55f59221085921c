"""A network on packed bits gives what torch gives, and runs no more in real numbers than it must."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import slimline
import tiny
from slimline.artifacts import Manifest, packed
from slimline.core.binary import Binarization, binary, binary_layers, sign
from slimline.core.popcount import SHARE
from slimline.errors import SlimlineError
from slimline.export.xnor import XnorModel
from slimline.models.network import network
from slimline.quantization.binarize import binarization, widths
from slimline.quantization.bits import Choice

SHAPE = (1, 8, 8)


def formed(model: nn.Module, *, scaled: bool = False, inputs: bool = True) -> tuple[dict, nn.Module]:
    """`model` in its binary form, its weights settled, and the form's record."""
    record = binarization(model, widths(model, Choice(1, {})), Binarization(scaled=scaled), inputs=inputs)
    made = binary(copy.deepcopy(model), record).eval()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in binary_layers(made).values():
            if layer.alpha is not None:
                layer.alpha.copy_(torch.rand(len(layer.alpha), generator=draws))
            layer.weight.copy_(sign(layer.weight))
    return record, made


def shaken(model: nn.Module) -> nn.Module:
    """`model` with scales of batch norm of both signs, and zero; its other numbers as training might leave them."""
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (norm.weight, norm.bias, norm.running_mean):
                    tensor.copy_(torch.randn(len(tensor), generator=draws))
                norm.running_var.copy_(torch.rand(len(norm.weight), generator=draws) * 20)
                norm.weight[0] = 0.0
    return model


def body(pool: nn.Module) -> nn.Module:
    """Convolutions, pools and fully connected layers as binarized networks have them."""
    layers = [nn.Conv2d(1, 20, 3, padding=1), nn.BatchNorm2d(20), nn.Hardtanh()]
    layers += [nn.Conv2d(20, 70, 3, padding=1, stride=2), pool, nn.BatchNorm2d(70), nn.Hardtanh(), nn.Conv2d(70, 65, (2, 3), bias=False)]
    layers += [nn.BatchNorm2d(65), nn.MaxPool2d(2, stride=1, padding=1), nn.Hardtanh(), nn.Flatten(), nn.LazyLinear(30), nn.BatchNorm1d(30)]
    return nn.Sequential(*layers, nn.Linear(30, 10), nn.BatchNorm1d(10))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)])
def test_layers_pass_each_other_bits_and_logits_are_those_of_torch(pool, scaled) -> None:
    model = body(pool).eval()
    model(torch.zeros(2, 1, 11, 14))
    _, made = formed(shaken(model), scaled=scaled)
    run = XnorModel(made, (1, 11, 14), threads=1)
    images = torch.randn(33, 1, 11, 14)
    with torch.no_grad():
        assert np.array_equal(run(images.numpy()), made(images).numpy())
    # The first convolution with its norm and hard tanh, three layers from bits to bits, the last layer, its norm.
    assert [step.makes.endswith(" as bits") for step in run.steps].count(True) == 4
    assert sum(step.reads[0].endswith(" as bits") and step.makes.endswith(" as bits") for step in run.steps) == 3


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("share", [1, SHARE])  # whether threads are worth waking for networks as small as these
def test_the_number_of_threads_and_the_parts_of_a_batch_change_nothing(threads, share, monkeypatch) -> None:
    for module in ("core.xnor", "export.xnor"):
        monkeypatch.setattr(f"slimline.{module}.SHARE", share)
    model = body(nn.MaxPool2d(2)).eval()
    model(torch.zeros(2, 1, 11, 14))
    _, made = formed(shaken(model))
    images, before = torch.randn(41, 1, 11, 14).numpy(), torch.get_num_threads()
    run, alone = XnorModel(made, (1, 11, 14), threads=threads), XnorModel(made, (1, 11, 14), threads=1)
    one_by_one = np.concatenate([alone(images[place : place + 1]) for place in range(41)])
    for count in (0, 1, 2, 9, 41):
        assert np.array_equal(run(images[:count]), one_by_one[:count])
    with pytest.raises(SlimlineError, match="NaN"):
        run(np.full_like(images, np.nan))
    assert torch.get_num_threads() == before, "the process's own setting is left as it was"


@pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))
def test_every_network_of_the_zoo_computes_what_torch_computes(name, images) -> None:
    _, made = formed(tiny.trained(name), scaled=True)
    run = XnorModel(made, SHAPE, threads=1)
    with torch.no_grad():
        assert np.array_equal(run(images.numpy()), made(images).numpy())


@pytest.mark.parametrize("scaled", [False, True])
def test_a_first_layer_reads_the_bits_of_pixels_and_other_numbers_by_torch(scaled) -> None:
    spec = {"name": "binarynet", "hidden": (70, 60)}
    _, made = formed(shaken(network(spec, (2, 8, 8), 10, (0.5, 0.2), (0.25, 0.25)).eval()), scaled=scaled)
    run = XnorModel(made, (2, 8, 8), threads=1)
    assert len(run.steps[0].reads) == 1
    assert run.steps[0].makes.endswith(" as bits")
    pixels = torch.randint(0, 256, (200, 2, 8, 8)).float() / 255
    for images in (pixels, torch.rand(200, 2, 8, 8)):
        with torch.no_grad():
            assert np.array_equal(run(images.numpy()), made(images).numpy())
    _, uneven = formed(network(spec, (2, 8, 8), 10, (0.5, 0.2), (0.25, 0.3)).eval(), scaled=scaled)
    with torch.no_grad():
        assert np.array_equal(XnorModel(uneven, (2, 8, 8), threads=1)(pixels.numpy()), uneven(pixels).numpy())


class _Shaped(nn.Module):
    """Asks for the batch's size, which is no tensor, and splits a tensor into two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(108, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.norm(self.first(x)).chunk(2, dim=1)
        return self.last(left.reshape(x.shape[0], -1)) + self.last(right.reshape(x.size(0), -1))


def test_a_network_may_ask_for_sizes_and_split_tensors(images) -> None:
    made = binary(shaken(_Shaped()).eval(), {"layers": {"last": {"inputs": True, "scaled": False}}, "signs": []})
    with torch.no_grad():
        made.last.weight.copy_(sign(made.last.weight))
        assert np.array_equal(XnorModel(made, SHAPE, threads=1)(images.numpy()), made(images).numpy())


def test_a_packed_file_is_loaded_to_run_on_bits(tmp_path: Path, images) -> None:
    spec = {"name": "lenet5", **tiny.MODEL["lenet5"]}
    record, made = formed(network(spec, SHAPE, 10, (0.5,), (0.25,)).eval())
    manifest = Manifest(architecture=spec, input_shape=SHAPE, mean=(0.5,), std=(0.25,), classes=tuple("0123456789")).after("binary", record)
    (tmp_path / "model.slim").write_bytes(packed(manifest, made))
    session = slimline.load(tmp_path / "model.slim", runtime="xnor")
    assert session.runtime == "xnor"
    with torch.no_grad():
        assert np.array_equal(session(images.numpy()), slimline.load(tmp_path / "model.slim")(images).numpy())


def test_images_that_do_not_fit_are_refused_in_a_line_and_none_at_all_give_no_logits(images) -> None:
    run = XnorModel(formed(tiny.trained("binarynet_conv"))[1], SHAPE, threads=1)
    for wrong, found in (
        (np.zeros((2, 1, 8, 9), np.float32), r"float32 \[2, 1, 8, 9\]"),
        (np.zeros((2, 3, 8, 8), np.float32), r"float32 \[2, 3, 8, 8\]"),
        (np.zeros((2, 1, 8, 8), np.float64), r"float64 \[2, 1, 8, 8\]"),
    ):
        with pytest.raises(SlimlineError, match=rf"images: found {found}, where this network takes an array, float32 \[batch 1 8 8\]"):
            run(wrong)
    with pytest.raises(SlimlineError, match="NaN has no sign"):
        run(np.full((1, *SHAPE), np.nan, np.float32))
    assert run(images.numpy()[:0]).shape == (0, 3)
    strided = np.repeat(images.numpy(), 2, axis=3)[:, :, :, ::2]
    assert not strided.flags.c_contiguous
    assert np.array_equal(run(strided), run(images.numpy()))


def test_networks_without_a_layer_that_reads_signs_are_refused(tmp_path: Path) -> None:
    plain = tiny.trained("mlp")
    for model in (plain, formed(plain, inputs=False)[1]):
        with pytest.raises(SlimlineError, match="no binary layer that reads ±1"):
            XnorModel(model, SHAPE, threads=1)
