"""Who runs a sweep: it opens the study, hands trials to worker processes, and finishes them; killed at any moment, the next one goes on."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from slimline.errors import SlimlineError
from slimline.params.base import Block
from slimline.params.changes import changed
from slimline.params.file import Params, plain
from slimline.params.file import load as load_params
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune
from slimline.params.quantize import Quantize
from slimline.paths import Paths
from slimline.runtime.locks import held
from slimline.sweep.asked import Asked, Found, Place
from slimline.sweep.definition import VARIED, Definition, load
from slimline.sweep.progress import Progress
from slimline.sweep.results import excess, limits, promoted
from slimline.sweep.space import Space, check
from slimline.sweep.study import Claim, Finished, Rung, answering, database, journal
from slimline.sweep.worker import Broken, Refused, Worker
from slimline.sweep.workspace import code, contents, halved

ATTEMPTS = 5
"""Times that a trial may cost its process its life before it counts as one that cannot be."""

BEAT = 10.0
"""Seconds between two signs of life, and two looks for trials that others have left."""

STORAGE = "SLIMLINE_SWEEP_STORAGE"


@dataclass(frozen=True)
class Opened:
    """A sweep that can be looked at: what it is, and what there is of it.

    Args:
        folder: of sweep.yaml.
        base: workspace that trials start from. params: its params.yaml.
        identity: digest of all that decides what a trial gives, and which is drawn.
        scratch: what is kept of this very sweep.
    """

    folder: Path
    definition: Definition
    base: Paths
    params: Params
    identity: str
    scratch: Path

    @property
    def name(self) -> str:
        """That of its study; rungs stand behind it."""
        return f"{self.folder.name} {self.identity[:12]}"

    def study(self, rung: str) -> str:
        """The name of a rung's study: other retraining is another one."""
        return f"{self.name} {rung}{f' of {self.definition.budget.short}' if rung == 'short' else ''}"

    @property
    def where(self) -> str | None:
        """The address of its database; None where it has a file."""
        return os.environ.get(STORAGE) or self.definition.storage

    @property
    def file(self) -> Path:
        """Where the study is kept if it has no database."""
        return Paths(self.folder).scratch / "study.journal"

    @property
    def models(self) -> Path:
        """Where the models of the last rung's front are kept."""
        return self.scratch / "models" / self.study(list(self.rungs)[-1]).removeprefix(f"{self.name} ")

    def storage(self, *, mend: bool = False) -> BaseStorage:
        return journal(self.file, mend=mend) if self.where is None else database(self.where)

    @property
    def rungs(self) -> dict[str, int | None]:
        """Epochs of retraining of each rung: 0 for none, None for as many as params.yaml says."""
        budget = self.definition.budget
        found: dict[str, int | None] = {"search": budget.epochs}
        if self.retrains and budget.epochs is not None:
            found |= {"short": budget.short} if budget.short > budget.epochs else {}
            found |= {"full": None} if budget.full else {}
        return found

    @property
    def retrains(self) -> bool:
        """Whether params.yaml, with what is fixed, has any retraining."""
        common = check(self.definition, self.params)
        return common.block("prune", Prune).fit is not None or common.block("quantize", Quantize).fit is not None


def opened(folder: Path) -> Opened:
    """Read a sweep's folder.

    Raises:
        SlimlineError: a sweep.yaml that cannot be, or no student to start from.
    """
    folder = folder.resolve()
    definition = load(folder / "sweep.yaml")
    base = Paths((folder / definition.base).resolve())
    params = load_params(base.params)
    try:
        common = check(definition, params)
    except SlimlineError as error:
        raise SlimlineError(f"{folder / 'sweep.yaml'}: {error}") from error
    if not base.model("student").manifest.exists():
        raise SlimlineError(f"{base.model('student').folder}: no trained student, which trials start from; run dvc repro distill_student first")
    hardware = params.block("hardware", Hardware)
    if hardware.nodes > 1:
        raise SlimlineError(
            f"{base.params}: hardware.nodes is {hardware.nodes}, but a trial trains on one machine; make it 1, and share the study by a database "
            "(docs/sweeps.md)"
        )
    what = definition.model_dump(mode="json", include={"objectives", "fixed", "space", "start", "allocated", "sampler", "seed"})
    blocks = [plain(block) for block in _apart(definition, params, common)]
    what |= {"epochs": definition.budget.epochs, "threads": definition.threads, "params": [params.seed, *blocks]}
    what |= {"devices": hardware.devices, "strategy": hardware.strategy}
    facts = [what, contents(base), code()]
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Opened(folder, definition, base, params, identity, Paths(folder).scratch / "sweep" / identity[:12])


