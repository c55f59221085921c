"""Who becomes champion, in a real registry: models that passed and are not worse, and nobody else."""

import getpass
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.repo import Repo

from recording import Open, network, recording
from slimline import cli
from slimline.errors import SlimlineError
from slimline.files import write_json
from slimline.paths import Paths
from slimline.runtime import promotion
from slimline.runtime.fingerprint import fingerprints
from slimline.runtime.trace import SHIPPED

IMAGES = 400
PIPELINE = """
stages:
  quantize: {cmd: "true", deps: [model.txt], outs: [models/quantized]}
  evaluate: {cmd: "true", deps: [models/quantized], outs: [metrics/scorecard.json, metrics/gates.json]}
"""


@dataclass
class Place:
    """A repository in which two stages have run that only write files."""

    paths: Paths
    start: Open

    def make(self, name: str, favourite: int = 0, *, scale: float = 10.0, passed: bool | None = True) -> None:
        """Run them: a model that is right on all images but a few (favourite 0), or on almost none."""
        files = self.paths.model("quantized")
        files.folder.mkdir(parents=True, exist_ok=True)
        (self.paths.root / "model.txt").write_text(name)
        network(files.onnx, favourite, scale=scale)
        files.packed.write_text(name)
        write_json(self.paths.scorecard, {"models": {"quantized": {"accuracy": 0.5}}})
        write_json(self.paths.gates, {"passed": passed, "gates": {"size_ratio": {"passed": passed}}})
        with Repo(str(self.paths.root)) as repo:
            repo.commit(force=True)
        tracker = self.start("quantize", name, fingerprint=fingerprints(self.paths)["quantize"])
        example = self.paths.root / "example.npy"
        np.save(example, np.float32([[[[0.0, 1.0, 0.5]]]]))
        tracker.artifact(files.folder)
        tracker.model("quantized", files.onnx, example)
        tracker.finish("FINISHED", last=True)

    def register(self, why: str = "a test", **given: Any) -> promotion.Decision:
        return promotion.register(self.paths, why=why, **given)

    @property
    def aliases(self) -> dict[str, int]:
        registry = promotion.registry_of(self.paths)
        held = {alias: registry.holder(alias) for alias in ("champion", "previous", "challenger")}
        return {alias: int(version.version) for alias, version in held.items() if version is not None}

    def tags(self, version: int) -> dict[str, str]:
        registry = promotion.registry_of(self.paths)
        return dict(registry.client.get_model_version(registry.name, str(version)).tags)

    def moves(self, version: int) -> list[str]:
        return [value for name, value in sorted(self.tags(version).items()) if name.startswith("slimline.move.")]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Open]]:
    root = tmp_path_factory.mktemp("store")
    with recording(root) as start:
        yield root, start


