"""How many bytes a network's codes take by each way of packing them, the tables needed to decode them included.

    python benchmarks/packing.py [--record] [model.slim …]     (default: a LeNet-300-100 trained on the digits here, at several bits and sparsities)

The last line is JSON. Zstandard at level 19 sees codes packed without gaps, or a byte each. `limit` is what a file may have: 1.03 times
(entropy of the codes, each tensor by itself, + shapes + 1 KB). `--record` writes the table of docs/packed-format.md.
"""

import argparse
import json
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import zstandard
from sklearn.datasets import load_digits
from torch import nn

from slimline.core.packing import pack
from slimline.export.packed import read_packed, to_packed
from slimline.files import write_text
from slimline.report.record import between, markdown

REPEATS = 3
PAGE = Path(__file__).resolve().parents[1] / "docs" / "packed-format.md"
BEGIN, END = "<!-- packing table -->", "<!-- end of packing table -->"
ALLOWED, REST, SHAPE_BYTES = 1.03, 1024, 4
"""A share of what is needed, bytes of a file for all else, bytes a side of a shape."""


def entropy(codes: np.ndarray) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    return float((counts * np.log2(counts.sum() / counts)).sum()) / 8


def zstd(data: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=19).compress(data))


def trained() -> dict[str, np.ndarray]:
    """The weights of a LeNet-300-100 that knows the digits."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    model = nn.Sequential(OrderedDict(a=nn.Linear(64, 300), r=nn.ReLU(), b=nn.Linear(300, 100), s=nn.ReLU(), c=nn.Linear(100, 10)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters() if parameter.ndim > 1}


def quantized(weights: dict[str, np.ndarray], bits: int, zeros: float) -> dict[str, np.ndarray]:
    """Codes of `bits` bits, the smallest `zeros` of all weights being zero."""
    threshold = np.quantile(np.abs(np.concatenate([w.reshape(-1) for w in weights.values()])), zeros)
    high = 2 ** (bits - 1) - 1
    kept = {name: np.where(np.abs(w) < threshold, 0, w) for name, w in weights.items()}
    return {name: np.rint(w / np.abs(w).max() * high).astype(np.int8) for name, w in kept.items()}


def measured(codes: dict[str, np.ndarray], bits: int) -> dict[str, float]:
    state = {name: torch.from_numpy(array) for name, array in codes.items()}
    low = -(2 ** (bits - 1) - 1)
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        content = to_packed({}, state)
        times.append(time.process_time() - begin)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.slim"
        file.write_bytes(content)
        begin = time.process_time()
        read_packed(file)
        load = time.process_time() - begin
    return {
        "codes": sum(array.size for array in codes.values()),
        "entropy": (least := round(sum(entropy(array) for array in codes.values()))),
        "limit": round(ALLOWED * (least + SHAPE_BYTES * sum(array.ndim for array in codes.values()) + REST)),
        "ours": len(content),
        "zstd_packed_bits": zstd(b"".join(pack(array, bits, low=low) for array in codes.values())),
        "zstd_bytes": zstd(b"".join(array.tobytes() for array in codes.values())),
        "pack_s": round(min(times), 3),
        "load_s": round(load, 3),
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """The table of docs/packed-format.md, with how long loading took."""
    keys = ("entropy", "ours", "limit", "zstd_packed_bits", "zstd_bytes")
    header = ["codes", "entropy", "`model.slim`", "limit", "Zstandard of packed bits", "Zstandard of a byte each"]
    body = markdown(header, [[name, *(f"{row[key]:,}" for key in keys)] for name, row in rows.items()])
    times = [row["load_s"] for row in rows.values()]
    return f"{body}\n\nLoading takes {min(times):.2f} to {max(times):.2f} seconds of processor there."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("files", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    if given.files:
        for name in given.files:
            codes = {key: tensor.numpy() for key, tensor in read_packed(Path(name))[1].items() if tensor.dtype == torch.int8}
            rows[name] = measured(codes, 8)
    else:
        weights = trained()
        for bits in (8, 5, 4, 3, 2):
            for zeros in (0.0, 0.9, 0.97):
                rows[f"{bits} bits, {zeros:.0%} zero"] = measured(quantized(weights, bits, zeros), bits)
    for name, row in rows.items():
        print(f"{name:22}", "  ".join(f"{key} {value:>8}" for key, value in row.items()))
    if given.record:
        write_text(PAGE, between(PAGE.read_text(), BEGIN, END, table(rows)))
    print(json.dumps({"torch": torch.__version__, "zstandard": zstandard.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
