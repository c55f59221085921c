"""Sweeps without networks: what sweep.yaml may say, a study whose slots survive their processes, what is recommended and adopted."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from slimline.errors import SlimlineError
from slimline.params.changes import changed, keys, path_of
from slimline.params.file import load as load_params
from slimline.params.prune import Prune
from slimline.paths import Paths
from slimline.sweep import SAMPLERS
from slimline.sweep.adopt import adopt, rewritten
from slimline.sweep.definition import Definition, Parameter, load
from slimline.sweep.pictures import fronts
from slimline.sweep.results import excess, front, limits, promoted, recommended
from slimline.sweep.space import Space, check
from slimline.sweep.study import Finished, Rung, database, journal
from slimline.sweep.workspace import halved

SHIPPED = Path(__file__).parent / "shipped_params.yaml"

SWEEP = """
seed: 0
objectives: [validation_accuracy, packed_bytes, bops]
constraints: {validation_accuracy: {drop: 0.01}, packed_bytes: {at_most: 20000}}
choose: bops
fixed:
  prune.criterion: {name: threshold}
  prune.granularity: {name: weights}
  prune.target: {name: threshold}
space:
  prune.criterion.value: {low: 0.01, high: 0.2, log: true}
  quantize.weights.bits: {low: 2, high: 8}
  quantize.activations.bits: {choices: [8, 6, 4]}
