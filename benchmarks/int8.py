"""Our exported W8A8 network against fp32 and against ONNX Runtime's own `quantize_static`, of the same trained weights.

    python benchmarks/int8.py [MNIST.tar.xz]      (about half an hour on one core; without an archive: two networks on the digits, few rounds)

Networks learn 6,000 images. Both quantizers calibrate on the same 256 of them and neither trains afterwards: weights symmetric a channel,
activations asymmetric a tensor, min-max. Latency is measured by one thread, all three in turn in random order (`evaluation.latency`), at
batch 1 and 64. Accuracy is that of ONNX Runtime on the 10,000 test images. "At least as accurate as `quantize_static`" is taken as
non-inferiority: the interval of the paired difference lies above minus `MARGIN`. The line before the last says what was missed; the last line
is JSON.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import digits, mnist, trained
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from slimline.evaluation.latency import machine, measure, speed_up, summarize
from slimline.evaluation.statistics import compare
from slimline.export.onnx import INPUT, to_onnx
from slimline.export.runtime import OnnxModel, optimized_nodes
from slimline.quantization.calibrate import calibrated, plan

MARGIN = 0.002
"""Of accuracy: two images of a thousand."""

NETWORKS = {
    "plain (LeNet-5, 32 and 64 filters)": {"name": "lenet5", "filters": [32, 64], "hidden": 256},
    "residual (ResNet-20, width 16)": {"name": "resnet", "depth": 20, "width": 16},
    "residual (ResNet-8, width 32)": {"name": "resnet", "depth": 8, "width": 32},
    "MobileNet, width 32": {"name": "mobilenet", "width": 32},
    "MobileNet, width 8": {"name": "mobilenet", "width": 8},
}
QUICK = ("plain (LeNet-5, 32 and 64 filters)", "MobileNet, width 8")
INTEGER = ("QLinearConv", "QGemm", "QLinearAdd", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", "MatMulIntegerToFloat")
REAL = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "GlobalAveragePool", "ReduceMean", "Relu")
CALIBRATION = 256
CONFIDENCE = 0.95
MIN_MAX = {"name": "min_max"}


class Reader(CalibrationDataReader):
    """The calibration images for ONNX Runtime."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter(np.split(images, len(images) // 32))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


def files(model: nn.Module, images: torch.Tensor, folder: Path) -> dict[str, Path]:
    """The three exported files."""
    made = {name: folder / f"{name}.onnx" for name in ("fp32", "ours", "quantize_static")}
    _, channels, height, width = images.shape
    shape = (channels, height, width)
    made["fp32"].write_bytes(to_onnx(model, shape, {}))
    graph = calibrated(model, plan(model, shape), images.split(64), weights=MIN_MAX, activations=MIN_MAX)
    made["ours"].write_bytes(to_onnx(graph, shape, {}))
    quant_pre_process(str(made["fp32"]), str(folder / "ready.onnx"))
    quantize_static(
        str(folder / "ready.onnx"),
        str(made["quantize_static"]),
        Reader(images.numpy()),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return made


def counted(nodes: Counter[str]) -> dict[str, int]:
    return {
        "integer": sum(nodes[kind] for kind in INTEGER),
        "real": sum(nodes[kind] for kind in REAL),  # one `Add` of which belongs to the normalization of images
        "between": nodes["QuantizeLinear"] + nodes["DequantizeLinear"],
    }


def missed(result: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the intervals contradict of: as accurate as `quantize_static`, no slower, and faster than fp32."""
    found = [f"{name}: not shown to be as accurate" for name, row in result.items() if not row["as_accurate"]]
    for name, row in result.items():
        for batch in ("batch_1", "batch_64"):
            found += [f"{name}, {batch}: slower than quantize_static"] * (row[batch]["ours_to_quantize_static"]["high"] < 1)
            found += [f"{name}, {batch}: not faster than fp32"] * (row[batch]["ours_to_fp32"]["low"] <= 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    archive = parser.parse_args().archive
    quick = archive is None
    torch.set_num_threads(1)
    if quick:
        train, test = digits(28)
    else:
        whole, test = mnist(archive)
        train = whole.part(0, 10)
    calibration, answers = train.images[:: len(train.labels) // CALIBRATION][:CALIBRATION], test.labels.numpy()
    result: dict[str, Any] = {}
    for name in QUICK if quick else NETWORKS:
        model = trained(NETWORKS[name], train, 2)
        with tempfile.TemporaryDirectory() as folder:
            paths = files(model, calibration, Path(folder))
            runs = {way: OnnxModel(path, threads=1) for way, path in paths.items()}
            parts = test.images.split(500)
            right = {way: np.concatenate([run(part.numpy()).argmax(1) for part in parts]) == answers for way, run in runs.items()}
            against = compare(right["ours"], right["quantize_static"], CONFIDENCE)
            row: dict[str, Any] = {
                "accuracy": {way: float(one.mean()) for way, one in right.items()},
                "ours_minus_quantize_static": vars(against),
                "as_accurate": against.low > -MARGIN,
                "nodes": {way: counted(optimized_nodes(path)) for way, path in paths.items()},
                "bytes": {way: path.stat().st_size for way, path in paths.items()},
            }
        for size, rounds in ((1, 30 if quick else 300), (64, 5 if quick else 40)):
            seconds = measure(runs, test.images[:size].numpy(), rounds=rounds, warm_up=3)
            row[f"batch_{size}"] = {
                "ms": {way: summarize(one)["p50_ms"] for way, one in seconds.items()},
                "ours_to_fp32": speed_up(seconds["fp32"], seconds["ours"], CONFIDENCE),
                "ours_to_quantize_static": speed_up(seconds["quantize_static"], seconds["ours"], CONFIDENCE),
            }
            ratios = {key: value["speed_up"] for key, value in row[f"batch_{size}"].items() if key != "ms"}
            print(f"{name}, batch {size}:", ", ".join(f"{key} {value:.2f}" for key, value in ratios.items()), flush=True)
        told = f"ours − theirs {against.difference:+.4f} ({against.low:+.4f} to {against.high:+.4f})"
        print(f"  accuracy {row['accuracy']}, {told}, nodes {row['nodes']}", flush=True)
        result[name] = row
    print("missed:", "; ".join(missed(result)) or "nothing")
    print(json.dumps({"machine": machine(), "threads": 1, "test": len(answers), "margin": MARGIN, "networks": result}))


if __name__ == "__main__":
    main()
