"""The tables of README.md, from results.json."""

from pathlib import Path

import numpy as np

from experiments.lab import Records, mean_error, pooled, said
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.binary_mnist.measure record` from results.json -->", "<!-- end of results -->"
CONFIDENCE = 0.95
LABELS = {
    "real": ("real numbers, ReLU", "1.30%"),
    "real_dropout": ("the same with dropout 0.5", "1.01%"),
    "connect": ("BinaryConnect, signs", "1.29%"),
    "connect_stochastic": ("BinaryConnect, drawn signs", "1.18% (by latent weights)"),
    "real_hard_tanh": ("real numbers, hard tanh", "–"),
    "binarized": ("binarized weights and activations", "0.96%"),
}
PAIRS = (
    ("connect", "real"),
    ("connect_stochastic", "real"),
    ("real_dropout", "real"),
    ("connect_stochastic", "connect"),
    ("binarized", "real_hard_tanh"),
)


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json", parts))


def parts(records: Records, images: int) -> list[str]:
    return [_networks(records, images), _differences(records, images), _equal(records, images)]


def _networks(records: Records, images: int) -> str:
    rows = []
    for name, (label, paper) in LABELS.items():
        if not (of := list(records.get(name, {}).values())):
            continue
        latent = [f"{record['errors_latent'] / images:.2%}" for record in of if "errors_latent" in record]
        train = np.array([record["train_errors"] / record["train"] for record in of])
        row = [label, paper, mean_error(records[name], images), ", ".join(str(record["errors"]) for record in of)]
        row += [", ".join(latent) or "–", f"{train.mean():.2%}", f"{np.mean([record['validation_accuracy'] for record in of]):.2%}"]
        rows.append([*row, f"{of[0]['rate']:g}", f"{of[0]['packed_bytes']:,}" if "packed_bytes" in of[0] else "–"])
    header = ["network", "paper's test error", "ours, mean ± sd", "errors of each seed", "by latent weights"]
    return markdown([*header, "training error", "validation accuracy", "rate", "`model.slim`, bytes"], rows)


def _differences(records: Records, images: int) -> str:
    rows = []
    for first, second in PAIRS:
        seeds = sorted(records.get(first, {}).keys() & records.get(second, {}).keys())
        if not seeds:
            continue
        whole = pooled([(records[first][seed], records[second][seed]) for seed in seeds], images, CONFIDENCE)
        interval = f"{whole.low * 100:+.2f} to {whole.high * 100:+.2f}"
        told = "yes" if whole.low > 0 or whole.high < 0 else "no: it holds zero"
        rows.append([f"{LABELS[first][0]} − {LABELS[second][0]}", str(len(seeds)), f"{whole.difference * 100:+.2f}", interval, told])
    return markdown(["test accuracy, paired", "seeds", "difference, points", f"{CONFIDENCE:.0%} interval", "a difference?"], rows)


def _equal(records: Records, images: int) -> str:
    made = [record for of in records.values() for record in of.values() if "packed_differs" in record]
    packed, onnx = (sum(record[f"{way}_differs"] for record in made) for way in ("packed", "onnx"))
    bits = {record["binary_weights"] for record in made}
    return (
        f"Of {len(made)} binary networks × {images:,} test images, the network from `model.slim` names another class than the trained one on "
        f"{packed} images, ONNX Runtime on {onnx}. Each holds {', '.join(f'{count:,}' for count in sorted(bits))} binary weights, "
        f"{', '.join(f'{count // 8:,}' for count in sorted(bits))} bytes of its file."
    )
