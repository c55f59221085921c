"""Each stage does its work: take the work away and the test that names it fails."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import RUNS, Chain, workspace
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import nn

from slimline import artifacts, cli
from slimline.core.quantized import quantized_layers
from slimline.data.batches import scaled
from slimline.data.prepared import Images, load_split
from slimline.errors import SlimlineError
from slimline.evaluation.masking import TESTS
from slimline.export.runtime import OnnxModel
from slimline.paths import MODELS, ModelFolder, Paths
from slimline.runtime.outcome import accuracy
from slimline.stages.evaluate import COMPARED

Copy = Callable[[], Chain]

UNATTACKED = {"attacks": None, "gates": {"size_ratio": 2.0}}
"""For evaluations of which something else is looked at: attacks take most of the time."""


def model(chain: Chain, name: str) -> nn.Module:
    return artifacts.load(chain.paths.model(name))[1]


def split(chain: Chain, name: str) -> Images:
    return load_split(chain.paths.prepared, name)


def divergence(student: nn.Module, teacher: nn.Module, images: Images, temperature: float = 4.0) -> float:
    """Mean KL(teacher ‖ student) of the softened outputs."""
    with torch.no_grad():
        x = scaled(images.pixels)
        ours, theirs = ((m(x) / temperature).log_softmax(1) for m in (student, teacher))
    return float(nn.functional.kl_div(ours, theirs, log_target=True, reduction="batchmean"))


def test_the_teacher_learns(chain: Chain) -> None:
    assert accuracy(model(chain, "teacher"), split(chain, "test")) > 0.8


def test_the_student_learns_to_answer_as_its_teacher_does(chain: Chain) -> None:
    """Labels alone teach the same classes, but not what the teacher thinks of the wrong ones."""
    teacher, images = model(chain, "teacher"), split(chain, "test")
    student, alone = divergence(model(chain, "student"), teacher, images), divergence(model(chain, "student_alone"), teacher, images)
    assert student < 0.85 * alone


def test_the_control_knows_no_teacher(copy_of_chain: Copy, chain: Chain) -> None:
    """Another teacher, the same control."""
    other = copy_of_chain().run("train_teacher", "train_alone", teacher={"model": {"name": "resnet", "depth": 8, "width": 4}})
    assert other.paths.model("teacher").weights.read_bytes() != chain.paths.model("teacher").weights.read_bytes()
    assert other.paths.model("student_alone").weights.read_bytes() == chain.paths.model("student_alone").weights.read_bytes()


def test_student_and_control_differ_in_nothing_but_the_teacher(chain: Chain) -> None:
    student, alone = (artifacts.load(chain.paths.model(name))[0] for name in ("student", "student_alone"))
    assert student == alone
    assert len(chain.paths.curve("student").read_text().splitlines()) == len(chain.paths.curve("student_alone").read_text().splitlines())


def test_pruning_removes_channels_from_the_file(chain: Chain) -> None:
    metrics = json.loads(chain.paths.stage_metrics("prune").read_text())["pruned"]
    before = sum(p.numel() for p in model(chain, "student").parameters())
    after = sum(p.numel() for p in model(chain, "pruned").parameters())
    assert after == metrics["size/params"] <= 0.6 * before
    assert metrics["prune/asked"] <= metrics["prune/obtained"] == pytest.approx(1 - after / before)
    assert chain.paths.model("pruned").packed.stat().st_size < 0.8 * chain.paths.model("student").packed.stat().st_size


def test_retraining_recovers_what_pruning_cost(copy_of_chain: Copy, chain: Chain) -> None:
    cut = copy_of_chain().run("prune", prune={"fit": None})
    images = split(chain, "train")
    assert accuracy(model(chain, "pruned"), images) > accuracy(model(cut, "pruned"), images) + 0.02
    assert not any(name.startswith("val/") for name, _, _ in cut.trackers["prune"].recorded_metrics)
    assert cut.paths.curve("pruned").read_text() == "epoch,train_loss,val_loss,val_accuracy,steps\n"
    assert "pruned" in cut.run("evaluate", evaluate=UNATTACKED).paths.report.read_text()


@pytest.mark.parametrize("stage", ["prune", "quantize"])
def test_the_teacher_takes_part_in_recovery(stage: str, copy_of_chain: Copy, chain: Chain) -> None:
    alone = copy_of_chain()
    alone.paths.model("teacher").manifest.unlink()  # on labels alone nobody asks for it
    alone.run(stage, **{stage: {"loss": None}})
    name = {"prune": "pruned", "quantize": "quantized"}[stage]
    assert alone.paths.model(name).weights.read_bytes() != chain.paths.model(name).weights.read_bytes()


@pytest.mark.parametrize(("stage", "name"), [pytest.param("prune", "pruned", marks=pytest.mark.slow), ("quantize", "quantized")])
def test_a_compressed_network_recovers_by_its_layers_too_and_what_that_takes_is_not_in_its_file(
    stage: str, name: str, copy_of_chain: Copy, chain: Chain
) -> None:
    loss = {"name": "sum", "terms": [[1.0, {"name": "labels"}], [0.1, {"name": "hint"}], [0.1, {"name": "contrastive"}]]}
    layered = copy_of_chain().run(stage, **{stage: {"loss": loss}})
    before, after = (load_file(one.paths.model(name).weights) for one in (chain, layered))
    assert before.keys() == after.keys()
    assert any(not torch.equal(tensor, after[key]) for key, tensor in before.items())


def test_quantization_leaves_weights_of_8_bits(chain: Chain) -> None:
    state = load_file(chain.paths.model("quantized").weights)
    layers = quantized_layers(model(chain, "quantized"))
    assert len(layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model(chain, "pruned").modules())
    assert {state[f"{name}.weight"].dtype for name in layers} == {torch.int8}
    ratio = chain.paths.model("quantized").packed.stat().st_size / chain.paths.model("pruned").packed.stat().st_size
    assert ratio < 0.6  # a network of a few thousand weights, so scales and header weigh much


def test_quantization_aware_training_moves_the_codes(copy_of_chain: Copy, chain: Chain) -> None:
    calibrated = copy_of_chain().run("quantize", quantize={"fit": None})
    before, after = load_file(calibrated.paths.model("quantized").weights), load_file(chain.paths.model("quantized").weights)
    codes = [name for name, tensor in before.items() if tensor.dtype == torch.int8]
    assert any(not torch.equal(before[name], after[name]) for name in codes)
    assert all(torch.equal(before[name], after[name]) for name in before if name.endswith(".scale"))


def test_fewer_bits_make_a_smaller_file_and_another_model(copy_of_chain: Copy, chain: Chain) -> None:
    four = copy_of_chain().run("quantize", quantize={"weights": {"bits": 4, "scheme": {"name": "min_max"}}})
    assert four.paths.model("quantized").packed.stat().st_size < chain.paths.model("quantized").packed.stat().st_size


MSE = {"name": "mse"}
KINDS = {
    "learned": ({"bits": 4, "learn": {"name": "lsq"}}, {"bits": 4, "learn": {"name": "pact", "decay": 1e-4}}),
    "by name": ({"bits": 4, "exceptions": {"*.classifier": "bf16"}}, {"bits": 8, "exceptions": {"normalize": 16}}),
    "a codebook": ({"bits": 3, "codebook": {"name": "k_means"}}, {"bits": 8}),
    "floats": ({"bits": "e4m3"}, {"bits": "e5m2"}),
    "64 bits": ({"bits": 64}, {"bits": 64}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_grid_is_trained_saved_and_deployed_alike(kind, copy_of_chain: Copy, chain: Chain) -> None:
    weights, activations = ({"scheme": MSE, **block} for block in KINDS[kind])
    made = copy_of_chain().run("quantize", quantize={"weights": weights, "activations": activations})
    metrics = json.loads(made.paths.stage_metrics("quantize").read_text())["quantized"]
    assert metrics["parity/deployed/agreement"] >= 0.98
    assert metrics["val/accuracy"] > 0.2
    files, images = made.paths.model("quantized"), scaled(split(made, "validation").pixels[:64])
    assert torch.equal(artifacts.load(files)[1](images), artifacts.load_packed(files.packed)[1](images))


def test_which_bits_where_is_told_as_parameters_table_and_picture(copy_of_chain: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_of_chain().paths.root
    cli.main(["--workspace", str(root), "bits", "--bytes", "400", "--widths", "8,4,2,8"])
    text = capsys.readouterr().out
    told = YAML(typ="safe").load(text)["quantize.weights.exceptions"]
    rows = list(csv.DictReader((root / "plots" / "bits.csv").open()))
    assert told == {row["layer"]: int(row["width"]) for row in rows if row["chosen"] == "1"}
    assert (taken := sum(float(row["bytes"]) for row in rows if row["chosen"] == "1")) <= 400
    assert f"# {taken:,.0f} bytes of weights" in text
    assert (root / "plots" / "bits.png").read_bytes()[:4] == b"\x89PNG"
    for arguments, said in (
        (["--drop", "-1"], "'-1' is no number from 0 on"),
        (["--bytes", "nan"], "'nan' is no number from 0 on"),
        (["--bytes", "9", "--widths", "8,1"], "found '1'; allowed"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["--workspace", str(root), "bits", *arguments])
        assert said in capsys.readouterr().err


def test_an_export_that_disagrees_is_not_kept(copy_of_chain: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = copy_of_chain()
    before = {file.name: file.read_bytes() for file in chain.paths.model("quantized").folder.iterdir()}
    monkeypatch.setattr(OnnxModel, "__call__", lambda self, images: np.zeros((len(images), 10), np.float32))
    with pytest.raises(SlimlineError, match="models/quantized: trained and exported model agree on 0"):
        chain.run("quantize", quantize={"fit": None})
    assert {file.name: file.read_bytes() for file in chain.paths.model("quantized").folder.iterdir()} == before


def test_evaluation_reports_what_the_exported_files_answer_on_the_test_split(chain: Chain) -> None:
    scorecard = json.loads(chain.paths.scorecard.read_text())
    images = split(chain, "test")
    for name in MODELS:
        logits = OnnxModel(chain.paths.model(name).onnx, threads=2)(scaled(images.pixels).numpy())
        right = int((logits.argmax(1) == images.labels.numpy()).sum())
        card = scorecard["models"][name]
        assert card["accuracy"] == right / len(images)
        assert card["errors"] == len(images) - right
        assert card["accuracy_low"] < card["accuracy"] <= card["accuracy_high"]
        assert card["packed_bytes"] == chain.paths.model(name).packed.stat().st_size
        assert sum(row["right"] for row in card["per_class"]) == right
    assert scorecard["data"]["test"] == len(images)
    # The numbers of images that a reader is shown are those of the prepared split.
    for row in scorecard["disagreements"]["shown"]:
        assert row["actual"] == images.labels[row["image"]]
        assert row["answers"]["quantized"]["predicted"] == logits[row["image"]].argmax()


def test_attacks_meet_every_model_on_the_same_images_and_leave_their_curves(chain: Chain) -> None:
    scorecard = json.loads(chain.paths.scorecard.read_text())
    with chain.paths.robustness.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["budget"]) for row in rows] == [0.0, 0.1, 0.2]
    for name in MODELS:
        attacks = scorecard["models"][name]["attacks"]
        assert attacks["images"] == 24
        assert list(attacks["methods"]) == ["fgsm", "pgd", "transfer", "contrast"]
        assert list(attacks["masking"]) == list(TESTS)
        together = [attacks["right"] / 24, *(point["accuracy"] for point in attacks["together"]["linf"])]
        assert [float(row[name]) for row in rows] == pytest.approx(together, abs=1e-5)
        assert together[-1] < together[0]
    assert {(row["first"], row["second"]) for row in scorecard["robustness"]} == set(COMPARED)
    assert "Right under attack" in chain.paths.report.read_text()


def test_evaluation_measures_the_exported_file_and_sees_that_it_is_another_network(copy_of_chain: Copy) -> None:
    """And without attacks it says nothing of them."""
    chain = copy_of_chain()
    expected = json.loads(chain.paths.scorecard.read_text())["models"]["teacher"]
    chain.paths.model("pruned").onnx.write_bytes(chain.paths.model("teacher").onnx.read_bytes())
    chain.paths.model("pruned").digests.unlink()  # they would tell
    scorecard = json.loads(chain.run("evaluate", evaluate=UNATTACKED).paths.scorecard.read_text())
    card = scorecard["models"]["pruned"]
    assert (card["accuracy"], card["ece"]) == (expected["accuracy"], expected["ece"])
    assert card["export_agreement"] < 0.95
    assert scorecard["robustness"] == []
    assert not any("attacks" in card for card in scorecard["models"].values())
    assert chain.paths.robustness.read_text().count("\n") == 2


def unreadable(files: ModelFolder) -> None:
    files.onnx.write_bytes(b"no network")


def changed(**change: Any) -> Callable[[ModelFolder], None]:
    """Writes a model's folder anew, with another manifest."""

    def change_it(files: ModelFolder) -> None:
        manifest, model = artifacts.load(files)
        artifacts.save(files, manifest.model_copy(update=change), model)

    return change_it


