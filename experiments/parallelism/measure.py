"""Data and model parallelism, measured; the question and the answers stand in README.md.

    python experiments/parallelism/measure.py --data ARCHIVE    # environment active; about a quarter of an hour on 2 cores
    python experiments/parallelism/measure.py record            # tables of README.md, from results.json

ARCHIVE is MNIST's PNG files as experiments/mnist describes them; without it, the embedded digits. Cells that results.json has are not
measured again. A cell is written there as soon as it is measured.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pictures
import tables
import torch

from slimline.data.prepare.arrays import prepare
from slimline.data.sources.digits import digits
from slimline.data.sources.images import images
from slimline.data.sources.item import Item
from slimline.evaluation.latency import machine
from slimline.files import whole_folder, write_bytes, write_json, write_text
from slimline.params.data import Data
from slimline.runtime.fingerprint import git_state
from slimline.runtime.launch import run_together

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".slimline"
ROUNDS = {"synchrony": 3, "speed": 5, "memory": 2}
"""Of `synchrony` a round is a seed."""

SUBSETS = {"accuracy": (8_000, 0.5), "speed": (1_280, 0.2)}
"""About how many of MNIST's training images, and the share of these that validates."""

Cell = dict[str, Any]

SMALL = {"name": "networks:Convolutional", "width": 16, "stride": 2}
ONE_CYCLE = {"epochs": 4, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": {"name": "one_cycle"}, "weight_decay": 0.0005}
WAYS: dict[str, Any] = {
    "synchronous": None,
    "local_sgd": {"name": "local_sgd", "period": 8},
    "asynchronous": {"name": "asynchronous"},
}
CONDITIONS = ("even", "slow")


def synchrony(seed: int) -> Iterator[Cell]:
    for condition in CONDITIONS:
        for way in ("one process", *WAYS) if condition == "even" else WAYS:
            fit = {**ONE_CYCLE, "synchrony": WAYS.get(way)}
            yield {"name": condition, "way": way, "condition": condition, "seed": seed, "model": SMALL, "fit": fit, "data": "accuracy"}


def perceptron(width: int) -> dict[str, Any]:
    return {"name": "networks:Perceptron", "width": width}


def convolutional(pool: int) -> dict[str, Any]:
    return {"name": "networks:Convolutional", "width": 32, "pool": pool}


MODELS: dict[str, tuple[dict[str, Any], int, int]] = {
    "perceptron 12": (perceptron(12), 128, 2),
    "perceptron 100": (perceptron(100), 128, 2),
    "perceptron 580": (perceptron(580), 128, 1),
    "perceptron 2000": (perceptron(2000), 128, 1),
    "perceptron 580, batch 32": (perceptron(580), 32, 1),
    "perceptron 580, batch 256": (perceptron(580), 256, 3),
    "convolutional, 7×7": (convolutional(4), 128, 2),
    "convolutional, 14×14": (convolutional(2), 128, 1),
    "convolutional, 28×28": (convolutional(1), 128, 1),
}
"""Network, images a step, epochs."""


def speed(_round: int) -> Iterator[Cell]:
    for name, (model, batch, epochs) in MODELS.items():
        # Two that know nothing of each other do the work of a half each: what is left of the machine's second core without any exchange.
        for way, share in (("one", batch), ("apart", batch // 2), ("data", batch)):
            yield {"name": name, "way": way, "model": model, "fit": plain(share, epochs), "data": "speed"}
        if batch == 128 and model["name"] == "networks:Perceptron":
            strategy = {"name": "pipeline", "micro_batches": 4}
            yield {"name": name, "way": "pipeline", "model": model, "fit": plain(batch, epochs), "strategy": strategy, "data": "speed"}


def plain(batch: int, epochs: int) -> dict[str, Any]:
    return {"epochs": epochs, "batch_size": batch, "optimizer": {"name": "sgd", "lr": 0.01}, "schedule": {"name": "constant"}}


def memory(_round: int) -> Iterator[Cell]:
    for way in ("one", "ddp", "fsdp", "pipeline"):
        strategy = {"name": "ddp" if way == "one" else way}
        yield {"name": "perceptron 2000", "way": way, "model": perceptron(2000), "fit": plain(128, 2), "strategy": strategy, "data": "speed"}


QUESTIONS = {"synchrony": synchrony, "speed": speed, "memory": memory}


def subset(items: Iterator[Item], share: float) -> Iterator[Item]:
    """About `share` of `items`, chosen by a digest of their names."""
    return (item for item in items if int.from_bytes(hashlib.sha256(item.origin.encode()).digest()[:4], "big") < share * 2**32)


def prepared(archive: Path | None) -> dict[str, Path]:
    """The prepared folders of all subsets, made where they are not there."""
    folders = {}
    for name, (count, validation) in SUBSETS.items():
        source = {"name": "digits", "path": "digits.md"} if archive is None else {"name": "images", "path": archive.name}
        params = {"source": source, "size": 28, "channels": 1, "validation": validation, "test": 0.1, "label_noise": False, "smallest_class": 1}
        folder = folders[name] = CACHE / f"{source['name']}-{name}-{count}"
        if not folder.exists():
            items = digits(HERE, path="digits.md") if archive is None else subset(images(archive.parent, path=archive.name), count / 60_000)
            with whole_folder(folder) as made:
                prepare(items, Data.model_validate(params), made, seed=0)
    return folders


def session(folders: dict[str, Path], archive: Path | None) -> dict[str, Any]:
    """What all cells of this run share."""
    commit, dirty = git_state(HERE)
    data = {name: json.loads((folder / "dataset.json").read_text())["counts"] for name, folder in folders.items()}
    source = "the embedded digits, enlarged to 28×28" if archive is None else "MNIST"
    date = datetime.now(UTC).date().isoformat()
    return {"commit": commit, "dirty": dirty, "date": date, "torch": torch.__version__, "source": source, "images": data, "machine": machine()}


def key(cell: Cell) -> tuple[str, str, str, int]:
    return cell["question"], cell["name"], cell["way"], cell["round"]


def measure(archive: Path | None, results: Path, rounds: dict[str, int]) -> int:
    """Measure what `results` lacks; the exit code of the processes that failed, or 0."""
    folders = prepared(archive)
    values = json.loads(results.read_text()) if results.exists() else {"sessions": [], "records": []}
    now = session(folders, archive)
    if now not in values["sessions"][-1:]:
        values["sessions"].append(now)
    write_json(results, values)
    done = {key(record) for record in values["records"]}
    for turn in range(max(rounds.values())):
        for question, cells_of in QUESTIONS.items():
            cells = [{"question": question, "round": turn, **cell} for cell in cells_of(turn)] if turn < rounds[question] else []
            random.Random(turn).shuffle(cells)
            left = [cell for cell in cells if key(cell) not in done]
            # Memory is that of processes that did nothing else before.
            for group in [[cell] for cell in left] if question == "memory" else [left]:
                if group and (code := run(group, folders, results, 1 if group[0]["way"] == "one" and question == "memory" else 2)):
                    return code
    return 0


def run(cells: list[Cell], folders: dict[str, Path], results: Path, ranks: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        write_json(task, {"cells": cells, "prepared": {name: str(place) for name, place in folders.items()}, "results": str(results)})
        return run_together([sys.executable, str(HERE / "rank.py"), str(task)], ranks)


def record(results: Path) -> None:
    """Write the tables and the pictures of README.md."""
    values = json.loads(results.read_text())
    readme = HERE / "README.md"
    write_text(readme, tables.renewed(readme.read_text(), values))
    write_bytes(HERE / "synchrony.png", pictures.synchrony(values))
    write_bytes(HERE / "speed.png", pictures.speed(values))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("measure", "record"), default="measure")
    parser.add_argument("--data", type=Path, help="archive of MNIST's PNG files")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--rounds", type=int, default=max(ROUNDS.values()), help="at most")
    given = parser.parse_args()
    if given.command == "record":
        record(given.results)
        return 0
    return measure(given.data and given.data.resolve(), given.results.resolve(), {name: min(given.rounds, rounds) for name, rounds in ROUNDS.items()})


if __name__ == "__main__":
    raise SystemExit(main())
