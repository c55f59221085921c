"""The process that tells MLflow what journals hold: `python -m slimline.tracking.sender SPOOL`.

One at a time; started by whoever has something to send. It ends a while after the last journal, so that the stages of a pipeline share one
(importing MLflow takes seconds). What a store does not take is tried again, later and later, as long as a stage is at work, and at
once when a stage ends. When it is killed, the next one goes on where it was.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from slimline.tracking.journal import LOCK, NEW, OPERATIONS, STATE, at_work, journals, refused, state, taken, without_password
from slimline.tracking.mlflow import Store, is_refusal, problem

LINGER = 60.0
"""Seconds without a journal after which the process ends: stages of one pipeline follow each other faster."""

PAUSES = (2.0, 30.0)
"""Seconds until a store that failed is tried again: the first time, and at most."""

POLL = 0.1
OLD = 3600.0
"""Seconds after which what is no journal yet never becomes one."""
LOCAL = ("store", "end")
"""Operations that no store is told."""
LAST = ("finish", "end")
"""Operations after which nothing comes."""
PART = 200
"""Operations sent together."""


class Journey:
    """A journal on its way to a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: dict[str, Any] = {"offset": 0, **state(folder)}
        with (folder / OPERATIONS).open() as file:
            self.store = json.loads(file.readline())

    def read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What is not sent yet: where each operation ends in the file, and the operation."""
        with (self.folder / OPERATIONS).open("rb") as file:
            file.seek(self.state["offset"])
            end = self.state["offset"]
            for line in file:
                if not line.endswith(b"\n"):  # it is being written, or its writer was killed
                    return
                end += len(line)
                try:
                    yield end, json.loads(line)
                except ValueError:  # the disk was full
                    continue

    def note(self, **changes: Any) -> None:
        self.state |= changes
        aside = self.folder / f"{STATE}.part"  # no more than that: what a crash of the machine loses is sent again
        aside.write_text(json.dumps(self.state))
        aside.replace(self.folder / STATE)

    def leave(self) -> None:
        """All is sent."""
        if "refused" in self.state:
            self.folder.rename(refused(self.folder))
        else:
            # By the name of no journal first: a process that is killed here is not to leave half of one.
            shutil.rmtree(self.folder.rename(self.folder.with_name(f"{NEW}-{self.folder.name}")), ignore_errors=True)


class Sender:
    """Sends the journals of one spool.

    `stores`, `tried` and `pause` are by the stores' addresses and experiments.
    """

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.stores: dict[tuple[str, str], Store] = {}
        self.tried: dict[tuple[str, str], float] = {}
        self.pause: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        """Until there has been no journal for a while, or a store fails and nobody is at work."""
        for left in self.spool.glob(f"{NEW}-*"):  # by a process that was killed before it was a journal, or when it was none any more
            if time.time() - left.stat().st_mtime > OLD:
                shutil.rmtree(left, ignore_errors=True)
        idle = time.monotonic()
        while self.spool.exists():
            waiting = [Journey(folder) for folder in journals(self.spool)]
            moved = [self._send(one) for one in waiting]
            if waiting:
                idle = time.monotonic()
                if not any(moved) and not any(at_work(one.folder) for one in waiting):
                    return  # a store that fails, and nobody who would wait for it
            elif time.monotonic() - idle > LINGER:
                return
            if not any(moved):
                time.sleep(POLL)

    def _send(self, one: Journey) -> bool:
        """Send what is new in a journal; whether there was something."""
        key = one.store["uri"], one.store["experiment"]
        live = at_work(one.folder)
        since = time.monotonic() - self.tried.get(key, -1e9)
        ended_meanwhile = not live and not one.state.get("tried_at_end")
        if since < self.pause.get(key, 0.0) and not ended_meanwhile:
            return False
        part = [entry for entry, _ in zip(one.read(), range(PART), strict=False)]
        if not part and not live:  # its writer was killed
            part = [(one.state["offset"], {"operation": "finish", "status": "KILLED", "last": False, "time": round(time.time() * 1000)})]
        moved = False
        for operation, group in groupby(part, key=lambda entry: entry[1]["operation"]):
            entries = list(group)
            store = self.stores.get(key)
            try:
                if operation not in LOCAL:
                    store = store or self.stores.setdefault(key, Store(*key))
                    store.send(operation, [facts for _, facts in entries], one.folder, one.state, live=live)
            except Exception as error:  # any store, any driver, any network
                if store is None or operation == "open" or not is_refusal(error):
                    self.tried[key] = time.monotonic()
                    self.pause[key] = min(2 * self.pause.get(key, PAUSES[0] / 2), PAUSES[1])
                    one.note(problem=f"MLflow at {without_password(key[0])} {problem(error)}", tried=time.time(), tried_at_end=not live)
                    return moved
                one.state.setdefault("refused", " ".join(str(error).split())[:200])
            self.pause.pop(key, None)
            one.note(offset=entries[-1][0], problem=None)
            moved = True
            if operation in LAST:
                one.leave()
                return True
        return moved


def serve(spool: Path) -> None:
    """Send the journals of `spool`, unless another process does."""
    with (spool / LOCK).open("a") as lock:
        if taken(lock):
            Sender(spool).run()


if __name__ == "__main__":
    if sys.argv[2:]:  # the lock, held, which lives as long as this process
        Sender(Path(sys.argv[1])).run()
    else:
        serve(Path(sys.argv[1]))
    os._exit(0)  # without waiting for threads of MLflow's
