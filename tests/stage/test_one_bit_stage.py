"""The stage quantize makes networks of one bit, by every scheme, from the student and from scratch, and evaluate measures them as they run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chain import Chain, workspace
from safetensors.torch import load_file

import slimline
from slimline import artifacts
from slimline.core.binary import binary_layers
from slimline.data.batches import scaled
from slimline.data.prepared import Images, load_split
from slimline.errors import SlimlineError

SCHEME = {"name": "min_max"}
FIT = {"epochs": 3, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "one_cycle"}}
ENDS = {"*.hidden.0": 8, "*.classifier": 8}
SCHEMES: dict[str, tuple[dict[str, Any], int]] = {
    "BinaryConnect": ({"name": "binary_connect"}, 32),
    "drawn signs": ({"name": "binary_connect", "stochastic": True}, 32),
    "binarized": ({"name": "binarized"}, 1),
    "XNOR-Net": ({"name": "xnor"}, 1),
    "a Binary-Weight-Network": ({"name": "xnor"}, 32),
}
SLOW = ("drawn signs", "a Binary-Weight-Network")


def block(scheme: str, **changes: Any) -> dict[str, Any]:
    how, bits = SCHEMES[scheme]
    weights = {"bits": 1, "scheme": SCHEME, "binary": how}
    return {"weights": weights, "activations": {"bits": bits, "scheme": SCHEME}, "fit": FIT, "parity": 0.98, **changes}


def validation(chain: Chain) -> Images:
    return load_split(chain.paths.prepared, "validation")


@pytest.mark.parametrize("scheme", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SCHEMES])
def test_every_scheme_makes_signs_of_the_student_and_of_untrained_weights_whose_files_answer_alike(
    scheme: str, copy_of_chain: Callable[[], Chain]
) -> None:
    written = set()
    chain = copy_of_chain()
    for scratch in (False, True):
        chain.run("quantize", quantize=block(scheme, from_scratch=scratch, **({"loss": None} if scratch else {})))
        told = json.loads(chain.paths.stage_metrics("quantize").read_text())["quantized"]
        assert told["parity/deployed/agreement"] >= 0.98
        assert told["val/accuracy"] > 0.3, "ten classes: chance is a tenth"
        files = chain.paths.model("quantized")
        manifest, model = artifacts.load(files)
        assert [form["form"] for form in manifest.forms][-1] == "binary"
        state, layers = load_file(files.weights), binary_layers(model)
        assert layers
        for name, layer in layers.items():
            assert set(layer.weight.unique().tolist()) <= {-1.0, 1.0}
            assert (state[f"{name}.weight"].dtype, state[f"{name}.weight"].numel()) == (torch.uint8, -(-layer.weight.numel() // 8))
        images = scaled(validation(chain).pixels)
        expected = model(images)
        assert torch.equal(slimline.load(files.packed)(images), expected)
        if SCHEMES[scheme][1] == 1:
            assert torch.equal(torch.from_numpy(slimline.load(files.packed, runtime="xnor")(images.numpy())), expected)
        else:
            with pytest.raises(SlimlineError, match=r"no binary layer that reads ±1"):
                slimline.load(files.packed, runtime="xnor")
        written.add(files.packed.read_bytes())
    assert len(written) == 2


def test_evaluate_times_bits_beside_the_same_network_and_attacks_them(copy_of_chain: Callable[[], Chain]) -> None:
    chain = copy_of_chain().run("quantize", quantize=block("XNOR-Net")).run("evaluate")
    one_bit = json.loads(chain.paths.latency.read_text())["one_bit"]
    assert one_bit["agreement"] == 1.0
    assert one_bit["images"] == len(load_split(chain.paths.prepared, "test"))
    assert set(one_bit["models"]) == {"fp32", "int8", "binary", "xnor"}
    assert set(one_bit["models"]["xnor"]) == {"batch_1", "batch_8"}
    cards = json.loads(chain.paths.scorecard.read_text())["models"]
    assert cards["quantized"]["packed_bytes"] < cards["pruned"]["packed_bytes"]
    assert cards["quantized"]["bops"] < cards["pruned"]["bops"]
    # By gradients through signs, and without any: by another network's, and by what needs none.
    lost = {name: attack["points"][-1]["success"] for name, attack in cards["quantized"]["attacks"]["methods"].items()}
    assert min(lost[name] for name in ("fgsm", "pgd", "transfer")) > 0.2, lost
    assert "ONNX Runtime, 8 bits" in chain.paths.report.read_text()


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