@pytest.fixture
def place(recorder: tuple[Path, Open], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """One store serves all; each test has a registered model and a repository of its own."""
    store, start = recorder
    root = tmp_path / "repository"
    root.mkdir()
    tracking = f'tracking: {{uri: "sqlite:///{store / "mlflow.db"}", experiment: tests, model: "{request.node.name[:60]}"}}'
    shipped = SHIPPED.read_text()
    (root / "params.yaml").write_text(shipped[: shipped.index("\ntracking:") + 1] + tracking)
    monkeypatch.chdir(root)  # where DVC commits
    Repo.init(str(root), no_scm=True).close()
    (root / "dvc.yaml").write_text(PIPELINE)
    test = root / "data" / "prepared" / "test"
    test.mkdir(parents=True)
    labels = np.random.default_rng(0).integers(0, 3, IMAGES)
    np.save(test / "images.npy", (np.eye(3)[labels] * 200).astype(np.uint8).reshape(IMAGES, 1, 1, 3))
    np.save(test / "labels.npy", labels)
    description = {"classes": ["cat", "dog", "fish"], "input_shape": [1, 1, 3], "counts": {"test": IMAGES}, "digest": "d"}
    write_json(root / "data" / "prepared" / "dataset.json", {**description, "mean": [0.5], "std": [0.5]})
    return Place(Paths(root), start)


def test_a_challenger_that_is_not_worse_takes_the_place_which_one_step_gives_back(place: Place) -> None:
    place.make("first")
    first = place.register("the first of all")
    assert (first.version, first.champion) == (1, True)
    assert place.aliases == {"champion": 1}
    assert place.register() == promotion.Decision(first.model, 1, True, "it was that before", before=True), "no second version, no move"
    place.make("second", scale=5.0)
    second = place.register("smaller input")
    assert second.champion
    assert "against version 1: +0.00 points on 400 test images (95% interval -0.95 to +0.95), not worse by the margin of 3.00" in second.reason
    assert place.aliases == {"champion": 2, "previous": 1}
    assert place.moves(2)[-1].endswith(f"{getpass.getuser()} made version 2 champion: smaller input ({second.reason})")
    assert place.moves(1)[-1].endswith("made version 1 previous: version 2 has taken its place")
    assert json.loads(place.tags(2)["slimline.scorecard"]) == {"accuracy": 0.5}

    cli.main(["--workspace", str(place.paths.root), "rollback", "--why", "blurred images"])
    assert place.aliases == {"champion": 1, "previous": 2}
    assert place.moves(1)[-1].endswith("made version 1 champion: blurred images")
    kept = place.register("the nightly rerun")
    assert not kept.champion, "what somebody took back no schedule brings again"
    assert kept.reason.startswith("it was rolled back (")
    assert kept.reason.endswith(f"{getpass.getuser()}: blurred images); slimline register --again lets it")
    assert place.aliases["champion"] == 1
    assert place.register("it was the camera", again=True).champion
    assert place.aliases == {"champion": 2, "previous": 1}


def test_a_worse_one_stays_challenger_and_says_why(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.make("good")
    place.register()
    place.make("bad", favourite=1)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--workspace", str(place.paths.root), "register"])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("slimline: it is not made champion: against version 1: -100.00 points on 400 test images (95% interval -100.00 to ")
    assert told.endswith("), which may be worse than evaluate.margin allows (-3.00)\n")
    assert told.count("\n") == 1
    assert place.tags(2)["slimline.held_back"].endswith(told.strip().removeprefix("slimline: it is not made champion: "))
    assert place.aliases == {"champion": 1, "challenger": 2}


def test_a_champion_whose_gates_fail_now_stays_and_says_so(place: Place) -> None:
    place.make("first")
    place.register()
    write_json(place.paths.gates, {"passed": False, "gates": {"size_ratio": {"passed": False}}})
    with Repo(str(place.paths.root)) as repo:
        repo.commit(force=True)
    anew = place.register()
    assert (anew.champion, anew.before, anew.version) == (True, True, 1)
    assert anew.reason == "it was that before, but gates failed: size_ratio; slimline gate says why; slimline rollback takes it back"
    assert place.aliases == {"champion": 1}


@pytest.mark.parametrize(("passed", "words"), [(False, "gates failed: size_ratio; slimline gate says why"), (None, "no gate is set")])
def test_without_its_gates_none_is_champion_not_even_the_first(place: Place, passed: bool | None, words: str) -> None:
    place.make("first", passed=passed)
    decision = place.register()
    assert not decision.champion
    assert words in decision.reason
    assert place.aliases == {"challenger": 1}


def test_what_was_changed_after_it_was_judged_or_logged_is_not_registered(place: Place) -> None:
    place.make("first")
    paths, lock = place.paths, place.paths.root / "dvc.lock"
    for file, words in {
        paths.model("quantized").packed: r"model\.slim is not the file that run \w+ logged \(by md5\): changed since",
        paths.gates: r"gates\.json is not what evaluate said of models/quantized as dvc\.lock has it",
        lock: r"dvc\.lock has no stage quantize",
    }.items():
        before = file.read_bytes()
        file.write_bytes(b"schema: '2.0'\n" if file == lock else before + b" ")
        with pytest.raises(SlimlineError, match=words):
            place.register()
        file.unlink()  # DVC's cache holds a link
        file.write_bytes(before)
    paths.scorecard.unlink()
    with pytest.raises(SlimlineError, match=r"scorecard\.json: no such file; run make repro first"):
        place.register()
    assert place.aliases == {}


def test_a_store_that_fails_half_way_promotes_nobody_and_the_next_attempt_ends_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    place.make("first")
    place.register()
    place.make("second", favourite=1)

    def down(*_: Any) -> None:
        raise MlflowException("API request to http://server failed with exception Connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_model_version_by_alias", down)
        with pytest.raises(SlimlineError, match="does not answer: start it, or mend"):
            place.register()
    assert place.aliases == {"champion": 1}, "a store that does not answer is none without a champion"
    place.register()
    assert place.aliases == {"champion": 1, "challenger": 2}
    place.make("third", favourite=0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "delete_registered_model_alias", down)
        with pytest.raises(SlimlineError, match="does not answer"):
            place.register()
    assert place.aliases == {"champion": 3, "previous": 1, "challenger": 3}
    place.register()
    assert place.aliases == {"champion": 3, "previous": 1}
