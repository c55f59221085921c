"""The tables that the experiments on one bit share."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.lab import Records, mean_error, pooled
from slimline.report.record import markdown

CONFIDENCE = 0.95


def parts(labels: Mapping[str, tuple[str, str]], pairs: Sequence[tuple[str, str]]) -> Callable[[Records, int], list[str]]:
    """What `experiments.lab.said` asks for; the arguments are those of `networks` and `differences`."""
    return lambda records, images: [networks(records, images, labels), differences(records, images, labels, pairs), equal(records, images)]


def networks(records: Records, images: int, labels: Mapping[str, tuple[str, str]]) -> str:
    """A row a network.

    Args:
        labels: by the record's name, what the network is called and what its paper found.
    """
    rows = []
    for name, (label, paper) in labels.items():
        if not (of := list(records.get(name, {}).values())):
            continue
        latent = [f"{record['errors_latent'] / images:.2%}" for record in of if "errors_latent" in record]
        train = np.array([record["train_errors"] / record["train"] for record in of])
        row = [label, paper, mean_error(records[name], images), ", ".join(str(record["errors"]) for record in of)]
        row += [", ".join(latent) or "–", f"{train.mean():.2%}", f"{np.mean([record['validation_accuracy'] for record in of]):.2%}"]
        rows.append([*row, f"{of[0]['rate']:g}", f"{of[0]['packed_bytes']:,}" if "packed_bytes" in of[0] else "–"])
    header = ["network", "paper's test error", "ours, mean ± sd", "errors of each seed", "by latent weights"]
    return markdown([*header, "training error", "validation accuracy", "rate", "`model.slim`, bytes"], rows)


def differences(records: Records, images: int, labels: Mapping[str, tuple[str, str]], pairs: Sequence[tuple[str, str]]) -> str:
    """A row a pair of networks, on the seeds that both have."""
    rows = []
    for first, second in pairs:
        seeds = sorted(records.get(first, {}).keys() & records.get(second, {}).keys())
        if not seeds:
            continue
        whole = pooled([(records[first][seed], records[second][seed]) for seed in seeds], images, CONFIDENCE)
        interval = f"{whole.low * 100:+.2f} to {whole.high * 100:+.2f}"
        told = "yes" if whole.low > 0 or whole.high < 0 else "no: it holds zero"
        rows.append([f"{labels[first][0]} − {labels[second][0]}", str(len(seeds)), f"{whole.difference * 100:+.2f}", interval, told])
    return markdown(["test accuracy, paired", "seeds", "difference, points", f"{CONFIDENCE:.0%} interval", "a difference?"], rows)


def equal(records: Records, images: int) -> str:
    """Whether the files answer as the trained networks do, and what their bits weigh."""
    made = [record for of in records.values() for record in of.values() if "packed_differs" in record]
    differs = {way: [record[f"{way}_differs"] for record in made if f"{way}_differs" in record] for way in ("packed", "onnx", "xnor")}
    packed, onnx, xnor = (f"{sum(counts):,}" for counts in differs.values())
    bits, taken = ({record[key] for record in made} for key in ("binary_weights", "binary_bytes"))
    return (
        f"Of {len(made)} binary networks × {images:,} test images, the network from `model.slim` names another class than the trained one on "
        f"{packed} images, ONNX Runtime on {onnx}; of the {len(differs['xnor'])} that read signs, the one on packed bits on {xnor}. Each holds "
        f"{', '.join(f'{count:,}' for count in sorted(bits))} binary weights, {', '.join(f'{count:,}' for count in sorted(taken))} bytes of its file."
    )
