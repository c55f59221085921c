"""The tables of experiments that use `experiments.lab` are those of their results.json."""

import importlib
import json
import random
from itertools import product
from pathlib import Path

import pytest

from experiments.lab import by_name, packed, unpacked, written
from experiments.sweeps import renewed
from slimline.evaluation.statistics import compared

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "experiments").glob("*/tables.py") if "experiments.lab" in path.read_text())

SWEEPS = sorted(path.parent for path in (Path(__file__).parents[2] / "experiments").glob("*/README.md") if "experiments.sweeps" in path.read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_tables_say_what_the_record_says(folder: Path) -> None:
    tables = importlib.import_module(f"experiments.{folder.name}.tables")
    assert tables.renewed() == (folder / "README.md").read_text()


@pytest.mark.parametrize("folder", SWEEPS, ids=lambda folder: folder.name)
def test_the_tables_of_a_sweep_say_what_the_record_says(folder: Path) -> None:
    assert renewed(folder) == (folder / "README.md").read_text()


def test_there_are_such_experiments() -> None:
    assert FOLDERS
    assert SWEEPS


def test_a_hypervolume_is_that_of_the_cells_that_points_cover() -> None:
    hypervolume, draw = importlib.import_module("experiments.sweep_samplers.tables").hypervolume, random.Random(0)
    for count in range(8):
        points = [[draw.randint(1, 5) / 5 for _ in range(3)] for _ in range(count)]
        covered = sum(any(all(5 * at > cell for at, cell in zip(point, one, strict=True)) for point in points) for one in product(range(5), repeat=3))
        assert hypervolume(points) == pytest.approx(covered / 125)


def record(name: str, seed: int, wrong: list[int]) -> dict[str, object]:
    return {"name": name, "seed": seed, "validation_accuracy": 0.5, "errors": len(wrong), "wrong": wrong, "parameters": 9}


def test_a_record_of_the_zoo_that_is_not_complete_has_tables_of_its_whole_seeds() -> None:
    tables = importlib.import_module("experiments.distillation_zoo.tables")
    first = [record("resnet alone", 0, list(range(40))), record("resnet hard", 0, list(range(10)))]
    records = by_name({"records": [*first, record("resnet alone", 1, [])]})
    told = tables.table("resnet", records, 100)
    assert "one seed" in told
    assert "| hard | 50.00 % | 90.00 % | +30.00 | +20.97 to +39.03 | +30.00 |" in told
    assert "Better than alone: hard. Worse: none." in told
    assert tables.table("mobilenet", records, 100).endswith("not measured yet.")


def test_an_image_counts_once_in_an_interval_of_the_zoo_however_often_it_is_answered() -> None:
    difference = importlib.import_module("experiments.distillation_zoo.tables").difference
    pair = record("a", 0, [0, 1]), record("b", 0, [1, 2, 3, 4])
    once, often = (difference([pair] * seeds, 50, 0.95) for seeds in (1, 4))
    assert once == often
    assert once.mean == pytest.approx(2 / 50)
    assert once.low < 0 < once.high < once.sees + once.mean


def test_a_record_is_written_with_its_lists_of_numbers_on_one_line_each() -> None:
    values = {"wrong": [1, 20, 3], "curve": [[0.5, 1e-7], [-1.0, 2e16]], "text": "[\n  1,\n  2\n]", "empty": [], "one": [4], "words": ["a", "b"]}
    text = written(values)
    assert json.loads(text) == values
    assert '"wrong": [1, 20, 3]' in text
    assert "    [0.5, 1e-07],\n" in text


def test_success_and_differences_of_robustness_are_those_of_the_images_told() -> None:
    tables = importlib.import_module("experiments.robustness_mnist.tables")

    def attacked(missed: list[int], lost: list[int]) -> dict[str, object]:
        points = [{"budget": 0.1, "success": len(lost) / (50 - len(missed)), "success_low": 0.0, "success_high": 1.0}]
        empty = [{"budget": 0.1, "success": None, "success_low": None, "success_high": None}]
        return {"images": 50, "missed": missed, "lost": {"pgd": {"0.1": lost}}, "methods": {"pgd": {"points": points}, "square": {"points": empty}}}

    first, second = attacked([0], [7, 9]), attacked([0, 1], [9, 11, 12, 13])
    assert tables._success([first, second], "pgd", 0.1).startswith(f"{(2 / 49 + 4 / 48) / 2:.1%} (0% to 100%)")
    assert tables._success([first], "square", 0.1) == "–"
    # Lost or missed by the first alone: 7; by the second alone: 1, 11, 12, 13.
    pair = compared(4, 1, 50, 0.95)
    assert tables._difference({0: first}, {0: second}, "pgd") == f"+6.0 ({pair.low * 100:+.1f} to {pair.high * 100:+.1f})"
    assert tables._difference({0: first, 1: first}, {0: second, 1: second}, "pgd").startswith("+6.0 (")


@pytest.mark.parametrize("images", [1, 8, 21])
def test_wrong_images_are_kept_as_bits_and_older_lists_are_read(images: int) -> None:
    wrong = list(range(0, images, 3))
    assert unpacked(packed(wrong, images)) == wrong == unpacked(wrong)
    assert len(packed(wrong, images)) == 2 * -(-images // 8)
