"""One tick: take in what is new, run what is stale, let the better model be champion, tell of it.

Each step may be broken off, and the next tick goes on: what is settled is written down after it is done, and everything before may be
done twice.
"""

import hashlib
import json
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.files import write_json
from slimline.params.data import Data
from slimline.params.file import load
from slimline.paths import Paths
from slimline.rerun import incoming, settings
from slimline.rerun.mail import Mailbox
from slimline.rerun.notices import Channel, deliver, keep, notice, send
from slimline.rerun.output import cause, kept
from slimline.rerun.settings import Rerun
from slimline.rerun.summary import BUSY, FAILED, KEPT, PROMOTED, REFUSED, REPRODUCED, STOPPED, UP_TO_DATE, Summary
from slimline.rerun.webhook import Webhook
from slimline.runtime.fingerprint import git_state
from slimline.runtime.locks import held
from slimline.runtime.refusal import BAD_INPUT, SYSTEM, reason
from slimline.runtime.reproduction import SIGNALS, FullError, mended, reproduce, signalled
from slimline.runtime.stopping import STOP, Stopped

ENDED = (SIGNALS + signal.SIGTERM, SIGNALS + signal.SIGINT)
"""Exit codes of a pipeline that was stopped from outside."""

NEW = (PROMOTED, KEPT, REPRODUCED)
"""Outcomes that each say something new."""


FORMAT = 1
"""Of what ticks keep in mind; what another version kept is done again."""


class Place:
    """The files that ticks keep in a workspace."""

    def __init__(self, workspace: Paths) -> None:
        self.folder = workspace.scratch / "rerun"
        self.lock = self.folder / "lock"
        self.state = self.folder / "state.json"
        self.output = self.folder / "output.txt"
        self.box = self.folder / "notices"
        self.last, self.last_text = self.folder / "last.json", self.folder / "last.txt"

    def read(self) -> dict[str, Any]:
        """What was settled; nothing where it cannot be read, which costs work and no result."""
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) and state.get("format") == FORMAT else {}

    def settled(self, **facts: Any) -> None:
        write_json(self.state, self.read() | facts | {"format": FORMAT})


def tick(paths: Paths, settings_of: Callable[[], Rerun], again: Callable[[], None]) -> Summary:
    """Do one tick in the workspace `paths`, and tell of it.

    Args:
        settings_of: reads rerun.yaml; where it cannot be, that is what the tick comes to, and told by the webhook.
        again: starts this program anew, on code that was pulled; it does not come back.

    Raises:
        SlimlineError: a channel of notices is not as it must be.
    """
    summary, place, start = Summary(socket.gethostname(), str(paths.root)), Place(paths), time.monotonic()
    rerun, wrong = _settings(settings_of)
    channels = _channels(rerun)
    with ExitStack() as stack:
        try:
            try:
                stack.enter_context(held(place.lock, f"{paths.root}"))
            except SlimlineError as error:
                return summary.came_to(BUSY, str(error))  # the one that is at it writes the summary
            if wrong is not None:
                raise wrong
            for _ in deliver(place.box, channels):
                pass  # who does not answer is asked again at the end, and told of then
            _work(paths, rerun, place, summary, again)
        except Stopped as stopped:
            summary.came_to(STOPPED, str(stopped), SIGNALS + stopped.signum)
        except SlimlineError as error:
            summary.came_to(REFUSED, str(error))
        except SYSTEM as error:
            summary.came_to(REFUSED, f"{reason(error, paths.root)}; mend it, the next tick goes on")
        except Exception as error:  # a bug of ours or of a library: told of like all else, and the next tick tries again
            traceback.print_exc()
            summary.came_to(FAILED, f"{type(error).__name__}: {error}")
        summary.seconds = round(time.monotonic() - start, 1)
        with suppress(Stopped), STOP.deferred():  # what it came to stands; whoever has sent a signal waits for the end, which is near
            _tell(place, rerun, summary, channels)
    return summary


def _settings(settings_of: Callable[[], Rerun]) -> tuple[Rerun, Exception | None]:
    """rerun.yaml, and what is wrong with it; the defaults then."""
    try:
        return settings_of(), None
    except (SlimlineError, OSError) as error:
        return Rerun(), error


