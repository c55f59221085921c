"""The stage quantize makes networks of one bit, by every scheme, from the student and from scratch, and evaluate measures them as they run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chain import Chain
from safetensors.torch import load_file

import slimline
from slimline import artifacts
from slimline.core.binary import binary_layers
from slimline.data.batches import scaled
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.paths import Paths

SCHEME = {"name": "min_max"}
FIT = {"epochs": 4, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.02}, "schedule": {"name": "one_cycle"}}
ENDS = {"*.hidden.0": 8, "*.classifier": 8}
SCHEMES: dict[str, tuple[dict[str, Any], int]] = {
    "BinaryConnect": ({"name": "binary_connect"}, 32),
    "drawn signs": ({"name": "binary_connect", "stochastic": True}, 32),
    "binarized": ({"name": "binarized"}, 1),
    "XNOR-Net": ({"name": "xnor"}, 1),
    "a Binary-Weight-Network": ({"name": "xnor"}, 32),
}
QUICK = ("BinaryConnect",)
"""The test of evaluate trains an XNOR-Net."""
ATTACKS = {
    "images": 24,
    "budgets": {"linf": (0.25,)},
    "methods": {
        "fgsm": {"name": "fgsm"},
        "pgd": {"name": "pgd", "steps": 10, "step": 0.2},
        "transfer": {"name": "transfer", "steps": 5, "step": 0.5},
    },
}

Copy = Callable[[], Chain]


@pytest.fixture(scope="module")
def student(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose student has norms before its signs, unpruned."""
    root = tmp_path_factory.mktemp("one_bit") / "workspace"
    shutil.copytree(chain.paths.root, root)
    made = Chain(Paths(root)).run("distill_student", distill={"model": {"name": "binarynet", "hidden": [48, 48]}})
    shutil.rmtree(made.paths.model("pruned").folder)
    shutil.copytree(made.paths.model("student").folder, made.paths.model("pruned").folder)
    return root


@pytest.fixture
def copied(student: Path, tmp_path: Path) -> Chain:
    shutil.copytree(student, tmp_path / "copy")
    return Chain(Paths(tmp_path / "copy"))


def block(scheme: str, exceptions: dict[str, int], **changes: Any) -> dict[str, Any]:
    how, bits = SCHEMES[scheme]
    weights = {"bits": 1, "scheme": SCHEME, "binary": how, "exceptions": exceptions}
    return {"weights": weights, "activations": {"bits": bits, "scheme": SCHEME}, "fit": FIT, "parity": 0.98, **changes}


@pytest.mark.parametrize("scheme", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCHEMES])
def test_every_scheme_makes_signs_of_the_student_and_of_untrained_weights_whose_files_answer_alike(
    scheme: str, copied: Chain, capfd: pytest.CaptureFixture[str]
) -> None:
    written = set()
    for scratch in (False, True):
        copied.run("quantize", quantize=block(scheme, {}, from_scratch=scratch, calibration=9999, **({"loss": None} if scratch else {})))
        assert "quantize.calibration: 9999 images are asked for, and the training split has 1074: these are taken" in capfd.readouterr().err
        told = json.loads(copied.paths.stage_metrics("quantize").read_text())["quantized"]
        assert told["parity/deployed/agreement"] >= 0.98
        assert told["val/accuracy"] > 0.5, "ten classes: chance is a tenth"
        files = copied.paths.model("quantized")
        manifest, model = artifacts.load(files)
        assert [form["form"] for form in manifest.forms] == ["binary"]
        state, layers = load_file(files.weights), binary_layers(model)
        assert len(layers) == 3
        for name, layer in layers.items():
            assert set(layer.weight.unique().tolist()) <= {-1.0, 1.0}
            assert (state[f"{name}.weight"].dtype, state[f"{name}.weight"].numel()) == (torch.uint8, -(-layer.weight.numel() // 8))
        images = scaled(load_split(copied.paths.prepared, "validation").pixels)
        expected = model(images)
        assert torch.equal(slimline.load(files.packed)(images), expected)
        if SCHEMES[scheme][1] == 1:
            answers = slimline.load(files.packed, runtime="xnor")(images.numpy())
            assert answers.argmax(1).tolist() == expected.argmax(1).tolist()
        else:
            with pytest.raises(SlimlineError, match=r"no binary layer that reads ±1"):
                slimline.load(files.packed, runtime="xnor")
        written.add(files.packed.read_bytes())
    assert len(written) == 2


@pytest.mark.parametrize("exceptions", [pytest.param({}, id="all"), pytest.param(ENDS, id="ends of 8 bits", marks=pytest.mark.slow)])
def test_evaluate_times_bits_beside_the_same_network_and_attacks_them(exceptions: dict[str, int], copied: Chain) -> None:
    copied.run("quantize", quantize=block("XNOR-Net", exceptions)).run("evaluate", evaluate={"attacks": ATTACKS})
    told = json.loads(copied.paths.latency.read_text())["one_bit"]
    assert told["agreement"] == 1.0
    assert told["images"] == len(load_split(copied.paths.prepared, "test"))
    assert told["binary_weights"] == (64 * 48 + 48 * 48 + 48 * 10 if not exceptions else 48 * 48)
    assert set(told["models"]) == {"fp32", "int8", "binary", "xnor"}
    assert set(told["models"]["xnor"]) == set(told["ratios_to_int8"]["xnor"]) == {"batch_1", "batch_8"}
    assert set(told["onnx_bytes"]) == {"fp32", "int8", "binary"}
    cards = json.loads(copied.paths.scorecard.read_text())["models"]
    assert cards["quantized"]["packed_bytes"] < cards["pruned"]["packed_bytes"]
    assert cards["quantized"]["bops"] < cards["pruned"]["bops"]
    # By gradients straight through the signs, and by those of another network.
    success = {name: attack["points"][-1]["success"] for name, attack in cards["quantized"]["attacks"]["methods"].items()}
    assert min(success.values()) > 0.2, success
    assert "ONNX Runtime, one bit in 8-bit codes" in copied.paths.report.read_text()
