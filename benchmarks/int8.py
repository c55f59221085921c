"""Our exported W8A8 network against fp32 and against ONNX Runtime's own `quantize_static`, of the same trained weights.

    python benchmarks/int8.py [--quick]      (about ten minutes on one core; --quick: two networks, hardly trained, few rounds)

Networks learn the digits, enlarged to 32×32. Both quantizers calibrate on the same training images and neither trains afterwards: weights
symmetric a channel, activations asymmetric a tensor, min-max. Latency is measured by one thread, all three in turn in random order
(`evaluation.latency`), at batch 1 and 64. Accuracy is that of ONNX Runtime on the held-out digits. The last line is JSON.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from torch import nn

from slimline.evaluation.latency import machine, measure, speed_up, summarize
from slimline.evaluation.statistics import compare
from slimline.export.onnx import INPUT, to_onnx
from slimline.export.runtime import OnnxModel, optimized_nodes
from slimline.models.network import network
from slimline.quantization.calibrate import calibrated, plan

SHAPE = (1, 32, 32)
NETWORKS = {
    "plain (LeNet-5, 32 and 64 filters)": {"name": "lenet5", "filters": [32, 64], "hidden": 256},
    "residual (ResNet-20, width 16)": {"name": "resnet", "depth": 20, "width": 16},
    "residual (ResNet-20, width 32)": {"name": "resnet", "depth": 20, "width": 32},
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


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and labels to train on, images and labels held out."""
    loaded = load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32)[:, None] / 16
    images = nn.functional.interpolate(images, size=SHAPE[1:], mode="bilinear")
    labels = torch.tensor(loaded.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, held_out = order[:1200], order[1200:]
    return images[train], labels[train], images[held_out], labels[held_out]


def trained(spec: dict[str, Any], images: torch.Tensor, labels: torch.Tensor, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = network(spec, SHAPE, 10, (float(images.mean()),), (float(images.std()),)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = epochs * (len(labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for first in range(0, len(labels) // 64 * 64, 64):
            batch = order[first : first + 64]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def files(model: nn.Module, images: torch.Tensor, folder: Path) -> dict[str, Path]:
    """The three exported files."""
    made = {name: folder / f"{name}.onnx" for name in ("fp32", "ours", "quantize_static")}
    made["fp32"].write_bytes(to_onnx(model, SHAPE, {}))
    graph = calibrated(model, plan(model, SHAPE), images.split(64), weights=MIN_MAX, activations=MIN_MAX)
    made["ours"].write_bytes(to_onnx(graph, SHAPE, {}))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    images, labels, held_out, answers = digits()
    result: dict[str, Any] = {}
    for name in QUICK if quick else NETWORKS:
        model = trained(NETWORKS[name], images, labels, 1 if quick else 8)
        with tempfile.TemporaryDirectory() as folder:
            paths = files(model, images[:CALIBRATION], Path(folder))
            runs = {way: OnnxModel(path, threads=1) for way, path in paths.items()}
            right = {way: run(held_out.numpy()).argmax(1) == answers.numpy() for way, run in runs.items()}
            row: dict[str, Any] = {
                "accuracy": {way: float(one.mean()) for way, one in right.items()},
                "ours_minus_quantize_static": vars(compare(right["ours"], right["quantize_static"], CONFIDENCE)),
                "nodes": {way: counted(optimized_nodes(path)) for way, path in paths.items()},
                "bytes": {way: path.stat().st_size for way, path in paths.items()},
            }
        for size, rounds in ((1, 30 if quick else 300), (64, 5 if quick else 40)):
            seconds = measure(runs, held_out.numpy()[:size], rounds=rounds, warm_up=3)
            row[f"batch_{size}"] = {
                "ms": {way: summarize(one)["p50_ms"] for way, one in seconds.items()},
                "ours_to_fp32": speed_up(seconds["fp32"], seconds["ours"], CONFIDENCE),
                "ours_to_quantize_static": speed_up(seconds["quantize_static"], seconds["ours"], CONFIDENCE),
            }
            ratios = {key: value["speed_up"] for key, value in row[f"batch_{size}"].items() if key != "ms"}
            print(f"{name}, batch {size}:", ", ".join(f"{key} {value:.2f}" for key, value in ratios.items()), flush=True)
        print(f"  accuracy {row['accuracy']}, nodes {row['nodes']}", flush=True)
        result[name] = row
    print(json.dumps({"machine": machine(), "threads": 1, "held_out": len(answers), "networks": result}))


if __name__ == "__main__":
    main()