sampler: {name: tpe, startup: 3}
budget: {trials: 8}
"""
SPACE = Space(
    {
        "prune.criterion.value": Parameter(low=0.01, high=0.2, log=True),
        "quantize.weights.bits": Parameter(low=2, high=8),
        "quantize.weights.scheme": Parameter(choices=({"name": "mse"}, {"name": "min_max"})),
    }
)
OBJECTIVES = ("validation_accuracy", "packed_bytes")


def definition(folder: Path, old: str = "", new: str = "") -> Definition:
    assert old in SWEEP
    (folder / "sweep.yaml").write_text(SWEEP.replace(old, new))
    return load(folder / "sweep.yaml")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("validation_accuracy, packed", "validation_acuracy, packed", ("objectives.0", "no such objective", "did you mean validation_accuracy?")),
        ("choose: bops", "choose: speed", ("choose", "'speed'", "packed_bytes")),
        ("trials: 8", "trails: 8", ("budget.trails", "did you mean trials?")),
        ("name: tpe", "name: tpee", ("sampler.name", "did you mean tpe?")),
        ("startup: 3", "startup: 0", ("sampler.startup", "greater than or equal to 1")),
        ("low: 2, high: 8", "low: 8, high: 2", ("space.quantize.weights.bits", "low is 8, which is not below high, 2")),
        ("choices: [8, 6, 4]", "choices: [8, 8]", ("space.quantize.activations.bits", "a value twice")),
        ("low: 0.01, high: 0.2, log: true", "low: 0.01", ("space.prune.criterion.value", "either low and high or choices")),
        ("quantize.weights.bits: {", "distill.loss.temperature: {", ("trials start from the trained student", "prune or quantize")),
        ("quantize.weights.bits: {", "quantize.fit.epochs: {", ("quantize.fit.epochs", "not retrained", "budget.epochs")),
        ("{at_most: 20000}", "{at_least: 20000}", ("constraints.packed_bytes.at_least", "worse")),
        ("seed: 0", "seed: 0\nwhen: 2020-01-01", ("no valid YAML of numbers",)),
        ("{at_most: 20000}", "{at_mots: 20000}", ("constraints.packed_bytes.at_mots", "did you mean at_most?")),
        ("packed_bytes: {at", "size: {at", ("constraints.size: no such objective", "packed_bytes")),
        (
            "constraints: {validation_accuracy: {drop: 0.01}, packed_bytes: {at_most: 20000}}",
            "constraints: null",
            ("found null; a mapping is needed",),
        ),
        ("seed: 0", 'seed: 0\nbase: "a\\0b"', ("base", "found")),
        ("at_most: 20000", f"at_most: 1{'0' * 400}", ("constraints.packed_bytes.at_most", "a number is needed, up to 9007199254740992")),
        ("at_most: 20000", "at_most: -1", ("constraints.packed_bytes.at_most", "found -1; 0 or more")),
        ("drop: 0.01", "at_least: 97", ("constraints.validation_accuracy.at_least", "found 97; a share from 0 to 1")),
        ("drop: 0.01", "drop: -0.01", ("constraints.validation_accuracy.drop", "found -0.01; a share from 0 to 1")),
        ("space:", "  quantize.weights.bits: 4\nspace:", ("fixed.quantize.weights.bits: space.quantize.weights.bits replaces it",)),
        (
            "low: 2, high: 8}",
            "low: 2, high: 4}\n  'quantize.\"weights\".bits': {low: 5, high: 8}",
            ("space.quantize.weights.bits: space.", "replaces it"),
        ),
        (
            "  prune.criterion: {name",
            "  prune.criterion.value: 0.1\n  prune.criterion: {name",
            ("fixed.prune.criterion.value: fixed.prune.criterion",),
        ),
        ("trials: 8}", "trials: 1}\nstart: [{quantize.weights.bits: 4}, {quantize.weights.bits: 5}]", ("start: 2 trials", "budget.trials is 1")),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_with_its_key(old: str, new: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SlimlineError) as refused:
        definition(tmp_path, old, new)
    assert all(part in str(refused.value) for part in ("sweep.yaml", *parts)), refused.value


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("choices: [8, 6, 4]", "choices: [8, 0.5]", ("space.quantize.activations.bits", "0.5 cannot be", "it should be 64")),
        ("low: 2, high: 8", "low: 2, high: 9", ("space.quantize.weights.bits", "9 cannot be")),
        ("low: 0.01, high: 0.2, log: true", "low: -1.0, high: 0.2", ("space.prune.criterion.value", "-1.0 cannot be", "greater than 0")),
        ("prune.criterion.value", "prune.criterion.valve", ("prune.criterion.valve", "did you mean value?")),
        ("prune.target: {name: threshold}", "prune.target: {name: thresold}", ("fixed", "prune.target.name", "did you mean threshold?")),
    ],
)
def test_a_space_that_contradicts_the_schema_is_refused_with_the_parameter(old: str, new: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    params = load_params(SHIPPED)
    check(definition(tmp_path), params)
    with pytest.raises(SlimlineError) as refused:
        check(definition(tmp_path, old, new), params)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_paths_name_keys_with_dots_entries_of_lists_and_what_is_not_there_yet() -> None:
    assert keys(path_of("quantize", "weights", "exceptions", "blocks.0.conv")) == ("quantize", "weights", "exceptions", "blocks.0.conv")
    params = load_params(SHIPPED)
    made = changed(params, {'quantize.weights.exceptions."blocks.0.*"': 4, "prune.fit.augment.0.pixels": 2, "prune.fit.epochs": 3})
    assert made.blocks["quantize"].weights.exceptions == {"blocks.0.*": 4}  # type: ignore[attr-defined]
    assert (made.blocks["prune"].fit.augment[0]["pixels"], made.blocks["prune"].fit.epochs) == (2, 3)  # type: ignore[attr-defined]
    assert changed(params, {}).blocks == params.blocks
    for path, part in (
        ("prune..fit", "no path"),
        ("prune.fit.epochs.x", "has no keys"),
        ("prune.fit.augment.7.pixels", "list of 1"),
        ("seed", "block"),
    ):
        with pytest.raises(SlimlineError, match=part):
            changed(params, {path: 1})


STARTS = {"tpe": {"startup": 3}, "nsga2": {"population": 3}}


def rung(storage: BaseStorage, *, exclusive: bool = True, seed: int = 0, sampler: str = "tpe") -> Rung:
    return Rung(storage, "a search", OBJECTIVES, SPACE, {"name": sampler, **STARTS.get(sampler, {})}, seed, exclusive=exclusive)


def scores(values: Mapping[str, Any]) -> dict[str, float]:
    """A stand-in for a trial, as repeatable as one."""
    bits = values["quantize.weights.bits"]
    return {"validation_accuracy": 1 - values["prune.criterion.value"] - 1 / bits**2, "packed_bytes": 1000.0 * bits}


def work(own: Rung, count: int = 1000) -> None:
    while count and (claim := own.claim()):
        if claim.values["prune.criterion.value"] > 0.15:
            own.tell_infeasible(claim, "too much")
        else:
            own.tell(claim, scores(claim.values), {"prune": 0.1}, {"packed_bytes": claim.values["quantize.weights.bits"] - 6})
        count -= 1


def facts(own: Rung) -> list[tuple[Any, ...]]:
    return [(one.slot, dict(one.values), dict(one.scores), one.reason) for one in own.finished()]


@pytest.fixture(params=["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BaseStorage]:
    """Opens the same storage again, as another process would."""
    return lambda: journal(tmp_path / "study.journal", mend=True) if request.param == "journal" else database(f"sqlite:///{tmp_path}/study.db")


def test_cut_off_at_any_trial_a_sweep_goes_on_to_the_same_trials(opened: Callable[[], BaseStorage], tmp_path: Path) -> None:
    whole = rung(InMemoryStorage())
    whole.enqueue({slot: {} for slot in range(12)})
    work(whole)
    for killed in (0, 4, 7, 12):
        one = rung(opened())
        one.enqueue({slot: {} for slot in range(12)})
        work(one, max(killed - len(one.finished()), 0))
        one.claim()  # its driver dies now
        if (file := tmp_path / "study.journal").exists():
            file.write_bytes(file.read_bytes() + b'{"op_code": 4, "wor')
    last = rung(opened())
    last.enqueue({slot: {} for slot in range(12)})
    work(last)
    assert last.left == 0
    assert facts(last) == facts(whole)
    assert any(reason for *_, reason in facts(last))
    assert len(last._trials(TrialState.COMPLETE, TrialState.PRUNED)) == 12


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_sampler_stays_in_the_space_and_repeats(name: str) -> None:
    made = [rung(InMemoryStorage(), sampler=name) for _ in range(2)]
    for own in made:
        own.enqueue({slot: {} for slot in range(8)})
        work(own)
    assert facts(made[0]) == facts(made[1])
    assert all(SPACE.drawn(one.values) == one.drawn for one in made[0].finished())
    assert len({one.drawn["prune.criterion.value"] for one in made[0].finished()}) > 1


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_trials_that_died_and_were_repeated_change_nothing_that_is_drawn_later(name: str) -> None:
    whole, other = rung(InMemoryStorage(), sampler=name), rung(InMemoryStorage(), sampler=name, exclusive=False)
    slots: dict[int, dict[str, Any]] = {slot: {} for slot in range(40)}
    for own in (whole, other):
        own.enqueue(slots)
    work(whole)
    for died in (3, 15, 16, 30):
        work(other, died - len(other.finished()))
        claim = other.claim()
        assert claim is not None
        other.give_up(claim)
        other.enqueue(slots)
    work(other)
    assert facts(other) == facts(whole)


def test_another_seed_draws_other_trials_and_given_values_are_not_drawn() -> None:
    one, other = rung(InMemoryStorage()), rung(InMemoryStorage(), seed=1)
    given = SPACE.drawn({"quantize.weights.bits": 3, "quantize.weights.scheme": {"name": "mse"}})
    for own in (one, other):
        own.enqueue({0: given, 1: {}})
        work(own)
    first, second = (own.finished() for own in (one, other))
    assert first[0].values | second[0].values | {"prune.criterion.value": 0} == {
        "prune.criterion.value": 0,
        "quantize.weights.bits": 3,
        "quantize.weights.scheme": {"name": "mse"},
    }
    assert first[1].values != second[1].values
    with pytest.raises(SlimlineError, match=r"quantize\.weights\.bits: 9 is not in the space"):
        SPACE.drawn({"quantize.weights.bits": 9})


def test_of_two_drivers_that_find_one_trial_dead_only_one_runs_it(opened: Callable[[], BaseStorage]) -> None:
    first, second = rung(opened(), exclusive=False), rung(opened(), exclusive=False)
    first.enqueue({0: {}})
    claim = first.claim()
    assert claim is not None
    assert second.claim() is None
    assert second.bury() == 0, "its driver lives"
    first.give_up(claim)
    first.enqueue({0: {}})
    # What `second` would do that had looked before `first` had enqueued: a trial of the same slot once more.
    second.study.add_trial(_waiting())
    assert first.claim() is not None
    assert second.claim() is None
    assert second.left == 1


def _waiting() -> Any:
    from optuna.trial import create_trial

    return create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {}}, user_attrs={"slot": 0})


def finished(*rows: tuple[float, float, float]) -> list[Finished]:
    made = [dict(zip(("validation_accuracy", "packed_bytes", "bops"), row, strict=True)) for row in rows]
    return [Finished(slot, slot, {}, {}, scores, {}, None) for slot, scores in enumerate(made)]


def test_the_recommended_model_keeps_to_the_limits_and_is_best_in_what_was_chosen(tmp_path: Path) -> None:
    found = finished((0.95, 30000, 9), (0.94, 18000, 5), (0.94, 18000, 5), (0.935, 19000, 4), (0.90, 10000, 1), (0.93, 19500, 6))
    found.append(Finished(6, 6, {}, {}, {}, {}, "could not be"))
    wanted = definition(tmp_path)
    assert [one.slot for one in front(found, wanted.objectives)] == [0, 1, 3, 4]
    bounds = limits(wanted, {"validation_accuracy": 0.945})
    assert bounds == {"validation_accuracy": pytest.approx(0.935), "packed_bytes": 20000}
    assert recommended(found, wanted, bounds).trial.slot == 3
    # What training cannot change excludes from promotion; accuracy does not.
    assert [one.slot for one in promoted(found, wanted, bounds)] == [1, 3, 4]
    two = definition(tmp_path, "trials: 8", "trials: 8, most: 2")
    assert [one.slot for one in promoted(found, two, bounds)] == [1, 4]
    with pytest.raises(SlimlineError, match=r"validation_accuracy excludes 6 of 6; nearest is trial 1 with .*0\.94 \(limit 0\.99\)"):
        recommended(found, wanted, {"validation_accuracy": 0.99, "packed_bytes": 20000})
    with pytest.raises(SlimlineError, match="none of 1 trials could be; most often: could not be"):
        recommended(found[-1:], wanted, bounds)
    assert excess(found[0].scores, bounds)["packed_bytes"] == 0.5


def test_validation_images_are_halved_and_the_test_split_is_not_there(tmp_path: Path) -> None:
    base = Paths(tmp_path / "base")
    whole = np.arange(11 * 64, dtype=np.int64).astype(np.uint8).reshape(11, 1, 8, 8)
    for split in ("train", "validation", "test"):
        (base.prepared / split).mkdir(parents=True)
        np.save(base.prepared / split / "images.npy", whole)
        np.save(base.prepared / split / "labels.npy", np.arange(11))
    (base.prepared / "dataset.json").write_text('{"counts": {"train": 11, "validation": 11, "test": 11}}')
    base.model("student").folder.mkdir(parents=True)
    base.model("student").manifest.write_text("{}")
    halves = halved(base, tmp_path / "sweep")
    first, second = (np.load(paths.prepared / "validation" / "labels.npy").tolist() for paths in halves)
    assert (first, second) == ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9])
    assert (np.load(halves[1].prepared / "validation" / "images.npy") == whole[1::2]).all()
    assert not any((paths.prepared / "test").exists() for paths in halves)
    assert (halves[0].prepared / "train" / "images.npy").exists()
    with pytest.raises(SlimlineError, match="trials start from it"):
        halved(Paths(tmp_path / "elsewhere"), tmp_path / "other")


BEST = """
trial: 0
values: {quantize.weights.bits: 4}
scores: {packed_bytes: 900, bops: 3000}
promise: {accuracy: 0.9, low: 0.8, high: 0.95, test_accuracy_low: 0.8, test_accuracy_high: 0.95}
others:
  1: {accuracy: 0.9, low: 0.8, high: 0.95, test_accuracy_low: 0.8, test_accuracy_high: 0.95}
