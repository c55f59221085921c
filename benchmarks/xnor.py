"""One bit beside real numbers and 8 bits: products, convolutions, and whole networks.

    python benchmarks/xnor.py [--quick] [--threads 1 2] [--only products convolutions networks threads] [--record]
    python benchmarks/xnor.py --tables FILE

About ten minutes; --quick: few rounds; --threads: by default one and all. All ways take turns in random order, each calling for about 3 ms and
at least once; a ratio is the median of those within each round. One thread is timed by the processor time of its thread, so that other work
on the machine counts less; several by the clock on the wall, which means something only on a machine that does nothing else.

Products and convolutions are compared with torch in fp32 and, in 8 bits, with torch's `_int_mm` and ONNX Runtime's QLinearConv; networks with
ONNX Runtime in fp32 and, quantized by this package, in 8 bits. `packed` takes ±1 in fp32 and includes packing both sides of a product, or the
images of a convolution; `inputs_packed` has its weights packed; `bits` goes from bits to sums or bits, as layers within a network do. Weights
are random: their values change no time. Where one call takes several steps, `steps_ms` says how long each takes. The last line is JSON.
`threads` sets several threads beside one, with nothing else in turn. `--record` writes the tables of docs/binary-inference.md, `--tables` writes
them from such a line in FILE.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from slimline.core import popcount, xnor
from slimline.core.binary import Binarization, binary, binary_layers, sign
from slimline.evaluation.latency import machine, speed_up, summarize
from slimline.export.onnx import to_onnx
from slimline.export.runtime import OnnxModel
from slimline.export.xnor import XnorModel
from slimline.files import write_text
from slimline.models.network import network
from slimline.quantization.binarize import binarization, widths
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.report.record import between, markdown
from slimline.runtime.fingerprint import git_state

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "binary-inference.md"
BEGIN, END = "<!-- tables: made by `python benchmarks/xnor.py --record` -->", "<!-- end of tables -->"
PRODUCTS = [(256, 256, 2304), (512, 512, 4096), (1024, 1024, 1024), (1, 4096, 4096)]
CONVOLUTIONS = [(64, 32), (64, 8), (128, 32), (128, 16), (128, 8), (256, 16), (256, 8), (512, 16), (512, 8)]
NETWORKS = {"binarynet_conv": (3, 32, 32), "binarynet": (1, 28, 28)}
REACH = (
    ("products 512×512×4096", "xnor_packed_to_fp32", 15.0),
    *((f"convolutions {channels}×{size}", "xnor_packed_to_fp32", 8.0) for channels, size in CONVOLUTIONS if channels >= 128),
    ("binarynet_conv, batch 1", "xnor_to_fp32", 4.0),
    ("binarynet_conv, batch 64", "xnor_to_fp32", 4.0),
    ("binarynet_conv, batch 1", "xnor_to_int8", 1.5),
    ("binarynet_conv, batch 64", "xnor_to_int8", 1.5),
    ("binarynet, batch 1", "xnor_to_fp32", 10.0),
    ("binarynet, batch 64", "xnor_to_fp32", 10.0),
)
"""What is to be reached by one thread: the measurement, the ratio, its least value."""
MACS_A_CYCLE = {8: 512 / 1.5}
"""By words in a vector: XOR, count and add of 512 bits take 1.5 cycles on Zen 4 (six halves on four pipes) and on Ice Lake (three on two)."""
CONFIDENCE = 0.95
PACKING = {"packing both": "xnor_packed_to_fp32", "packing inputs": "xnor_inputs_packed_to_fp32", "packing images": "xnor_packed_to_fp32"}
TURN_SECONDS = 0.003
MOST_STEPS = 6
"""Steps that a row of the table names."""

Way = Callable[[], Any]


@numba.njit
def steps(count: int) -> int:
    """`count` times six operations that each wait for the one before: a cycle each."""
    x = np.uint64(88172645463325252)
    for _ in range(count):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


def clock() -> float:
    """Cycles a second."""
    steps(1)
    best = min(timed(lambda: steps(1_000_000), time.thread_time) for _ in range(20))
    return 6_000_000 / best


def timed(way: Way, now: Callable[[], float]) -> float:
    start = now()
    way()
    return now() - start


def measured(ways: dict[str, Way], rounds: int, threads: int) -> dict[str, Any]:
    """Milliseconds of each way, and how many times as fast as the others the ways of one bit are."""
    now = time.thread_time if threads == 1 else time.perf_counter
    for way in ways.values():
        way()
        way()
    order = np.random.default_rng(0)
    seconds = {name: np.zeros(rounds) for name in ways}
    repeats = {name: int(np.clip(TURN_SECONDS / max(timed(way, now), 1e-6), 1, 100)) for name, way in ways.items()}
    for turn in range(rounds):
        for name in order.permutation(list(ways)):
            start = now()
            for _ in range(repeats[name]):
                ways[name]()
            seconds[name][turn] = (now() - start) / repeats[name]
    ours = [name for name in ways if name.startswith("xnor")]
    ratios = {f"{one}_to_{other}": speed_up(seconds[other], seconds[one], CONFIDENCE) for one in ours for other in ways if other not in ours}
    return {"ms": {name: summarize(one)["p50_ms"] for name, one in seconds.items()}, "speed_up": ratios}


def signs(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).choice(np.float32([-1, 1]), shape)


def product(m: int, n: int, k: int, threads: int) -> dict[str, Way]:
    a, b = signs(m, k), signs(n, k)
    real = torch.from_numpy(a), torch.from_numpy(b)
    short = [one.to(torch.int8) for one in real]
    bits, weights = xnor.pack(a), xnor.Product(xnor.pack(b), k)
    assert np.array_equal(weights(bits), (a @ b.T).astype(np.int32))
    return {
        "fp32": lambda: nn.functional.linear(*real),
        "int8": lambda: torch._int_mm(short[0], short[1].T),
        "xnor_packed": lambda: xnor.matmul(xnor.pack(a, threads=threads), xnor.pack(b, threads=threads), k, threads=threads),
        "xnor_inputs_packed": lambda: weights(xnor.pack(a, threads=threads), threads=threads),
        "xnor_bits": lambda: weights(bits, threads=threads),
    }


def qlinear(weight: np.ndarray, size: int, threads: int) -> onnxruntime.InferenceSession:
    """A 3×3 convolution of 8 bits alone."""
    channels = len(weight)
    constants = {"step": np.float32(1), "zero": np.uint8(128), "none": np.int8(0), "weight": weight.astype(np.int8)}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = ["x", "step", "zero", "weight", "step", "none", "step", "zero"]
    shape = [1, channels, size, size]
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("QLinearConv", inputs, ["y"], pads=[1, 1, 1, 1])], "one", values[:1], values[1:], tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def convolution(channels: int, size: int, threads: int) -> dict[str, Way]:
    x, weight = signs(1, channels, size, size), signs(channels, channels, 3, 3)
    real = torch.from_numpy(x), torch.from_numpy(weight)
    session, pixels = qlinear(weight, size, threads), (x + 128).astype(np.uint8)
    geometry = xnor.Geometry(size, size, (3, 3), (1, 1), (1, 1), 0)
    filters, bits = xnor.pack(np.moveaxis(weight, 1, 3)), xnor.pack_images(x)
    sums = xnor.Convolution(filters, channels, geometry)
    layer = xnor.Convolution(filters, channels, geometry, xnor.thresholds(np.ones(channels), np.zeros(channels)))
    assert np.array_equal(np.moveaxis(sums(bits), 3, 1), nn.functional.conv2d(*real, padding=1).numpy())
    return {
        "fp32": lambda: nn.functional.conv2d(*real, padding=1),
        "int8": lambda: session.run(None, {"x": pixels}),
        "xnor_packed": lambda: sums(xnor.pack_images(x, threads=threads), threads=threads),
        "xnor_bits": lambda: layer(bits, threads=threads),
    }


def networks(name: str, shape: tuple[int, int, int], threads: int) -> tuple[dict[str, Callable[[np.ndarray], np.ndarray]], XnorModel]:
    """The network in fp32, in 8 bits and in one."""
    torch.manual_seed(0)
    model = network({"name": name}, shape, 10, (0.5,) * shape[0], (0.25,) * shape[0])
    images = torch.randint(0, 256, (64, *shape)).float() / 255
    model(images)  # statistics for the batch norms
    model.eval()
    record = binarization(model, widths(model, Choice(1, {})), Binarization(), inputs=True)
    grids = calibrated(model, plan(model, shape), [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    ways: dict[str, Any] = {
        "fp32": OnnxModel(to_onnx(model, shape, {}), threads=threads),
        "int8": OnnxModel(to_onnx(grids, shape, {}), threads=threads),
    }
    made = binary(model, record)
    with torch.no_grad():
        for layer in binary_layers(made).values():
            layer.weight.copy_(sign(layer.weight))
    run = XnorModel(made, shape, threads=threads)
    with torch.no_grad():
        agreement = (run(images.numpy()).argmax(1) == made(images).argmax(1).numpy()).mean()
    assert agreement == 1, f"{name}: {agreement} of the predictions are those of torch"
    return ways | {"xnor": run}, run


def product_steps(m: int, n: int, k: int, rounds: int) -> dict[str, float]:
    """Milliseconds of what a product of two matrices in fp32 takes, by one thread."""
    a, b = signs(m, k), signs(n, k)
    bits, packed = xnor.pack(a), xnor.pack(b)
    weights = xnor.Product(packed, k)
    ways: dict[str, Way] = {
        "packing the first": lambda: xnor.pack(a),
        "packing the second": lambda: xnor.pack(b),
        "laying out the second": lambda: xnor.Product(packed, k),
        "the product": lambda: weights(bits),
    }
    return {name: float(np.median([timed(way, time.thread_time) for _ in range(3 * rounds)]) * 1000) for name, way in ways.items()}


def reading(m: int, n: int, k: int, rounds: int) -> float:
    """Milliseconds of reading both matrices once, by a sum: what packing them takes at least where caches do not hold them."""
    a, b = (torch.from_numpy(signs(lines, k)) for lines in (m, n))
    return float(np.median([timed(lambda: (a.sum(), b.sum()), time.thread_time) for _ in range(3 * rounds)]) * 1000)


def convolution_steps(channels: int, size: int, rounds: int) -> dict[str, float]:
    """Likewise of a convolution of an image in fp32."""
    x, weight = signs(1, channels, size, size), signs(channels, channels, 3, 3)
    sums = xnor.Convolution(xnor.pack(np.moveaxis(weight, 1, 3)), channels, xnor.Geometry(size, size, (3, 3), (1, 1), (1, 1), 0))
    bits = xnor.pack_images(x)
    ways: dict[str, Way] = {"packing the image": lambda: xnor.pack_images(x), "the convolution": lambda: sums(bits)}
    return {name: float(np.median([timed(way, time.thread_time) for _ in range(3 * rounds)]) * 1000) for name, way in ways.items()}


STEPS: Mapping[str, Callable[..., dict[str, float]]] = {"products": product_steps, "convolutions": convolution_steps}


def profile(run: XnorModel, images: np.ndarray, rounds: int) -> dict[str, float]:
    """Milliseconds of each step, by one thread."""
    found: dict[str, list[float]] = {step.makes: [] for step in run.steps}
    for _ in range(rounds):
        run(images, watch=lambda step, way: found[step.makes].append(timed(way, time.thread_time)))
    return {name: float(np.median(one) * 1000) for name, one in found.items()}


def main() -> None:
    parts = ("products", "convolutions", "networks", "threads")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--record", action="store_true", help="write the tables of docs/binary-inference.md")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="measure nothing: write them from the last line of FILE")
    chosen = parser.parse_args()
    if chosen.tables is not None:
        record(json.loads(chosen.tables.read_text().splitlines()[-1]))
        return
    rounds = 5 if chosen.quick else 30
    hertz = clock()
    limit = MACS_A_CYCLE.get(popcount.LANES)
    commit, dirty = git_state(ROOT)
    about = {"commit": commit, "dirty": dirty, "date": datetime.now(UTC).date().isoformat(), "rounds": rounds}
    about |= {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    result: dict[str, Any] = {"machine": machine(), "ghz": hertz / 1e9, "tile": [popcount.ROWS, popcount.LANES], **about}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        found: dict[str, Any] = {}
        jobs = [("products", shape, product, shape[0] * shape[1] * shape[2]) for shape in PRODUCTS]
        jobs += [("convolutions", shape, convolution, 9 * shape[0] ** 2 * shape[1] ** 2) for shape in CONVOLUTIONS]
        for part, shape, make, macs in jobs:
            if part not in chosen.only:
                continue
            row = measured(make(*shape, threads), rounds, threads)
            if limit:
                row["share_of_limit"] = {
                    way: macs / (ms / 1000) / (limit * hertz * threads) for way, ms in row["ms"].items() if way.startswith("xnor")
                }
            row["steps_ms"] = STEPS[part](*shape, rounds) if threads == 1 else None
            row["reading_ms"] = reading(*shape, rounds) if threads == 1 and part == "products" else None
            found[f"{part} {'×'.join(map(str, shape))}"] = row
            show(f"{threads} thread(s), {part} {'×'.join(map(str, shape))}", row)
        for name, shape in NETWORKS.items() if "networks" in chosen.only else ():
            ways, run = networks(name, shape, threads)
            for batch in (1, 64):
                images = np.random.default_rng(1).integers(0, 256, (batch, *shape)).astype(np.float32) / np.float32(255)
                calls = {way: lambda call=call, images=images: call(images) for way, call in ways.items()}
                row = measured(calls, (rounds if batch == 1 else rounds // 6) or 3, threads)
                show(f"{threads} thread(s), {name}, batch {batch}", row)
                row["steps_ms"] = profile(run, images, 10) if threads == 1 else None
                found[f"{name}, batch {batch}"] = row
        for name, shape in NETWORKS.items() if "threads" in chosen.only and threads > 1 else ():
            beside = {"xnor": networks(name, shape, threads)[1], "one": networks(name, shape, 1)[1]}
            for batch in (1, 2, 8, 64):
                images = np.random.default_rng(1).integers(0, 256, (batch, *shape)).astype(np.float32) / np.float32(255)
                calls = {way: lambda call=call, images=images: call(images) for way, call in beside.items()}
                row = measured(calls, rounds, threads)
                show(f"{threads} threads beside one, {name}, batch {batch}", row)
                result.setdefault("beside_one", {})[f"{threads}, {name}, batch {batch}"] = row
        result[f"threads_{threads}"] = found
    print(json.dumps(result))
    if chosen.record:
        record(result)


def record(result: Mapping[str, Any]) -> None:
    """Write the tables of `result` into the page."""
    write_text(PAGE, between(PAGE.read_text(), BEGIN, END, "\n\n".join(tables(result))))


def tables(result: Mapping[str, Any]) -> list[str]:
    """What docs/binary-inference.md says of a run: how it was made, times faster, what was to be reached, where time goes, threads."""
    counts = sorted(int(key.removeprefix("threads_")) for key in result if key.startswith("threads_"))
    runs = {count: result[f"threads_{count}"] for count in counts}
    one = runs[counts[0]]
    about = result["machine"]
    changed = " with changes" if result["dirty"] else ""
    made = (
        f"{about['processor']} at {result['ghz']:.2f} GHz, {about['cores']} cores; commit {(result['commit'] or 'none')[:12]}{changed}, "
        f"{result['date']}; torch {result['torch']}, ONNX Runtime {result['onnxruntime']}; medians of {result['rounds']} rounds in turn, "
        f"{counts[0]} thread. Times faster."
    )
    parts = [
        made,
        _of_kernels(one, "products", "product", "packing both", "packing inputs"),
        _of_kernels(one, "convolutions", "3×3", "packing images"),
    ]
    parts += [_of_networks(one), _reached(one), _steps(one)]
    return [part for part in [*parts, *(_scaling(runs, count) for count in counts[1:])] if part]


def _rows(run: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The measurements of one part, without its name."""
    return {key.removeprefix(f"{part} "): row for key, row in run.items() if key.startswith(f"{part} ")}


