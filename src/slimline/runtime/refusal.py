"""How a command ends on bad input: one line on standard error, exit code 2."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slimline.errors import SlimlineError

BAD_INPUT = 2
"""Exit code of a refusal."""

LATER = 3.0
"""Seconds: longer than a launcher takes to end the others when one has failed."""

REFUSALS = "SLIMLINE_REFUSALS"
"""Descriptor of the pipe by which `launch` wants to be told: of several processes that refuse the same it prints one line."""

REFUSED = "SLIMLINE_REFUSED"
"""File that `slimline repro` wants to see when a stage has refused, since DVC does not pass on exit codes."""

SYSTEM = (OSError, sqlite3.OperationalError)
"""Refusals of the operating system. DVC keeps what it has hashed in databases, whose errors are their own."""


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a SlimlineError, or a refusal of the operating system (no permission, no space), into that ending."""
    try:
        yield
    except SlimlineError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        print("slimline: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except SYSTEM as error:
        _refuse(f"{reason(error)}; mend it and run the command again")


def reason(error: OSError | sqlite3.OperationalError, place: object = "a file") -> str:
    """Where and why; `place` where `error` does not say."""
    if isinstance(error, sqlite3.OperationalError):
        return f"DVC's database of hashes: {error}"
    return f"{error.filename or place}: {error.strerror or error}"  # numpy tells a short write without both; the disk is full then


def _refuse(message: str) -> None:
    line = " ".join(message.split())
    if REFUSALS in os.environ:
        os.write(int(os.environ[REFUSALS]), f"{line}\n".encode())
    else:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(LATER)  # another launcher: where all processes refuse the same, the first one says it, and the others are ended meanwhile
        print(f"slimline: {line}", file=sys.stderr)
    if REFUSED in os.environ:
        Path(os.environ[REFUSED]).touch()
    sys.exit(BAD_INPUT)
