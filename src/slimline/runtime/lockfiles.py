"""dvc.lock, which DVC writes in place: a kill at that moment leaves half of it, and then no command of DVC reads the pipeline any more."""

import time
from contextlib import suppress
from pathlib import Path

from slimline.files import write_bytes
from slimline.paths import Paths

PAUSE = 2.0
"""Seconds in which a file that somebody else is writing looks otherwise."""

CONFLICT = b"<<<<<<< "
"""Where git has left both sides of a merge no kill was at work: which side is meant is for people to say, and DVC says what is wrong."""


def mend(root: Path) -> list[str]:
    """Keep a copy of each dvc.lock of the repository `root` that can be read, and put it in the place of one that cannot, which is kept too.

    Whoever calls this sees to it that nobody runs the pipeline. Stages that ended since the copy was taken are stale then; DVC does not run
    them again, but takes what they made from its cache.

    Returns:
        What was done about files that could not be read, in words.
    """
    told = []
    for lock in (*root.glob("dvc.lock"), *root.glob("*/dvc.lock")):
        copy, content = Paths(root).scratch / "locks" / lock.relative_to(root), lock.read_bytes()
        if copy.exists() and copy.read_bytes() == content:
            continue
        if _whole(lock):
            with suppress(OSError):  # no room: it costs a run of DVC, if it comes to that
                write_bytes(copy, content)
            continue
        if CONFLICT in content:
            continue
        time.sleep(PAUSE)
        if lock.read_bytes() != content:
            continue
        half = copy.with_name(f"{copy.name}.half")
        write_bytes(half, content)
        if copy.exists():
            write_bytes(lock, copy.read_bytes())
        else:
            lock.unlink()
        told.append(
            f"{lock}: cannot be read, as where DVC was ended while it wrote that; it is as it was before, what was made since comes from DVC's "
            f"cache, and what stood there is {half}"
        )
    return told


def _whole(lock: Path) -> bool:
    """Whether DVC can read `lock`."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    try:
        load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except (DvcException, ValueError):
        return False
    return True