def _of_kernels(run: Mapping[str, Any], part: str, name: str, *packing: str) -> str:
    ratios = {**{f"{way}, to fp32": PACKING[way] for way in packing}, "bits, to fp32": "xnor_bits_to_fp32", "bits, to int8": "xnor_bits_to_int8"}
    rows = [
        [
            what,
            *(f"{row['speed_up'][ratio]['speed_up']:.1f}" for ratio in ratios.values()),
            f"{row['share_of_limit']['xnor_bits']:.2f}" if "share_of_limit" in row else "–",
        ]
        for what, row in _rows(run, part).items()
    ]
    return markdown([name, *ratios, "share of the limit (bits)"], rows) if rows else ""


def _of_networks(run: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            *(f"{row['ms'][way]:.3g}" for way in ("fp32", "int8", "xnor")),
            *(f"{row['speed_up'][f'xnor_to_{way}']['speed_up']:.1f}" for way in ("fp32", "int8")),
        ]
        for name, row in run.items()
        if "xnor" in row["ms"]
    ]
    return markdown(["network, from image to logits", "fp32, ms", "int8, ms", "bits, ms", "to fp32", "to int8"], rows) if rows else ""


def _reached(run: Mapping[str, Any]) -> str:
    rows = []
    for what, ratio, least in REACH:
        if what in run:
            found = run[what]["speed_up"][ratio]
            said = "yes" if found["low"] >= least else "no" if found["high"] < least else "not shown"
            interval = f"{found['speed_up']:.1f} ({found['low']:.1f} to {found['high']:.1f})"
            rows.append([what, ratio.removeprefix("xnor_").replace("_", " "), f"{least:g}", interval, said])
    return markdown([f"to be reached ({CONFIDENCE:.0%} interval)", "ratio", "least", "found", "reached"], rows) if rows else ""


