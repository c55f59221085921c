"""Teachers of several networks, in the stages that make them and learn from them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import Chain, workspace

from slimline import artifacts
from slimline.core.labels import UNKNOWN
from slimline.data.batches import scaled
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.params.distill import Distill
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.quantize import Quantize
from slimline.params.teacher import Teacher
from slimline.paths import Paths
from slimline.report.words import EFFECTS
from slimline.runtime import once
from slimline.runtime.checkpoints import Place
from slimline.runtime.outcome import accuracy
from slimline.runtime.settings import Settings
from slimline.stages import distill_student, train_teacher
from slimline.tracking.memory import MemoryTracker

Copy = Callable[[], Chain]

SHORT = {"epochs": 2, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "one_cycle"}}
SMALL = {"name": "mlp", "hidden": [16]}


def ensemble(*members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"model": {"name": "resnet", "depth": 8, "width": 4}, "fit": SHORT, "ensemble": {"members": members, **changes}}


MEMBERS = ensemble({}, {"model": SMALL}, weights="likelihood")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Nothing but a teacher, which is an ensemble. Tests run further stages in a `copy_of_members`."""
    return workspace(tmp_path_factory.mktemp("members")).run("prepare").run("train_teacher", teacher=MEMBERS)


@pytest.fixture
def copy_of_members(members: Chain, tmp_path: Path) -> Chain:
    shutil.copytree(members.paths.root, tmp_path / "copy")
    return Chain(Paths(tmp_path / "copy"))


