"""Our quantizers beside torchao's pt2e, on the same trained networks: accuracy at equal bits.

    python benchmarks/pt2e.py [MNIST.tar.xz]      (about fifteen minutes on one core; without an archive: one network on the digits)

torchao is no dependency: `pip install torchao==0.18.0` beside the environment (into a folder on PYTHONPATH, say). Both get the same
network, the same calibration images, 8 bits for activations and 8 or 4 for weights, a scale a channel; once calibrated alone, once
trained for one epoch with the same optimizer, rate and batches. pt2e takes the X86 quantizer, its public one for convolutional networks, with its
own observers (histograms for activations, min-max for weights); for 4 bits its weights get codes from -8 to 7. Its quantizer leaves
sums of a residual network in real numbers, ours does not. Differences are paired over the test images. The last line is JSON.
"""

import argparse
import copy
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import SCHEMES, Split, descend, digits, mnist, on_grids, trained
from torch import nn

from slimline.evaluation.latency import machine
from slimline.evaluation.statistics import compare
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import ACTIVATIONS, calibrated, plan

try:
    import torchao
    from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
except ImportError:
    torchao = None

NETWORKS = {
    "plain (LeNet-5)": {"name": "lenet5", "filters": [16, 32], "hidden": 128},
    "residual (ResNet-8, width 8)": {"name": "resnet", "depth": 8, "width": 8},
    "MobileNet, width 16": {"name": "mobilenet", "width": 16, "stride": 2},
}
QUICK = ("plain (LeNet-5)",)
WIDTHS = (8, 4)
RATE = 1e-3
CALIBRATION = 512
CONFIDENCE = 0.95


def ours(model: nn.Module, train: Split, bits: int, epochs: int) -> nn.Module:
    if epochs:
        return on_grids(model, train, bits, epochs)[0].eval()
    record = plan(model, train.shape, weights=Choice(bits, per_channel=True), activations=ACTIVATIONS)
    return calibrated(model, record, [calibration(train)], **SCHEMES).eval()


def calibration(train: Split) -> torch.Tensor:
    return train.part(0, max(1, len(train.labels) // CALIBRATION)).images


def theirs(model: nn.Module, train: Split, bits: int, epochs: int) -> nn.Module:
    config = x86.get_default_x86_inductor_quantization_config(is_qat=epochs > 0)
    weight = replace(config.weight, quant_min=-(2 ** (bits - 1)), quant_max=2 ** (bits - 1) - 1)
    quantizer = x86.X86InductorQuantizer().set_global(replace(config, weight=weight))
    fresh = copy.deepcopy(model).train(epochs > 0)
    batch = {0: torch.export.Dim("batch", min=2)}
    exported = torch.export.export(fresh, (train.images[:2],), dynamic_shapes=(batch,)).module()
    prepared = (prepare_qat_pt2e if epochs else prepare_pt2e)(exported, quantizer)
    if epochs:
        move_exported_model_to_train(prepared)
        torch.manual_seed(0)
        descend(prepared, train, epochs, RATE)
    else:
        with torch.no_grad():
            prepared(calibration(train))
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted


def right(model: nn.Module, split: Split) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([model(images).argmax(1).numpy() for images in split.images.split(250)]) == split.labels.numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    archive = parser.parse_args().archive
    if torchao is None:
        print("pt2e: torchao is not installed, so there is nothing to compare with; pip install torchao==0.18.0", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if archive is None:
        train, test = digits(28)
    else:
        whole, test = mnist(archive)
        train = whole.part(0, 10)
    rows: list[dict[str, Any]] = []
    for name in QUICK if archive is None else NETWORKS:
        model = trained(NETWORKS[name], train, 3)
        real = right(model, test)
        for bits in WIDTHS:
            for epochs in (0, 1):
                found = {way: right(make(model, train, bits, epochs), test) for way, make in (("ours", ours), ("pt2e", theirs))}
                row = {"network": name, "weight_bits": bits, "way": "trained" if epochs else "calibrated", "float": float(real.mean())}
                row |= {way: float(one.mean()) for way, one in found.items()}
                rows.append({**row, "ours_minus_pt2e": vars(compare(found["ours"], found["pt2e"], CONFIDENCE))})
                print(rows[-1], flush=True)
    print(json.dumps({"machine": machine(), "torchao": torchao.__version__, "train": len(train.labels), "test": len(test.labels), "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
