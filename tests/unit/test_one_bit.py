"""A binary network is measured beside its own architecture."""

import numpy as np
import torch

import tiny
from slimline.core.binary import Binarization, binary, binary_layers, sign
from slimline.evaluation.one_bit import beside, reads_signs
from slimline.export.onnx import to_onnx
from slimline.quantization.binarize import binarization, widths
from slimline.quantization.bits import Choice

SHAPE = (1, 8, 8)


def test_bits_stand_beside_fp32_and_8_bits_and_agree_with_torch(tmp_path, images) -> None:
    twin = tiny.trained("lenet5")
    assert not reads_signs(twin)
    model = tiny.trained("lenet5")
    model = binary(model, binarization(model, widths(model, Choice(1, {})), Binarization(), inputs=True)).eval()
    with torch.no_grad():
        for layer in binary_layers(model).values():
            layer.weight.copy_(sign(layer.weight))
    assert reads_signs(model)
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, SHAPE, {}))
    batches = np.split(images.numpy(), 4)
    how = {"threads": 1, "batch_sizes": (1, 3), "rounds": 10, "warm_up": 1, "confidence": 0.95}
    found = beside(model, tmp_path / "model.onnx", twin, SHAPE, batches, images.numpy(), **how)
    assert (found["images"], found["agreement"]) == (16, 1.0)
    assert list(found["models"]) == ["fp32", "int8", "binary", "xnor"]
    assert list(found["ratios_to_fp32"]["xnor"]) == ["batch_1", "batch_3"]