@pytest.fixture(scope="module")
def together(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain whose teacher is an ensemble."""
    folder = tmp_path_factory.mktemp("together") / "chain"
    shutil.copytree(chain.paths.root, folder)
    return Chain(Paths(folder)).run("train_teacher", teacher=MEMBERS)


@pytest.mark.slow
def test_an_ensemble_is_one_teacher_that_every_later_stage_takes_as_it_is(together: Chain, chain: Chain) -> None:
    together.run("distill_student", "prune", "quantize", "evaluate")
    assert together.paths.model("student").weights.read_bytes() != chain.paths.model("student").weights.read_bytes()
    assert json.loads(together.paths.scorecard.read_text())["models"]["teacher"]["export_agreement"] > 0.99


def test_each_member_is_told_of(members: Chain) -> None:
    told = json.loads(members.paths.stage_metrics("train_teacher").read_text())
    first, second = told["members"]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert second["model"]["name"] == "mlp"
    assert first["weight"] + second["weight"] == pytest.approx(1.0)
    assert len(first["curve"]) == len(second["curve"]) == 2
    assert max(row[2] for row in first["curve"]) == first["val/accuracy"]
    assert len(members.paths.curve("teacher").read_text().splitlines()) == 3
    recorded = {name for name, _, _ in members.trackers["train_teacher"].recorded_metrics}
    assert {"member_0/val/accuracy", "member_1/val/accuracy"} <= recorded
    assert "val/accuracy" not in recorded


def test_a_member_is_what_it_would_be_by_itself(members: Chain, copy_of_members: Chain) -> None:
    alone = copy_of_members.run("train_teacher", teacher={"model": {"name": "resnet", "depth": 8, "width": 4}, "fit": SHORT})
    single = artifacts.load(alone.paths.model("teacher"))[1].get_submodule("network").state_dict()
    member = artifacts.load(members.paths.model("teacher"))[1].get_submodule("network.members.0").state_dict()
    assert all(torch.equal(value, member[key]) for key, value in single.items())


def test_a_member_that_would_be_another_one_once_more_is_refused(copy_of_members: Chain) -> None:
    with pytest.raises(SlimlineError, match=r"teacher\.ensemble\.members\.1 is member 0 once more \(seed 3\)"):
        copy_of_members.run("train_teacher", teacher=ensemble({"seed": 3}, {"seed": 3}))


class KilledError(Exception):
    """In the place of a kill."""


@pytest.mark.slow
def test_members_that_had_ended_before_a_kill_are_not_trained_again_and_the_bytes_are_the_same(copy_of_chain: Copy, monkeypatch) -> None:
    chain, place = copy_of_chain(), None
    params = Teacher.model_validate(ensemble({}, {"seed": 5}))
    trained: list[str] = []
    whole = once.fit

    def run(into: Chain) -> bytes:
        hardware = load(into.paths.params).block("hardware", Hardware)
        train_teacher.run(params, Settings(0, hardware, place=place), into.paths, MemoryTracker())
        return into.paths.model("teacher").weights.read_bytes()

    def fit(*arguments: Any, name: str, **rest: Any) -> Any:
        if name == "member_1" and len(trained) == 1:
            trained.append("killed")
            raise KilledError
        trained.append(name)
        return whole(*arguments, name=name, **rest)

    expected = run(copy_of_chain())
    place = Place(chain.paths.scratch / "checkpoints" / "train_teacher", "key", 1000.0)
    monkeypatch.setattr(once, "fit", fit)
    with pytest.raises(KilledError):
        run(chain)
    assert run(chain) == expected
    assert trained == ["member_0", "killed", "member_1"]


def belief(chain: Chain, name: str, label: int) -> float:
    """The mean probability that a model gives to `label` on images of it."""
    images = load_split(chain.paths.prepared, "validation")
    with torch.no_grad():
        logits = artifacts.load(chain.paths.model(name))[1](scaled(images.pixels[images.labels == label]))
    return float(logits.softmax(1)[:, label].mean())


@pytest.mark.slow
def test_a_student_learns_of_a_class_that_it_never_saw_and_its_control_cannot(copy_of_chain: Copy) -> None:
    """Hinton et al. (2015), section 3: what the teacher thinks of other images tells of the class that is left out."""
    changes = {"transfer": {"without": (3,), "unlabelled": False}, "loss": {"name": "soft_hard", "temperature": 8.0, "alpha": 1.0}}
    without = copy_of_chain().run("distill_student", "train_alone", distill=changes)
    assert belief(without, "student_alone", 3) < 0.01
    assert belief(without, "student", 3) > 5 * belief(without, "student_alone", 3)


@pytest.mark.slow
def test_unlabelled_images_are_learned_from_by_the_teachers_answers_alone(copy_of_chain: Copy) -> None:
    """Half the training images lose their labels: the student may use them, the control may not, and makes as many steps."""
    chain = copy_of_chain()
    train = load_split(chain.paths.prepared, "train")
    half = len(train) // 2
    for split, images, labels in (
        ("unlabelled", train.pixels[half:], torch.full((len(train) - half,), UNKNOWN)),
        ("train", train.pixels[:half].clone(), train.labels[:half].clone()),
    ):
        folder = chain.paths.prepared / split
        folder.mkdir(exist_ok=True)
        arrays = images.numpy().copy(), labels.numpy().copy()
        np.save(folder / "images.npy", arrays[0])
        np.save(folder / "labels.npy", arrays[1])
    changes = {"transfer": {"without": (), "unlabelled": True}}
    chain.run("distill_student", "train_alone", distill=changes)
    student, alone = (len(chain.paths.curve(name).read_text().splitlines()) - 1 for name in ("student", "student_alone"))
    assert (student, alone) == (6, 12)
    validation = load_split(chain.paths.prepared, "validation")
    assert accuracy(artifacts.load(chain.paths.model("student"))[1], validation) > 0.4


@pytest.mark.slow
def test_repeats_change_nothing_of_the_first_and_tell_mean_and_deviation(copy_of_chain: Copy, chain: Chain) -> None:
    again = copy_of_chain().run("distill_student", "train_alone", distill={"repeats": 2})
    for stage, name in (("distill_student", "student"), ("train_alone", "student_alone")):
        assert again.paths.model(name).weights.read_bytes() == chain.paths.model(name).weights.read_bytes()
        told = json.loads(again.paths.stage_metrics(stage).read_text())[name]
        accuracies = [told["val/accuracy"], accuracy(artifacts.load(again.paths.repeat(name, 1))[1], load_split(again.paths.prepared, "validation"))]
        assert told["val/accuracy_mean"] == pytest.approx(sum(accuracies) / 2)
        assert told["val/accuracy_deviation"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
        assert len(again.paths.repeat(name, 1).curve.read_text().splitlines()) == 7
    found = json.loads(again.run("evaluate").paths.scorecard.read_text())["distillation"]
    assert found["seeds"] == [0, 1]
    for split, images in ((name, load_split(again.paths.prepared, name)) for name in ("validation", "test")):
        second = [accuracy(artifacts.load(again.paths.repeat(name, 1))[1], images) for name in ("student", "student_alone")]
        first = [accuracy(artifacts.load(again.paths.model(name))[1], images) for name in ("student", "student_alone")]
        assert found[split]["student"] == pytest.approx([first[0], second[0]], abs=2 / len(images))  # as deployed
        assert found[split]["difference"] == pytest.approx((first[0] + second[0] - first[1] - second[1]) / 2, abs=2 / len(images))
    assert again.made["evaluate"].tags["distillation.teacher"] in EFFECTS.values()
    again.run("distill_student")
    assert not again.paths.repeat("student", 1).folder.exists()
    with pytest.raises(SlimlineError, match="models/student was trained 1 times, models/student_alone 2"):
        again.run("evaluate")


@pytest.mark.slow
def test_assistants_stand_between_teacher_and_student(copy_of_chain: Copy, chain: Chain) -> None:
    assistants = ({"model": {"name": "mobilenet", "width": 16, "stages": (2, 4)}, "fit": SHORT}, {"fit": SHORT, "loss": {"name": "hard"}})
    assisted = copy_of_chain().run("distill_student", distill={"assistants": assistants})
    assert assisted.paths.model("student").weights.read_bytes() != chain.paths.model("student").weights.read_bytes()
    first, second = json.loads(assisted.paths.stage_metrics("distill_student").read_text())["assistants"]
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["size/params"] > second["size/params"] == sum(p.numel() for p in artifacts.load(assisted.paths.model("student"))[1].parameters())
    recorded = {name for name, _, _ in assisted.trackers["distill_student"].recorded_metrics}
    assert {"assistant_0/val/accuracy", "assistant_1/val/accuracy", "val/accuracy"} <= recorded
    assert artifacts.load(assisted.paths.model("student"))[0] == artifacts.load(chain.paths.model("student"))[0]


def test_an_assistant_learns_from_the_one_before_it(copy_of_members: Chain, monkeypatch) -> None:
    taught: list[tuple[Any, Any]] = []
    real = distill_student.DistillStudent

    def noted(model: Any, fit: Any, loss: Any, teacher: Any, *rest: Any) -> Any:
        taught.append((model, teacher))
        return real(model, fit, loss, teacher, *rest)

    monkeypatch.setattr(distill_student, "DistillStudent", noted)
    one = {**SHORT, "epochs": 1}
    copy_of_members.run("distill_student", distill={"assistants": ({}, {}), "fit": one})
    counts = [sum(p.numel() for p in teacher.parameters()) for _, teacher in taught]
    assert len(taught) == 3
    assert counts[0] > counts[1] == counts[2]
    assert taught[1][1] is not taught[2][1]
    assert not any(p.requires_grad for _, teacher in taught for p in teacher.parameters())


def test_smoothed_labels_of_an_assistant_are_refused(members: Chain) -> None:
    block = load(members.paths.params).blocks["distill"]
    with pytest.raises(ValueError, match="label_smoothing"):
        Distill.model_validate({**block.model_dump(), "assistants": ({"fit": {**SHORT, "label_smoothing": 0.1}},)})


LAYERS = {"name": "sum", "terms": ((1.0, {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}), (10.0, {"name": "attention"}))}


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), [("prune", "pruned"), ("quantize", "quantized")])
def test_cut_and_quantized_networks_learn_from_the_teachers_layers_too(stage: str, name: str, copy_of_chain: Copy, together: Chain) -> None:
    """From one teacher, and from an ensemble."""
    for chain in (copy_of_chain(), together):
        logits = chain.run(stage).paths.model(name).weights.read_bytes()
        assert chain.run(stage, **{stage: {"loss": LAYERS}}).paths.model(name).weights.read_bytes() != logits


@pytest.mark.slow
def test_a_strong_temperature_that_ruins_a_network_of_few_bits_is_shown(copy_of_chain: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    chain = copy_of_chain()
    harsh = {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.5}, "schedule": {"name": "constant"}}
    loss = {"name": "soft_hard", "temperature": 50.0, "alpha": 1.0}
    grid = load(chain.paths.params).block("quantize", Quantize).weights.model_dump() | {"bits": 3}
    chain.run("quantize", quantize={"weights": grid, "loss": loss, "fit": harsh, "parity": 0.1}).run("evaluate")
    line = "Training under the teacher made the quantized model worse than calibration had left it"
    assert line in chain.paths.report.read_text()
    assert f"slimline: {line}" in capsys.readouterr().err


def test_a_student_that_coarse_grids_ruin_is_told_by_its_control(copy_of_chain: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    """The control itself, one hidden unit a thousand times as large and heard a thousand times less: of that, 8 bits a tensor keep little."""
    chain = copy_of_chain().run("train_alone", distill={"model": {"name": "mlp", "hidden": (32,)}})
    manifest, network = artifacts.load(chain.paths.model("student_alone"))
    told = {}
    for case, factor in {"equal": 1.0, "ruined": 1000.0}.items():
        hidden, classifier = (module for module in network.modules() if isinstance(module, torch.nn.Linear))
        with torch.no_grad():
            hidden.weight[0] *= factor
            hidden.bias[0] *= factor
            classifier.weight[:, 0] /= factor
        artifacts.save(chain.paths.model("student"), manifest, network)
        chain.run("quantize", quantize={"fit": None})
        capsys.readouterr()
        chain.run("evaluate", evaluate={"attacks": None, "gates": {"size_ratio": 2.0}})
        control = json.loads(chain.paths.scorecard.read_text())["quantization"]["control"]
        told[case] = control["real"], control["calibrated"], capsys.readouterr().err
    for real, calibrated, said in told.values():
        assert real["student"] == real["student_alone"]
        assert ("once both are quantized" in said) == (calibrated["student"] < real["student"] - 0.1)
    assert told["equal"][1]["student"] == told["equal"][1]["student_alone"]
    assert "once both are quantized" in told["ruined"][2]
    assert "On the grids of quantize, calibrated and not trained" in chain.paths.report.read_text()