BROKEN: dict[str, dict[str, tuple[Callable[[ModelFolder], None], str]]] = {
    "teacher": {"teacher": (unreadable, "teacher/model.onnx: truncated or altered")},
    "others": {
        "student": (changed(classes=tuple("abcdefghij")), "student knows the classes a, b, c, d, e, f, g, h, i, j, the data 0, 1"),
        "student_alone": (changed(background=0), "student_alone was made for images with background 0, the data have 255"),
        "pruned": (unreadable, "pruned/model.onnx: truncated or altered"),
    },
}


@pytest.mark.parametrize("which", BROKEN)
def test_models_that_cannot_be_evaluated_are_refused_and_the_others_are_reported(which, copy_of_chain: Copy) -> None:
    chain, broken = copy_of_chain(), BROKEN[which]
    for name, (break_it, _) in broken.items():
        break_it(chain.paths.model(name))
    expected = json.loads(chain.paths.scorecard.read_text())["models"]
    with pytest.raises(SlimlineError, match=r"What could be said of the other models is in .*scorecard\.json") as refusal:
        chain.run("evaluate", evaluate={"attacks": None, "gates": {"size_ratio": 2.0}})
    scorecard = json.loads(chain.paths.scorecard.read_text())
    assert list(scorecard["refused"]) == list(broken)
    assert all(told in scorecard["refused"][name] for name, (_, told) in broken.items())
    first, *others = broken
    assert broken[first][1] in str(refusal.value)
    assert all(name in str(refusal.value) for name in others)
    assert set(scorecard["models"]) == set(MODELS) - set(broken)
    assert scorecard["models"]["quantized"]["accuracy"] == expected["quantized"]["accuracy"]
    assert not any(name in pair.split("_vs_") for pair in scorecard["comparisons"] for name in broken)
    gate = json.loads(chain.paths.gates.read_text())["gates"]["size_ratio"]
    assert (gate["passed"], gate["why"]) == ((False, "not measured") if "teacher" in broken else (True, ""))


