"""The study behind a sweep: trials to be run, claimed, finished, and found again after whoever ran them has died.

Each trial is of a *slot*, a number from 0 on: the budget is so many slots. A slot whose trial died (FAIL) gets another one with the same
values, so that in the end each has exactly one that is finished, however often processes were killed. Several drivers may share a study in
a database: a claim is one change of state there, and of two trials of one slot the earlier one counts.
"""

import copy
import fcntl
import hashlib
import os
import re
import socket
import time
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from slimline.errors import SlimlineError
from slimline.registry import Spec, build
from slimline.sweep import SAMPLERS
from slimline.sweep.objectives import OBJECTIVES
from slimline.sweep.space import Space

STALE = 60.0
"""Seconds without a sign of life after which another machine's driver counts as dead."""

MAKERS = 3
"""How often tables are tried to be made in an empty database that others come to at the same time."""

PASSWORD_OF = re.compile(r":[^/@]*@")
"""In addresses that are none."""

SLOT, DRIVER, BEAT, SCORES, SECONDS, REASON = "slot", "driver", "beat", "scores", "seconds", "reason"
"""What a trial says of itself besides its parameters and values."""

INFEASIBLE = "possible"
"""The constraint that a trial breaks whose values cannot be."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)


class _Lock(JournalFileOpenLock):
    """Optuna's own locks outlive a process that was killed while it held one; this one goes with it."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._held: int | None = None

    def acquire(self) -> bool:
        self._held = os.open(self._path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._held is not None
        os.close(self._held)


def journal(path: Path, *, mend: bool = False) -> BaseStorage:
    """The storage in the file `path`.

    Args:
        mend: take away a last line that a killed process left half-written; only for who alone writes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if mend and path.exists():
        content = path.read_bytes()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            os.truncate(path, whole)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path.with_suffix(".lock"))))


def database(url: str) -> BaseStorage:
    """The storage in a database.

    Raises:
        SlimlineError: no such address, no answer, or a database that is another program's.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise _no_address(PASSWORD_OF.sub(":***@", url)) from error
    shown = address.render_as_string(hide_password=True)
    postgresql = address.get_backend_name() == "postgresql"
    if postgresql:
        address = address.set(drivername="postgresql+psycopg")
    connect = {"connect_args": {"connect_timeout": 10}} if postgresql else {}
    try:
        return _with_tables(address.render_as_string(hide_password=False), {"pool_pre_ping": True, **connect})
    except ImportError as error:
        raise SlimlineError(f"storage {shown}: its driver is missing ({error}); pip install 'psycopg[binary]'") from error
    except ArgumentError as error:  # of a kind of database that is not known
        raise _no_address(shown) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise SlimlineError(f"storage {shown}: no answer ({_cause(error)}); start it, or mend the address. No study was touched") from error
    except RuntimeError as error:
        raise SlimlineError(f"storage {shown}: not a database of Optuna ({_cause(error)}); give the sweep one of its own") from error


def _no_address(shown: str) -> SlimlineError:
    return SlimlineError(f"storage: '{shown}' is no address of a database; write postgresql://user:password@host/database")


def _with_tables(address: str, engine: dict[str, Any]) -> RDBStorage:
    """The storage at `address`, its tables made if there are none. Of several that make them at once all but one fail, and find them then."""
    for _ in range(MAKERS - 1):
        try:
            return RDBStorage(address, engine_kwargs=engine)
        except (IntegrityError, ProgrammingError, StorageInternalError):
            time.sleep(1.0)
    return RDBStorage(address, engine_kwargs=engine)


@contextmanager
def answering(where: str) -> Iterator[None]:
    """
    Raises:
        SlimlineError: the storage stops answering within the block.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise SlimlineError(f"storage {where} no longer answers ({_cause(error)}); start it, and the sweep again: it goes on from here") from error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:160]


@dataclass(frozen=True)
class Claim:
    """A trial that this driver runs.

    Args:
        values: of params.yaml, by their paths.
    """

    trial_id: int
    number: int
    slot: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """What came of a slot.

    Args:
        drawn: values as Optuna has them; `values` as params.yaml does.
        scores: by objective; empty where it was infeasible, for `reason`.
    """

    slot: int
    number: int
    drawn: Mapping[str, Any]
    values: Mapping[str, Any]
    scores: Mapping[str, float]
    seconds: Mapping[str, float]
    reason: str | None


class _Slots(Study):
    """A study as samplers see it: a trial's number is its slot, and those that died are not there.

    Samplers weigh trials by their order; a slot that another trial finished, after a driver died, would else change all that is drawn later.
    """

    def _get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False) -> list[FrozenTrial]:
        found = super()._get_trials(deepcopy, states, use_cache)
        living = [_numbered(trial) for trial in found if trial.state is not TrialState.FAIL]
        return sorted(living, key=lambda trial: trial.number)


def _numbered(trial: FrozenTrial) -> FrozenTrial:
    other = copy.copy(trial)
    other.number = trial.user_attrs[SLOT]
    return other


class Rung:
    """One study: the search, or the trials promoted from it.

    Args:
        exclusive: whether nobody but this driver can run its trials.
    """

    def __init__(
        self, storage: BaseStorage, name: str, objectives: Sequence[str], space: Space, sampler: Spec, seed: int, *, exclusive: bool
    ) -> None:
        self.storage, self.name, self.objectives, self.space = storage, name, objectives, space
        self._sampler, self._seed, self._exclusive = sampler, seed, exclusive
        directions = [OBJECTIVES[one].direction for one in objectives]
        self.study = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        self._id = storage.get_study_id_from_name(name)
        self._me = {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}
        self._mine: dict[int, int] = {}
        self._heard: dict[int, tuple[Any, float]] = {}

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self._id, deepcopy=False, states=states or None)

    def enqueue(self, slots: Mapping[int, Mapping[str, Any]]) -> None:
        """See to it that each of `slots` has a trial that is waiting, running or finished; values that are given are not drawn."""
        there = {trial.user_attrs[SLOT] for trial in self._trials() if trial.state is not TrialState.FAIL}
        died = {trial.user_attrs[SLOT]: trial for trial in self._trials(TrialState.FAIL)}
        for slot, drawn in slots.items():
            if slot in there:
                continue
            before = died.get(slot)
            # Half-drawn values are drawn again: from the same seed, beside the same trials, they are the same.
            known = before.params if before is not None and before.params.keys() == self.space.parameters.keys() else drawn
            self.study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": dict(known)}, user_attrs={SLOT: slot}))

    def claim(self) -> Claim | None:
        """The next trial that is waiting, now this driver's; None where none is."""
        left = [trial for trial in self._trials(TrialState.RUNNING) if self._exclusive and trial._trial_id not in self._mine]
        for trial in sorted([*left, *self._trials(TrialState.WAITING)], key=lambda trial: trial.user_attrs[SLOT]):
            if trial.state is TrialState.WAITING and not self._won(trial):
                continue
            self._mine[trial._trial_id] = 0
            slot = trial.user_attrs[SLOT]
            return Claim(trial._trial_id, trial.number, slot, self.space.values(self._drawn(trial._trial_id, slot)))
        return None

    def _won(self, waiting: FrozenTrial) -> bool:
        """Whether a waiting trial is this driver's now."""
        try:
            if not self.storage.set_trial_state_values(waiting._trial_id, state=TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        self.storage.set_trial_user_attr(waiting._trial_id, DRIVER, self._me)
        same = [trial for trial in self._trials() if trial.user_attrs[SLOT] == waiting.user_attrs[SLOT] and trial.number < waiting.number]
        if all(trial.state is TrialState.FAIL for trial in same):
            return True
        # Two drivers have found the same one dead, and the other one's is first.
        self.storage.set_trial_state_values(waiting._trial_id, state=TrialState.FAIL)
        return False

    def _drawn(self, trial_id: int, slot: int) -> dict[str, Any]:
        """The values of a trial. All are drawn before any is stored, so that those of a trial which was cut off in between are the same again."""
        sampler = build(SAMPLERS, self._sampler, _seed(self._seed, slot))
        study = _Slots(self.name, self.storage, sampler)
        trial = _numbered(self.storage.get_trial(trial_id))
        sampler.before_trial(study, trial)
        together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        drawn: dict[str, Any] = dict(trial.system_attrs["fixed_params"])
        for path, distribution in self.space.distributions.items():
            if path not in drawn:
                known = path in together
                drawn[path] = together[path] if known else sampler.sample_independent(study, trial, path, distribution)
        for path, distribution in self.space.distributions.items():
            if path not in trial.params:
                self.storage.set_trial_param(trial_id, path, distribution.to_internal_repr(drawn[path]), distribution)
        return {path: drawn[path] for path in self.space.parameters}

    def tell(self, claim: Claim, scores: Mapping[str, float], seconds: Mapping[str, float], limits: Mapping[str, float]) -> None:
        """The trial is finished.

        Args:
            limits: by name, how much is too much; 0 or less where it is not.
        """
        self._ended(claim, TrialState.COMPLETE, {SCORES: dict(scores), SECONDS: dict(seconds)}, limits, [scores[one] for one in self.objectives])

    def tell_infeasible(self, claim: Claim, reason: str) -> None:
        """The trial cannot be."""
        self._ended(claim, TrialState.PRUNED, {REASON: reason}, {INFEASIBLE: 1.0})

    def give_up(self, claim: Claim) -> None:
        """The trial is for somebody else, or for later."""
        self._ended(claim, TrialState.FAIL, {}, {})

    def _ended(
        self, claim: Claim, state: TrialState, facts: Mapping[str, Any], limits: Mapping[str, float], values: Sequence[float] | None = None
    ) -> None:
        self._mine.pop(claim.trial_id, None)
        with suppress(UpdateFinishedTrialError):  # we were taken for dead, and another driver has it
            trial = Trial(self.study, claim.trial_id)
            for name, fact in facts.items():
                trial.set_user_attr(name, fact)
            for name, excess in limits.items():
                trial.set_constraint(name, excess)
            self.storage.set_trial_state_values(claim.trial_id, state=state, values=values)

    def beat(self) -> None:
        """Show that this driver lives."""
        for trial_id in list(self._mine):
            self._mine[trial_id] += 1
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_user_attr(trial_id, BEAT, self._mine[trial_id])

    def bury(self) -> int:
        """Set trials to FAIL whose driver is dead; how many. Where nobody else can run them they are not even that: they are gone on with."""
        if self._exclusive:
            return 0
        dead = [trial for trial in self._trials(TrialState.RUNNING) if trial._trial_id not in self._mine and self._dead(trial)]
        for trial in dead:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        return len(dead)

    def _dead(self, trial: FrozenTrial) -> bool:
        driver = trial.user_attrs.get(DRIVER)
        if driver is not None and driver["host"] == self._me["host"]:
            return not _alive(driver)
        sign = trial.user_attrs.get(BEAT)
        before, since = self._heard.get(trial._trial_id, (sign, time.monotonic()))
        # By our own clock alone: those of other machines may differ.
        self._heard[trial._trial_id] = (sign, since if sign == before else time.monotonic())
        return time.monotonic() - self._heard[trial._trial_id][1] > STALE

    @property
    def left(self) -> int:
        """How many trials are waiting or running."""
        return len(self._trials(TrialState.WAITING, TrialState.RUNNING))

    def finished(self) -> list[Finished]:
        """What came of each slot that is finished, in their order."""
        found = {
            trial.user_attrs[SLOT]: Finished(
                trial.user_attrs[SLOT],
                trial.number,
                trial.params,
                self.space.values(trial.params),
                trial.user_attrs.get(SCORES, {}),
                trial.user_attrs.get(SECONDS, {}),
                trial.user_attrs.get(REASON),
            )
            for trial in self._trials(TrialState.COMPLETE, TrialState.PRUNED)
        }
        return [found[slot] for slot in sorted(found)]

    @property
    def facts(self) -> dict[str, Any]:
        """What is noted of the study as a whole."""
        return self.storage.get_study_user_attrs(self._id)

    def note(self, name: str, value: Any) -> None:
        self.storage.set_study_user_attr(self._id, name, value)


def _seed(seed: int, slot: int) -> int:
    """The seed of a slot's sampler: the slot's alone, so that no process that died before it changes what is drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed} {slot}".encode()).digest()[:4], "little")


def _alive(driver: Mapping[str, Any]) -> bool:
    try:
        return bool(abs(psutil.Process(driver["pid"]).create_time() - driver["started"]) < 1)
    except psutil.Error:
        return False