def _steps(run: Mapping[str, Any]) -> str:
    """Where time goes: in what was not reached, and in the networks."""
    missed = {what for what, ratio, least in REACH if what in run and run[what]["speed_up"][ratio]["low"] < least}
    rows = []
    for what, row in run.items():
        if row.get("steps_ms") and (what in missed or "xnor" in row["ms"]):
            whole = sum(row["steps_ms"].values())
            shares = sorted(row["steps_ms"].items(), key=lambda step: -step[1])
            told = ", ".join(f"{name} {ms / whole:.0%}" for name, ms in shares[:MOST_STEPS])
            told += f", {len(shares) - MOST_STEPS} others" if len(shares) > MOST_STEPS else ""
            if row.get("reading_ms"):
                told += f"; reading both matrices once, by torch's sum, takes {row['reading_ms']:.3g} ms"
            rows.append([what, f"{whole:.3g}", told])
    return markdown(["where time goes", "ms", "steps, the longest first"], rows) if rows else ""


def _scaling(runs: Mapping[int, Mapping[str, Any]], count: int) -> str:
    first = min(runs)
    rows = []
    for what, row in runs[count].items():
        before = runs[first].get(what)
        ours = next(way for way in ("xnor_bits", "xnor") if way in row["ms"])
        if before is not None:
            ratios = [before["ms"][way] / row["ms"][way] for way in (ours, "fp32", "int8")]
            rows.append([what, f"{row['ms'][ours]:.3g}", *(f"{ratio:.2f}" for ratio in ratios)])
    header = [f"{count} threads", "bits, ms", f"bits, times as fast as {first}", "fp32", "int8"]
    return markdown(header, rows) if rows else ""


def show(title: str, row: dict[str, Any]) -> None:
    print(f"{title}:", ", ".join(f"{way} {ms:.3f} ms" for way, ms in row["ms"].items()), flush=True)
    ratios = ", ".join(f"{name.replace('_', ' ')} {one['speed_up']:.1f}" for name, one in row["speed_up"].items())
    print(f"    {ratios}", row.get("share_of_limit", ""), flush=True)


if __name__ == "__main__":
    main()
