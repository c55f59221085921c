"""Whether a container does what it is there for, as its health check asks every so often: so nothing that takes long is imported here."""

import json
import os
import socket
import time
from pathlib import Path

from slimline.errors import SlimlineError
from slimline.paths import Paths

UNHEARD = 60.0
"""Seconds without a heartbeat after which a schedule counts as dead."""


def beat_of(paths: Paths) -> Path:
    """Where the schedule of this machine, or container, says that it lives."""
    return paths.scratch / "rerun" / "schedules" / f"{socket.gethostname()}.json"


def health(paths: Paths, *, schedule: bool) -> str:
    """What there is to say of a workspace in which all is well.

    Args:
        schedule: whether one has to run on this machine.

    Raises:
        SlimlineError: the workspace cannot be written, or a schedule has not been heard of for too long.
    """
    if not os.access(paths.root, os.W_OK | os.X_OK):
        raise SlimlineError(f"{paths.root}: cannot be written by user {os.getuid()}; give it to that user (chown), or run as its owner (--user)")
    file = beat_of(paths)
    try:
        facts = json.loads(file.read_text())
        age, due = time.time() - facts["beat"], str(facts["next"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if schedule:
            raise SlimlineError(f"{paths.root}: no schedule runs on this machine; slimline schedule starts one") from error
        return f"{paths.root} can be written; no schedule runs on this machine"
    if not age <= UNHEARD:  # so put, NaN is refused too
        raise SlimlineError(f"{file}: the schedule was last heard of {age:.0f} s ago; end it and start it anew")
    return f"next run {due}"