def _work(paths: Paths, rerun: Rerun, place: Place, summary: Summary, again: Callable[[], None]) -> None:
    from slimline.runtime.plan import plan  # DVC: half a second

    if not (paths.root / "dvc.yaml").exists():
        raise SlimlineError(f"{paths.root}: no dvc.yaml there; rerun works where the pipeline's dvc.yaml lies, experiments are run by dvc repro")
    if (free := shutil.disk_usage(paths.root).free / 1e9) < rerun.least_free_gb:
        raise SlimlineError(
            f"{paths.root}: {free:.1f} GB free, least_free_gb asks for {rerun.least_free_gb:g}; dvc gc -w frees what no file here needs"
        )
    _take_in(paths, rerun, summary, again)
    summary.commit = git_state(paths.root)[0]
    try:
        for line in mended(paths.root):
            _warn(summary, line)
    except SlimlineError as error:  # its one refusal: somebody runs the pipeline by hand
        summary.came_to(BUSY, str(error))
        return
    stale = plan(paths)
    if any(one.stage == "prepare" for one in stale):
        source = paths.root / load(paths.params).block("data", Data).source["path"]
        if not incoming.settle(source, rerun.data):
            summary.came_to(BUSY, f"{source} is still written to, after {rerun.data.patience_seconds:g} s; the next tick looks again")
            return
    summary.stages = {one.stage: [*one.reasons, *([f"after {', '.join(one.after)}"] if one.after else [])] for one in stale}
    images, scores = _images(paths), _read(paths.summary)
    if stale and not _reproduced(paths, place, summary):
        return
    summary.images, summary.scores = (images, _images(paths)), (scores, _read(paths.summary))
    _settle(paths, rerun, place, summary)


def _take_in(paths: Paths, rerun: Rerun, summary: Summary, again: Callable[[], None]) -> None:
    if rerun.code.pull:
        with _beside(summary):
            if incoming.pull(paths.root):
                again()
    if rerun.data.update:
        with _beside(summary):
            incoming.update(paths.root, rerun.data.update)


def _reproduced(paths: Paths, place: Place, summary: Summary) -> bool:
    """Run the pipeline, and tell MLflow what became of it; whether it came to its end."""
    from slimline.runtime.recorded import sync

    with ExitStack() as stack:
        stack.callback(STOP.listen_again)  # `reproduce` takes signals for itself
        stack.enter_context(kept(place.output))
        try:
            code = reproduce(paths.root, [])
        except FullError:
            raise
        except SlimlineError as error:  # somebody runs the pipeline by hand
            summary.came_to(BUSY, str(error))
            return False
    if code in ENDED:
        raise Stopped(code - SIGNALS)
    with _beside(summary):  # also of the stages before one that broke
        if problem := sync(paths):
            raise SlimlineError(f"{problem}; slimline sync tells MLflow the rest")
    if code == BAD_INPUT:
        raise SlimlineError(cause(place.output))
    if signalled(code):
        summary.came_to(FAILED, f"dvc was ended by signal {code - SIGNALS}; where that is 9, memory may have run out")
    elif code:
        summary.came_to(FAILED, f"{cause(place.output)} (all of it: {place.output})")
    return code == 0


def _settle(paths: Paths, rerun: Rerun, place: Place, summary: Summary) -> None:
    """Judge what dvc.lock names, and push it, unless an earlier tick did. What an earlier one found and could not tell is what this one tells."""
    made, state = _digest(paths), place.read()
    judged = [made, rerun.promote]
    if state.get("judged") != judged:
        if rerun.promote:
            began = state.get("judging") == made
            place.settled(judging=made)
            _judge(paths, summary, began=began)
        else:
            summary.came_to(REPRODUCED)
        if summary.outcome != FAILED:
            place.settled(judged=judged, untold=[summary.id, summary.outcome, summary.reason, summary.version])
    elif untold := state.get("untold"):
        summary.id, outcome, reason, summary.version = untold
        summary.came_to(outcome, reason)
    else:
        summary.came_to(UP_TO_DATE, "what was stale came out as it was" if summary.stages else "")
    if rerun.push and _remote(paths.root):
        summary.pushed = state.get("pushed") == made
        if not summary.pushed:
            with _beside(summary):
                incoming.push(paths.root)
                place.settled(pushed=made)
                summary.pushed = True


