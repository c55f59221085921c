"""How a command ends on bad input: one line on standard error, exit code 2."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slimline.errors import SlimlineError

BAD_INPUT = 2
"""Exit code of a refusal."""


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
    except OSError as error:
        # numpy tells a short write without number or file name; the disk is full then.
        _refuse(f"{error.filename or 'a file'}: {error.strerror or error}; mend it and run the command again")


def _refuse(message: str) -> None:
    print(f"slimline: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)