def test_a_test_split_of_one_image_is_evaluated_and_says_how_little_that_is(copy_of_chain: Copy, capfd: pytest.CaptureFixture[str]) -> None:
    chain = copy_of_chain()
    for file in ("images.npy", "labels.npy"):
        np.save(chain.paths.prepared / "test" / file, np.load(chain.paths.prepared / "test" / file)[:1])
    description = json.loads((chain.paths.prepared / "dataset.json").read_text())
    description["counts"]["test"] = 1
    (chain.paths.prepared / "dataset.json").write_text(json.dumps(description))
    chain.run("evaluate", evaluate={"gates": {"accuracy_drop": 0.5}})
    pair = json.loads(chain.paths.scorecard.read_text())["comparisons"]["quantized_vs_teacher"]
    assert (pair["images"], pair["high"] - pair["low"] > 0.5) == (1, True)
    assert not json.loads(chain.paths.gates.read_text())["passed"]
    assert "the test split (1 images) has none of 9 classes" in capfd.readouterr().err


def test_test_figures_stand_on_the_run_of_each_models_own_stage(chain: Chain) -> None:
    beside, scorecard = chain.trackers["evaluate"].recorded_beside, json.loads(chain.paths.scorecard.read_text())
    assert beside.keys() == {"train_teacher", "distill_student", "train_alone", "prune", "quantize"}
    assert beside["quantize"]["test/accuracy"] == scorecard["models"]["quantized"]["accuracy"]
    assert "latency/batch_1_p50_ms" in beside["quantize"]
    assert not beside["quantize"].keys() & chain.made["quantize"].metrics.keys()