def _judge(paths: Paths, summary: Summary, *, began: bool) -> None:
    """Hold what was made against the champion.

    Args:
        began: whether an earlier tick was at this, and may have made it champion before it was killed.
    """
    from slimline.runtime.promotion import register

    summary.gates = {name: one["passed"] for name, one in _read(paths.gates).get("gates", {}).items()}
    try:
        decision = register(paths, why="slimline rerun")
    except SlimlineError as error:  # a registry that is away, a champion that cannot be compared: nothing of the work is lost
        summary.came_to(FAILED, str(error))
        return
    summary.version = decision.version
    outcome = PROMOTED if decision.champion else KEPT
    if decision.before and not all(summary.gates.values()):  # not what made it champion, whenever that was
        outcome = KEPT
    elif decision.before and not began:  # the model is no other one: parameters of its judgement are
        outcome = REPRODUCED
    summary.came_to(outcome, f"version {decision.version} of {decision.model}: {decision.reason}")


def _tell(place: Place, rerun: Rerun, summary: Summary, channels: list[Channel]) -> None:
    """Write the summary down, and send it where it says something that was not said."""
    before = place.read().get("told") or [UP_TO_DATE, "", []]
    told = [summary.outcome, summary.reason, [*summary.warnings]]
    if summary.outcome == BUSY:  # it says nothing of whether all is well, its warnings do
        told = [*before[:2], told[2]]
    better = summary.outcome == UP_TO_DATE and before[0] in (FAILED, REFUSED)
    worth = summary.outcome in rerun.notify.outcomes or summary.warnings or better
    worth = worth and (summary.outcome in NEW or told != before)  # the same trouble is told once
    note = notice(summary.id, summary.record(), summary.headline(), summary.text())
    try:
        if worth:
            keep(place.box, channels, note)
        if summary.outcome in NEW:
            place.settled(untold=None)
        if summary.outcome != STOPPED:
            place.settled(told=told)
    except OSError as error:  # a full disk; whoever started the tick has the text and the exit code
        _warn(summary, f"{place.folder}: cannot be written ({error.strerror or error}), so this is told at each tick")
        if worth and summary.outcome != STOPPED:
            for problem in send(channels, note):
                _warn(summary, problem)
        return
    with suppress(OSError):
        if summary.outcome != STOPPED:  # whoever has sent the signal does not wait for receivers
            for problem in deliver(place.box, channels):
                _warn(summary, problem)
        _show(place.last, json.dumps(summary.record(), indent=2))
        _show(place.last_text, summary.text())


def _show(file: Path, text: str) -> None:
    """Put `text` at `file`, whole. It is not flushed to the disk, which can take half a minute where others write: nothing rests on it."""
    aside = file.with_name(f".{file.name}.part")
    aside.write_text(f"{text}\n", encoding="utf-8")
    aside.replace(file)


def _channels(rerun: Rerun) -> list[Channel]:
    channels: list[Channel] = [Webhook(url)] if (url := settings.secret(settings.WEBHOOK)) else []
    return channels + ([Mailbox(rerun.notify.mail)] if rerun.notify.mail else [])


@contextmanager
def _beside(summary: Summary) -> Iterator[None]:
    """What fails in this block costs a line; the next tick tries it again."""
    try:
        yield
    except (SlimlineError, OSError) as error:
        _warn(summary, str(error))


def _warn(summary: Summary, problem: str) -> None:
    line = " ".join(problem.split())
    summary.warnings.append(line)
    with suppress(OSError):  # nobody looks, or the disk on which this is written is full
        print(f"slimline: {line}", file=sys.stderr, flush=True)


def _digest(paths: Paths) -> str:
    """Of dvc.lock: all that a decision rests on stands there."""
    return hashlib.sha256(b"".join(lock.read_bytes() for lock in paths.locks if lock.exists())).hexdigest()


def _remote(root: Path) -> str | None:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return repo.config["core"].get("remote")


def _images(paths: Paths) -> int | None:
    counted: Mapping[str, int] = _read(paths.stage_metrics("prepare")).get("images", {})
    return sum(counted[split] for split in ("train", "validation", "test")) if counted else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):  # not there yet, or half of a merge
        return {}
