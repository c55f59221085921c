"""Several trainings in one stage, of which a kill costs none that had ended."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from slimline import artifacts
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime import once
from slimline.runtime.checkpoints import Place
from slimline.runtime.classifier import Classifier
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.once import Under, fit_once, following, repeated
from slimline.runtime.settings import Settings
from slimline.tracking.memory import MemoryTracker

FIT = Fit.model_validate({"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": {"name": "constant"}})
LAID_OUT = FIT.model_copy(update={"channels_last": True})
MANIFEST = tiny.manifest("resnet")


@pytest.fixture
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(90, classes=3)) as made:
        yield made.folder


def made(model: nn.Module, how: Fit = FIT) -> Classifier:
    return Classifier(model, how, LabelsAlone(0.0))


def settings(folder: Path) -> Settings:
    return Settings(0, Hardware(threads=1, accelerator="cpu"), place=Place(folder / "stage", "key", 1000.0))


@pytest.mark.parametrize("how", [FIT, LAID_OUT])
def test_what_had_ended_is_taken_as_it_was_left(how: Fit, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    here = settings(tmp_path)
    before = made(here.seeded(artifacts.fresh, MANIFEST), how)
    fit_once(before, prepared, how, here, tracker=MemoryTracker(), name="one")
    monkeypatch.setattr(once, "fit", lambda *_, **__: pytest.fail("it was trained again"))
    after = made(artifacts.fresh(MANIFEST), how)
    fit_once(after, prepared, how, here, tracker=MemoryTracker(), name="one")
    assert after.history == before.history
    with torch.no_grad():  # as a teacher of the next one it must answer the same bits
        assert torch.equal(before.model.eval()(images), after.model.eval()(images))
    assert [p.stride() for p in before.model.parameters()] == [p.stride() for p in after.model.parameters()]


def test_another_name_is_another_training_and_success_leaves_nothing(prepared: Path, tmp_path: Path) -> None:
    here = settings(tmp_path)
    for name in ("one", "two"):
        fit_once(made(here.seeded(artifacts.fresh, MANIFEST)), prepared, FIT, here, tracker=MemoryTracker(), name=name)
    assert {path.name for path in (tmp_path / "stage" / "key").iterdir()} >= {"one-ended", "two-ended"}
    assert here.place is not None
    here.place.clear()
    assert not (tmp_path / "stage" / "key").exists()


def test_repeats_start_from_the_seeds_that_follow_and_the_first_is_the_single_one(prepared: Path) -> None:
    here, trackers = Settings(0, Hardware(threads=1, accelerator="cpu")), (MemoryTracker(), MemoryTracker())

    def trained(seed: int, repeats: int, tracker: MemoryTracker) -> list[dict[str, Tensor]]:
        modules = repeated(made, MANIFEST, prepared, FIT, replace(here, seed=seed), repeats=repeats, tracker=tracker, name="student")
        return [module.model.state_dict() for module in modules]

    first, second = trained(0, 2, trackers[0])
    (alone,), (next_one,) = trained(0, 1, trackers[1]), trained(1, 1, MemoryTracker())
    assert all(torch.equal(first[key], alone[key]) and torch.equal(second[key], next_one[key]) for key in first)
    assert any(not torch.equal(first[key], second[key]) for key in first)
    names = [name for name, _, _ in trackers[0].recorded_metrics]
    assert names.count("val/accuracy") == names.count("student_1/val/accuracy") == 2
    assert following(2**32 - 1, 1) == 0


def test_what_is_recorded_under_a_name_goes_to_the_same_run() -> None:
    tracker = MemoryTracker()
    under: Any = Under(tracker, "member_0")
    under.params({"lr": 1})
    under.metrics({"loss": 2.0}, step=3)
    under.tags({"kind": "a"})
    under.artifact(Path("file"))
    under.beside("prune", "its fingerprint", {"test/accuracy": 1.0})
    assert tracker.recorded_params == {"member_0.lr": 1}
    assert tracker.recorded_metrics == [("member_0/loss", 2.0, 3)]
    assert tracker.recorded_tags == {"member_0.kind": "a"}
    assert tracker.recorded_artifacts == [Path("file")]
    assert tracker.recorded_beside == {"prune": {"test/accuracy": 1.0}}
