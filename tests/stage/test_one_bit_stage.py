"""The stage evaluate beside a binary network: bits answer as torch does, and are timed beside their own architecture."""

import json
from pathlib import Path

import pytest
from chain import workspace

SCHEME = {"name": "min_max"}
FIT = {"epochs": 3, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "one_cycle"}}
ENDS = {"*.hidden.0": 8, "*.classifier": 8}


@pytest.mark.slow
def test_evaluate_sets_packed_bits_beside_fp32_and_8_bits(tmp_path: Path) -> None:
    chain = workspace(tmp_path)
    student = {"model": {"name": "binarynet", "hidden": [96, 96]}}
    chain.run("prepare", "train_teacher").run("distill_student", "train_alone", "prune", distill=student)
    for exceptions in ({}, ENDS):
        weights = {"bits": 1, "scheme": SCHEME, "binary": {"name": "xnor"}, "exceptions": exceptions}
        chain.run("quantize", quantize={"weights": weights, "activations": {"bits": 1, "scheme": SCHEME}, "fit": FIT, "parity": 0.9})
        told = json.loads(chain.run("evaluate").paths.latency.read_text())["one_bit"]
        assert told["agreement"] == 1.0
        assert set(told["models"]) == {"fp32", "int8", "binary", "xnor"}
