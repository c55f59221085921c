"""What the programs of a tick print: shown as ever, and kept in a file, from which the reason of a failure is taken."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL = 0.2
CHUNK = 1 << 16
OURS = "slimline: "
"""How the lines begin by which our programs refuse."""


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Within the block all that this process and those it starts print goes to `file`, and from there to where it went before.

    A file and no pipe: whoever is left behind may go on printing, and nobody waits for its end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    over = threading.Event()
    with file.open("wb", buffering=0) as target, file.open("rb", buffering=0) as source:
        shower = threading.Thread(target=_show, args=(source.fileno(), before[0], over), daemon=True)
        for number in (1, 2):
            os.dup2(target.fileno(), number)
        shower.start()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for old, number in zip(before, (1, 2), strict=True):
                os.dup2(old, number)
            over.set()
            shower.join()
            for old in before:
                os.close(old)


def _show(source: int, target: int, over: threading.Event) -> None:
    """Copy what appears in `source` to `target`, until it is `over` and nothing is left."""
    while True:
        last = over.wait(POLL)
        while chunk := os.read(source, CHUNK):
            try:
                while chunk:
                    chunk = chunk[os.write(target, chunk) :]
            except OSError:  # nobody looks any more; the file has it
                return
        if last:
            return


def cause(file: Path) -> str:
    """The line of `file` that says best why it ended badly: our last refusal, else DVC's last error, else the last line."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for beginning in (OURS, "ERROR: "):
        if found := [line.removeprefix(beginning) for line in lines if line.startswith(beginning)]:
            return found[-1]
    return lines[-1] if lines else "it printed nothing"