def test_two_models_are_compared_on_the_test_images_and_limits_decide_the_exit_code(
    chain: Chain, copy_of_chain: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(*arguments: str, root: Path = chain.paths.root) -> int:
        try:
            cli.main(["--workspace", str(root), "compare", *arguments])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    assert compare(str(chain.paths.model("teacher").folder), ".", "--json") == 0
    found, scorecard = json.loads(capsys.readouterr().out), json.loads(chain.paths.scorecard.read_text())
    for name, key in (("teacher", "A"), ("quantized", "B")):
        for figure in ("validation_accuracy", "accuracy", "errors", "ece", "packed_bytes", "bops"):
            assert found["models"][key][figure] == scorecard["models"][name][figure], figure
    same = ("images", "only_first", "only_second", "low", "high")
    assert [found["comparisons"]["B_vs_A"][key] for key in same] == [scorecard["comparisons"]["quantized_vs_teacher"][key] for key in same]
    assert list(found["regression"]["gates"]) == ["accuracy_drop", "size_growth"]
    assert [found["gates"][key] for key in ("model", "reference", "passed")] == ["quantized", "teacher", True]
    # A later one may not be larger; a folder has no run of its own, so nothing is said of its teacher.
    assert compare(str(chain.paths.root), str(chain.paths.model("teacher").folder)) == 1
    told = capsys.readouterr().out
    assert ("FAILED  size_growth" in told, "nothing of what its run measured" in told) == (True, True)
    # Nothing is lost from a workspace to its copy, whose run breaks a limit against its teacher.
    copy = copy_of_chain().paths
    text = copy.params.read_text().replace("size_ratio: 2.0", "size_ratio: 2000.0")
    copy.params.write_text(text.replace("size_growth: 0.0", "size_growth: 0.0, robustness_drop: 0.999"))
    assert compare(str(chain.paths.root), ".", root=copy.root) == 1
    assert re.search(
        r"passed  size_growth .*\npassed  robustness_drop .*\n\nB against its teacher.*\n.*\nFAILED  size_ratio", capsys.readouterr().out
    )
    manifest, model = artifacts.load(chain.paths.model("quantized"))
    for change, told in (({"classes": tuple("abcdefghij")}, "knows the classes a, b"), ({"background": 0}, "was made for images with background 0")):
        artifacts.save(ModelFolder(tmp_path / "other"), manifest.model_copy(update=change), model)
        assert compare(str(tmp_path / "other"), ".") == 2
        assert told in capsys.readouterr().err


def test_the_summary_holds_at_most_ten_numbers(chain: Chain) -> None:
    assert 5 <= len(json.loads(chain.paths.summary.read_text())) <= 10


def test_speeds_are_told_beside_the_teacher(chain: Chain) -> None:
    latency = json.loads(chain.paths.latency.read_text())
    assert set(latency["models"]) == set(MODELS)
    assert set(latency["ratios_to_teacher"]) == set(MODELS) - {"teacher"}
    ratio = latency["ratios_to_teacher"]["quantized"]["batch_8"]
    assert 0 < ratio["low"] <= ratio["speed_up"] <= ratio["high"]


def test_every_stage_records_the_same_names(chain: Chain) -> None:
    shared = {"val/accuracy", "size/params", "size/packed_bytes", "cost/macs", "cost/bops"}
    for stage in ("train_teacher", "distill_student", "prune", "quantize"):
        assert shared <= set(chain.made[stage].metrics), stage
        epochs = {step for name, _, step in chain.trackers[stage].recorded_metrics if name == "val/accuracy"}
        assert len(epochs) >= 2, stage
        assert len(chain.made[stage].tags["data.digest"]) == 64


def test_the_same_run_in_another_folder_leaves_the_same_bytes_and_the_test_split_chooses_nothing(chain: Chain, tmp_path: Path) -> None:
    """Until it is evaluated, the run in the other folder has other test labels."""
    again = workspace(tmp_path / "somewhere" / "else").run("prepare")
    labels = again.paths.prepared / "test" / "labels.npy"
    right = np.load(labels)
    np.save(labels, np.roll(right, 7))
    again.run(*[stage for stage in RUNS if stage not in ("prepare", "evaluate")])
    np.save(labels, right)
    again.run("evaluate")
    ours, theirs = stable_files(chain.paths), stable_files(again.paths)
    assert len(ours) == 5 * len(MODELS) + 1
    assert ours == theirs


def stable_files(paths: Paths) -> dict[str, bytes]:
    files = [file for name in MODELS for file in paths.model(name).folder.iterdir()]
    return {str(file.relative_to(paths.root)): file.read_bytes() for file in [*files, paths.scorecard]}


def test_another_seed_gives_another_teacher(chain: Chain, tmp_path: Path) -> None:
    other = workspace(tmp_path / "seed", chain.paths.params.read_text().replace("seed: 0", "seed: 1")).run("prepare", "train_teacher")
    assert other.paths.model("teacher").weights.read_bytes() != chain.paths.model("teacher").weights.read_bytes()


def test_training_that_blows_up_is_told_and_not_saved(copy_of_chain: Copy) -> None:
    chain = copy_of_chain()
    before = chain.paths.model("teacher").weights.read_bytes()
    fit = {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {"name": "constant"}}
    with pytest.raises(SlimlineError, match=r"the loss became nan in epoch 1 at step \d+.*lower fit\.optimizer\.lr"):
        chain.run("train_teacher", teacher={"fit": fit})
    assert chain.paths.model("teacher").weights.read_bytes() == before


def test_a_teacher_of_other_images_is_refused(copy_of_chain: Copy) -> None:
    chain = copy_of_chain()
    manifest, teacher = artifacts.load(chain.paths.model("teacher"))
    artifacts.save(chain.paths.model("teacher"), manifest.model_copy(update={"mean": (0.5,)}), teacher)
    with pytest.raises(SlimlineError, match=r"models/teacher has mean \(0\.5,\), the student"):
        chain.run("distill_student")