"""
FOUND = '{"fixed": {}, "rungs": {"search": [{"trial": 1, "values": {}, "scores": {"packed_bytes": 900, "bops": 3000}}]}}'


@pytest.mark.parametrize(
    ("best", "found", "trial"),
    [
        *((best, FOUND, None) for best in ("", "[1]", "a: [", BEST[:90], BEST.replace("low: 0.8, ", ""), BEST.replace("900", "much"))),
        *((best, FOUND, None) for best in (BEST.replace("bits: 4", "bits: 2020-01-01"), BEST.replace("bits: 4", "bits: .nan"))),
        *((BEST, found, 1) for found in ("", "[]", "{}", '{"rungs": {}}', FOUND.replace('"trial": 1', '"trial": 2'), FOUND.replace("900", "{}"))),
    ],
)
def test_what_a_sweep_left_and_was_damaged_since_is_refused_and_params_stay(best: str, found: str, trial: int | None, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    definition(tmp_path, "seed: 0", "seed: 0\nbase: .")
    (tmp_path / "trials.json").write_text(FOUND)
    for whole, one in ((BEST, None), (BEST, 1)):
        params.write_text(SHIPPED.read_text())
        (tmp_path / "best.yaml").write_text(whole)
        assert "promise: {sweep: " in adopt(tmp_path, one)
    params.write_text(SHIPPED.read_text())
    (tmp_path / "best.yaml").write_text(best)
    (tmp_path / "trials.json").write_text(found)
    with pytest.raises(SlimlineError, match=r"best.yaml, or trials.json beside it, is not as a sweep leaves it .*; slimline sweep run"):
        adopt(tmp_path, trial)
    assert params.read_text() == SHIPPED.read_text()


def test_a_change_within_what_another_change_gave_leaves_that_as_it_was() -> None:
    fixed = {"prune.criterion": {"name": "threshold"}}
    made = changed(load_params(SHIPPED), {**fixed, "prune.criterion.value": 0.5})
    assert made.block("prune", Prune).criterion["value"] == 0.5
    assert fixed == {"prune.criterion": {"name": "threshold"}}


def test_adopting_changes_values_and_keeps_every_comment() -> None:
    text = SHIPPED.read_text()
    assert rewritten(text, {}) == text
    made = rewritten(text, {"prune.target": {"name": "threshold"}, "prune.loss": None, 'quantize.weights.exceptions."a.b"': 3})
    others = [(before, after) for before, after in zip(text.splitlines(), made.splitlines(), strict=True) if before != after]
    assert len(others) == 3
    assert all(before.split("#")[1:] == after.split("#")[1:] for before, after in others)
    assert "loss: null" in made
    promised = rewritten(text, {"evaluate.promise": {"sweep": "bits", "trial": 3}})
    line = "  promise: {sweep: bits, trial: 3}\n"
    assert f"evaluate:\n{line}" in promised
    assert promised.replace(line, "") == text


def test_a_database_that_is_none_or_does_not_answer_is_refused() -> None:
    with pytest.raises(SlimlineError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/x.*: no answer"):
        database("postgresql://me:secret@127.0.0.1:1/x")
    for address in ("nowhere", "postgresql://me:secret@127.0.0.1:port/x", "http://127.0.0.1:9"):
        with pytest.raises(SlimlineError, match="is no address of a database") as refused:
            database(address)
        assert "secret" not in str(refused.value)


@pytest.mark.slow  # MLflow takes seconds to make a database
def test_trials_are_recorded_once_under_the_sweep_and_a_store_that_fails_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow.tracking import MlflowClient

    from slimline.tracking.trials import Record, record_trials

    uri = f"sqlite:///{tmp_path}/runs.db"
    records = [Record("search 0", {'quantize.weights.exceptions."a.b"': 4}, {"val/accuracy": 0.5}), Record("search 1", {}, {}, "cannot be")]
    assert record_trials(uri, "some", "sweep x", "identity", records) == 2
    assert record_trials(uri, "some", "sweep x", "identity", [*records, Record("short 0", {}, {})]) == 1
    client = MlflowClient(uri)
    runs = {run.info.run_name: run for run in client.search_runs([client.get_experiment_by_name("some").experiment_id])}
    assert sorted(runs) == ["search 0", "search 1", "short 0", "sweep x"]
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs.values()} == {None, runs["sweep x"].info.run_id}
    assert runs["search 0"].data.params == {"quantize.weights.exceptions.a.b": "4"}
    assert (runs["search 1"].info.status, runs["search 1"].data.tags["reason"]) == ("FAILED", "cannot be")
    assert record_trials("nowhere://runs", "some", "sweep x", "identity", records) == 0
    assert "not recorded there" in capsys.readouterr().err


@pytest.mark.slow
def test_drivers_that_end_at_the_same_moment_record_each_trial_once(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    from slimline.tracking.trials import Record, record_trials

    uri = f"sqlite:///{tmp_path}/runs.db"
    record_trials(uri, "some", "sweep before", "another", [Record("search 0", {}, {})])
    records = [Record(f"search {slot}", {"a": slot}, {}) for slot in range(8)]
    with ThreadPoolExecutor(3) as drivers:
        list(drivers.map(lambda _: record_trials(uri, "some", "sweep x", "identity", records), range(3)))
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("some").experiment_id], "tags.`slimline.sweep` = 'identity'")
    (parent,) = (run.info.run_id for run in runs if run.data.tags["slimline.trial"] == "all")
    children = [run for run in runs if run.data.tags["slimline.trial"] != "all"]
    assert sorted(run.info.run_name for run in children) == sorted(one.name for one in records)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}


@pytest.mark.parametrize("last", [finished((0.9, 10, 100), (0.8, 5, 50)), finished((0.9, 10, 100)), []])
def test_fronts_are_drawn_for_each_pair_of_objectives_also_where_the_last_rung_found_nothing(last: list[Finished]) -> None:
    objectives = ["validation_accuracy", "packed_bytes", "bops"]
    rungs = {"search": finished((0.1, 50, 500), (0.9, 40, 400)), "full": last}
    ended = SimpleNamespace(sweep=SimpleNamespace(definition=SimpleNamespace(objectives=objectives)), rungs=rungs, last=last)
    drawings = dict(fronts(ended, last[0].slot if last else None, {"validation_accuracy": 0.85, "bops": 300.0}))  # type: ignore[arg-type]
    assert list(drawings) == ["validation_accuracy and packed_bytes", "validation_accuracy and bops", "packed_bytes and bops"]
    for drawing in drawings.values():
        assert drawing.startswith("<svg ")
        assert ("recommended" in drawing) == bool(last)
