"""A binary network on packed bits, beside its own architecture on ONNX Runtime in fp32, in 8 bits, and binary in 8-bit codes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slimline.core.binary import binary_layers
from slimline.evaluation.latency import latency
from slimline.export.onnx import to_onnx
from slimline.export.runtime import OnnxModel
from slimline.export.xnor import XnorModel
from slimline.quantization.calibrate import calibrated, plan

MIN_MAX = {"name": "min_max"}


def reads_signs(model: nn.Module) -> bool:
    """Whether a layer of `model` can run on bits."""
    return any(layer.binarizes for layer in binary_layers(model).values())


def beside(
    model: nn.Module,
    onnx: Path,
    twin: nn.Module,
    input_shape: tuple[int, int, int],
    batches: Iterable[np.ndarray],
    images: np.ndarray,
    *,
    threads: int,
    batch_sizes: Sequence[int],
    rounds: int,
    warm_up: int,
    confidence: float,
) -> dict[str, Any]:
    """Latencies as in `evaluation.latency`, ratios to fp32 and to 8 bits, bytes, and on how many of `batches` bits and torch agree on the class.

    `onnx_bytes` are of the three files that ONNX Runtime runs; `binary_weights` are ±1, a bit each in the packed file.

    Args:
        model: the binary network, of which `onnx` is the exported file.
        twin: the same architecture in real numbers; in 8 bits its ranges are those of `images`, which decide nothing but its scales.

    Raises:
        SlimlineError: a network that cannot run on bits, or a twin that cannot be quantized.
    """
    bits = XnorModel(model, input_shape, threads=threads)
    grids = calibrated(twin, plan(twin, input_shape), [torch.from_numpy(images)], weights=MIN_MAX, activations=MIN_MAX)
    files = {"fp32": to_onnx(twin, input_shape, {}), "int8": to_onnx(grids, input_shape, {}), "binary": onnx.read_bytes()}
    models = {**{name: OnnxModel(file, threads=threads) for name, file in files.items()}, "xnor": bits}
    same = count = 0
    with torch.inference_mode():
        for batch in batches:
            same += int((bits(batch).argmax(1) == model(torch.from_numpy(batch)).argmax(1).numpy()).sum())
            count += len(batch)
    timed = latency(
        models,
        images,
        reference="fp32",
        further=["int8"],
        batch_sizes=batch_sizes,
        rounds=rounds,
        warm_up=warm_up,
        threads=threads,
        confidence=confidence,
    )
    return {
        "images": count,
        "agreement": same / count,
        "onnx_bytes": {name: len(file) for name, file in files.items()},
        "binary_weights": sum(layer.weight.numel() for layer in binary_layers(model).values()),
        **{key: timed[key] for key in ("models", "ratios_to_fp32", "ratios_to_int8")},
    }