def _apart(definition: Definition, params: Params, common: Params) -> list[Block]:
    """The blocks that trials vary, apart from what they vary: adopting what a sweep has found does not make it another one."""
    some = {path: one.ends[0] if one.each is None else {"*": one.ends[0]} for path, one in definition.space.items()}
    with suppress(SlimlineError):  # ends that do not go together
        common = changed(params, {**definition.fixed, **some})
    return [common.blocks[name] for name in VARIED]


class Team:
    """Worker processes, started as they are needed; what each is at is its task."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size = place, size
        self._workers: list[Worker] = []

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    @property
    def room(self) -> int:
        """How many tasks more can be given."""
        return self._size - len(self.busy)

    def give(self, task: Any, method: str, *arguments: Any) -> None:
        idle = next((worker for worker in self._workers if worker.task is None), None)
        if idle is None:
            idle = Worker(self._place)
            self._workers.append(idle)
        idle.give(task, method, *arguments)

    def answers(self, patience: float) -> Iterator[tuple[Any, Any]]:
        """Tasks that have ended since, each with its answer; None where its process has died."""
        busy = {worker.connection: worker for worker in self.busy}
        for connection in wait(list(busy), patience):
            worker = busy[connection]  # type: ignore[index]
            task = worker.task
            try:
                answer = worker.take()
            except EOFError:
                worker.end()
                self._workers.remove(worker)
                answer = None
            yield task, answer

    def ask(self, method: str, *arguments: Any) -> Any:
        """The answer to one question, with nothing else at work.

        Raises:
            SlimlineError: it was refused, or its process died again and again.
        """
        return self.all({method: (method, *arguments)})[method]

    def all(self, tasks: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
        """The answers to `tasks`, each a method and its arguments, by their names.

        Raises:
            SlimlineError: one was refused, or its process died again and again.
        """
        waiting, found, attempts = list(tasks), dict[str, Any](), Counter[str]()
        while len(found) < len(tasks):
            while waiting and self.room:
                name = waiting.pop(0)
                self.give(name, *tasks[name])
            for name, answer in self.answers(BEAT):
                if isinstance(answer, Refused):
                    raise SlimlineError(answer.reason)
                if isinstance(answer, Broken):
                    raise RuntimeError(answer.text)
                if answer is not None:
                    found[name] = answer
                    continue
                attempts[name] += 1
                if attempts[name] == ATTEMPTS:
                    raise SlimlineError(f"the process of {name} died {ATTEMPTS} times; is there enough memory?")
                waiting.append(name)
        return found


@contextmanager
def team(sweep: Opened, workers: int) -> Iterator[Team]:
    """Workers for `sweep`; none of them outlives the block."""
    chooses, judges = halved(sweep.base, sweep.scratch)
    place = Place(sweep.base.root, sweep.definition.fixed, chooses.root, judges.root, sweep.scratch / "pruned", sweep.definition.threads)
    made = Team(place, workers)
    try:
        yield made
    finally:
        made.end()


@dataclass(frozen=True)
class Ended:
    """A sweep all of whose trials are finished.

    Args:
        rungs: what came of their trials, the last one's being the result.
        reference: the student's scores.
        search_seconds: of this driver's search, one worker being there at its beginning.
    """

    sweep: Opened
    rungs: Mapping[str, Sequence[Finished]]
    reference: Mapping[str, float]
    search_seconds: float

    @property
    def last(self) -> Sequence[Finished]:
        return list(self.rungs.values())[-1]

    @property
    def epochs(self) -> int | None:
        """Of retraining in the last rung."""
        return list(self.sweep.rungs.values())[-1]


class Sweep:
    """The course of a sweep, by one driver."""

    def __init__(self, sweep: Opened, workers: Team, progress: Progress) -> None:
        self.sweep, self.team, self.progress = sweep, workers, progress
        self.definition = sweep.definition
        self.storage = sweep.storage(mend=True)
        needed = {parameter.each for parameter in self.definition.space.values()} - {None}
        self.space = Space.of(self.definition, self.team.ask("names") if needed else {})
        try:
            self.given = [self.space.drawn(values) for values in self.definition.start]
        except SlimlineError as error:
            raise SlimlineError(f"{sweep.folder / 'sweep.yaml'}: {error}") from error
        self.search = self._rung("search")
        if "reference" not in self.search.facts:
            self.search.note("reference", self.team.ask("reference"))
        self.reference: Mapping[str, float] = self.search.facts["reference"]
        self.bounds = limits(self.definition, self.reference)

    def _rung(self, rung: str) -> Rung:
        definition, exclusive = self.definition, self.sweep.where is None
        name = self.sweep.study(rung)
        return Rung(self.storage, name, definition.objectives, self.space, definition.sampler, definition.seed, exclusive=exclusive)

    def run(self) -> Ended:
        """Finish all trials that are not."""
        found: dict[str, Sequence[Finished]] = {}
        seconds: dict[str, float] = {}
        slots: Mapping[int, Mapping[str, Any]] = self._start()
        for name, epochs in self.sweep.rungs.items():
            rung = self.search if name == "search" else self._rung(name)
            if found:
                slots = {one.slot: one.drawn for one in promoted(list(found.values())[-1], self.definition, self.bounds)}
            begun = time.monotonic()
            found[name] = self._finish(name, rung, slots, epochs, keep=bool(found) and name == list(self.sweep.rungs)[-1])
            seconds[name] = time.monotonic() - begun
        return Ended(self.sweep, found, self.reference, seconds["search"])

    def _start(self) -> dict[int, dict[str, Any]]:
        """The search's slots, with the values of those that do not draw them."""
        given = [*self.given]
        if self.definition.allocated and len(self.search.finished()) < self.definition.budget.trials:
            given += self._allocated()
        return {slot: given[slot] if slot < len(given) else {} for slot in range(self.definition.budget.trials)}

    def _allocated(self) -> list[dict[str, Any]]:
        if "allocated" not in self.search.facts:
            (parameter, *_) = (one for one in self.definition.space.values() if one.each == "layer" and one.choices)
            self.search.note("allocated", self.team.ask("allocated", parameter.choices, self.definition.allocated))
        layers = self.search.facts["allocated"]
        paths = [path for path, one in self.space.parameters.items() if one.each == "layer" and one.choices]
        return [self.space.drawn({path: widths[name] for path in paths for name in widths if path.endswith(_ending(name))}) for widths in layers]

    def _finish(self, name: str, rung: Rung, slots: Mapping[int, Mapping[str, Any]], epochs: int | None, *, keep: bool) -> list[Finished]:
        """Run a rung to its end; what came of its slots."""
        attempts = Counter[int]()
        rung.bury()
        rung.enqueue(slots)
        finished = [one for one in rung.finished() if one.slot in slots]
        self.progress.begin(name, len(slots), finished)
        beaten = time.monotonic()
        while True:
            while self.team.room and (claim := rung.claim()):
                self._give(claim, epochs, keep)
            if not self.team.busy and not rung.left:
                if {one.slot for one in rung.finished()} >= slots.keys():
                    break
                rung.enqueue(slots)  # another driver has let go of one
                continue
            ended = False
            for claim, answer in self.team.answers(1.0):
                ended |= self._take(rung, claim, answer, attempts) or self._again(claim, epochs, keep)
            if ended:
                finished = [one for one in rung.finished() if one.slot in slots]
            self.progress.show(name, len(slots), finished, len(self.team.busy))
            if not ended and not self.team.busy:
                time.sleep(1.0)  # another driver is at the last trials
            if time.monotonic() - beaten > BEAT:
                beaten = time.monotonic()
                rung.beat()
                rung.bury()
                rung.enqueue(slots)
        return [one for one in rung.finished() if one.slot in slots]

    def _give(self, claim: Claim, epochs: int | None, keep: bool) -> None:
        self.team.give(claim, "run", Asked(claim.values, epochs, self.sweep.models / str(claim.slot) if keep else None))

    def _again(self, claim: Claim, epochs: int | None, keep: bool) -> bool:
        self._give(claim, epochs, keep)
        return False

    def _take(self, rung: Rung, claim: Claim, answer: Any, attempts: Counter[int]) -> bool:
        """Deal with what a worker answered; whether the trial is finished."""
        match answer:
            case Found():
                rung.tell(claim, answer.scores, answer.seconds, excess(answer.scores, self.bounds))
            case Refused():
                rung.tell_infeasible(claim, answer.reason)
            case Broken():
                rung.give_up(claim)
                raise RuntimeError(f"trial {claim.slot} ({dict(claim.values)}):\n{answer.text}")
            case _:
                attempts[claim.slot] += 1
                if attempts[claim.slot] < ATTEMPTS:
                    return False
                rung.tell_infeasible(claim, f"its process died {ATTEMPTS} times; is there enough memory?")
        return True


def _ending(name: str) -> str:
    return f'."{name}"' if "." in name else f".{name}"


def run(folder: Path, *, workers: int | None = None, leave: Callable[[Ended, Team], None] = lambda ended, team: None) -> Ended:
    """Run the sweep in `folder` to its end, or go on with it.

    Args:
        workers: in the place of what sweep.yaml says.
        leave: called when all trials are finished, with the workers idle.

    Raises:
        SlimlineError: bad input, a storage that does not answer, or another driver at the same folder.
    """
    sweep = opened(folder)
    with (
        held(Paths(sweep.folder).scratch / "sweep.lock", f"the sweep in {sweep.folder}"),
        answering(sweep.where or str(sweep.file)),
        team(sweep, workers or sweep.definition.workers) as made,
        Progress(sweep.definition.objectives) as progress,
    ):
        ended = Sweep(sweep, made, progress).run()
        leave(ended, made)
        return ended
