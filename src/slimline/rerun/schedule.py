"""Ticks on a schedule: each a process of its own, so that whatever happens to one, the next one comes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler

from slimline.errors import SlimlineError
from slimline.files import write_json
from slimline.paths import Paths
from slimline.rerun.cron import Cron, written
from slimline.rerun.health import beat_of
from slimline.rerun.summary import CODES, STOPPED
from slimline.rerun.tick import Place
from slimline.runtime.stopping import GRACE

HEARTBEAT = 10.0
"""Seconds between two looks at the clock, which may have been set, or have stood still with the machine."""

PATIENCE = GRACE + 1.5
"""Seconds that a tick has to end after a signal; containers kill after ten."""

STOPS = (signal.SIGTERM, signal.SIGINT)
MEANING = {code: outcome for outcome, code in reversed(CODES.items())} | {0: "well"} | {128 + number: STOPPED for number in STOPS}
LONGEST_JITTER = 24 * 3600.0


class Schedule:
    """Runs `slimline rerun` in the workspace `paths` whenever `cron` is due.

    What came due while nobody was there to run it is done once, at the start. What comes due while a tick is at work is left out.

    Raises:
        SlimlineError: a jitter of more than a day.
    """

    def __init__(self, paths: Paths, cron: Cron) -> None:
        if cron.jitter > LONGEST_JITTER:
            raise SlimlineError(f"--jitter {cron.jitter:g}: seconds, at most {LONGEST_JITTER:g}, a day; write another cron line")
        self.paths, self.cron = paths, cron
        folder = Place(paths).folder
        self.memory, self.beat = folder / "schedule.json", beat_of(paths)
        self._scheduler = BackgroundScheduler(timezone=cron.zone)
        self._heard: SimpleQueue[int] = SimpleQueue()  # of which `put` may be called wherever a signal breaks in; an event's `set` may not
        self._stopping = False
        self._ticking: subprocess.Popen[bytes] | None = None
        self._troubled = False

    def run(self, *, now: bool = False) -> int:
        """Run ticks until a signal comes; its exit code.

        Args:
            now: begin with one, whatever the schedule says.
        """
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # what it would warn of is told below
        for number in STOPS:
            signal.signal(number, lambda heard, _frame: self._heard.put(heard))
        self._scheduler.add_listener(lambda _: tell("a run is left out: the one before is still at work"), EVENT_JOB_MAX_INSTANCES)
        self._job = self._scheduler.add_job(
            self._tick, self.cron, coalesce=True, max_instances=1, misfire_grace_time=None, next_run_time=self._first(now)
        )
        self._scheduler.start()
        self._say_next()
        while True:
            self._beats()
            try:
                signum = self._heard.get(timeout=HEARTBEAT)
                break
            except Empty:
                self._look_at_the_clock()
        self._stopping = True
        self._scheduler.shutdown(wait=False)
        self._end_tick()
        with suppress(OSError):
            self.beat.unlink(missing_ok=True)
        return 128 + signum

    def _first(self, now: bool) -> datetime:
        """When the first tick is due."""
        moment = datetime.now(UTC)
        last = self._last(moment)
        missed = self.cron.following(last) if last else None
        if last is None:
            self._remember(moment)  # from now on it counts what is missed
        if missed is not None and missed <= moment:
            tell(f"the run of {written(missed)} was missed; it is made up for now, once")
            return moment
        return moment if now else self.cron.get_next_fire_time(None, moment) or moment

    def _last(self, moment: datetime) -> datetime | None:
        """When a tick was started last, by any schedule of this workspace; not in the future, where a clock was wrong."""
        try:
            return min(datetime.fromisoformat(json.loads(self.memory.read_text())["last"]), moment)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, moment: datetime) -> None:
        self._write(self.memory, {"line": self.cron.line, "zone": str(self.cron.zone), "last": moment.isoformat()})

    def _tick(self) -> None:
        """One tick, in another process; whatever becomes of it, this returns."""
        self._remember(datetime.now(UTC))
        command = [sys.executable, "-c", "from slimline.cli import main; main()", "--workspace", str(self.paths.root), "rerun"]
        try:
            self._ticking = subprocess.Popen(command, start_new_session=True)
            if self._stopping:
                self._ticking.terminate()
            code = self._ticking.wait()
        except OSError as error:  # no memory, no process left
            tell(f"a run could not be started: {error}")
        else:
            tell(f"the run ended {MEANING.get(code, 'badly')} ({code})")
        finally:
            self._ticking = None
        if not self._stopping:
            self._say_next()

    def _say_next(self) -> None:
        due = max(self._job.next_run_time, datetime.now(self.cron.zone))
        left = timedelta(seconds=round((due - datetime.now(UTC)).total_seconds()))
        tell(f"next run {written(due.astimezone(self.cron.zone))}, in {left}" if left else "a run starts now")

    def _look_at_the_clock(self) -> None:
        """Have what is due run although the clock has jumped: forward it is late by a heartbeat, back it would be late by all of the jump."""
        due = self.cron.following(datetime.now(UTC))
        if due is not None and self._job.next_run_time > due + timedelta(seconds=self.cron.jitter + 1):
            self._job.modify(next_run_time=due)
            tell(f"the clock was set back; next run {written(due)}")
        self._scheduler.wakeup()

    def _beats(self) -> None:
        self._write(self.beat, {"pid": os.getpid(), "beat": time.time(), "next": self._job.next_run_time.isoformat()})

    def _write(self, file: Path, facts: dict[str, object]) -> None:
        """Write `facts` down; where that cannot be, it is said once, and ticks come as they would."""
        try:
            write_json(file, facts)
            self._troubled = False
        except OSError as error:
            if not self._troubled:
                tell(f"{file}: cannot be written ({error.strerror}), so downtime may go unnoticed; make room, or mend its permissions")
            self._troubled = True

    def _end_tick(self) -> None:
        """Have the tick at work end as a signal ends it, and wait for that."""
        if (ticking := self._ticking) is None:
            return
        ticking.terminate()
        try:
            ticking.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            ticking.kill()


def tell(line: str) -> None:
    """Print a line of the schedule's own; where nobody takes it (a full disk, a reader that is gone) the schedule goes on."""
    with suppress(OSError):
        print(f"slimline schedule: {line}", flush=True)
