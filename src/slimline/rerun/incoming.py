"""What a tick takes in before it looks at the pipeline: code, imported data, images that somebody copies here."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from slimline.errors import SlimlineError
from slimline.rerun.settings import Data
from slimline.runtime.reproduction import end_with_parent

LONGEST = 6 * 3600.0
"""Seconds for a program that talks to a network. What `dvc push` has sent it does not send again."""


PASSWORD_OF = re.compile(r"//[^/@\s]+@")
"""In addresses, which programs repeat in what they complain of."""


def pull(root: Path) -> bool:
    """Bring the branch of `root` up to date; whether the code is another one now.

    Raises:
        SlimlineError: git could not; the code is as it was.
    """
    before = _output(["git", "rev-parse", "HEAD"], root, "code.pull")
    _output(["git", "pull", "--quiet", "--ff-only"], root, "code.pull")
    return _output(["git", "rev-parse", "HEAD"], root, "code.pull") != before


def update(root: Path, files: Sequence[str]) -> None:
    """Bring imported data up to date, those that the `.dvc` files name.

    Raises:
        SlimlineError: DVC could not; the data are as they were.
    """
    _output([sys.executable, "-m", "dvc", "update", "--quiet", *files], root, "data.update")


def push(root: Path) -> None:
    """Send what DVC's cache has to the default remote.

    Raises:
        SlimlineError: it could not be sent, or not all of it.
    """
    _output([sys.executable, "-m", "dvc", "push", "--quiet"], root, "push")


def _output(command: Sequence[str], root: Path, setting: str) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # nobody is there to answer
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # a tick that is killed leaves none that holds DVC's lock
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlimlineError(f"{setting}: {error}") from error
    if done.returncode:
        said = PASSWORD_OF.sub("//…@", (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1])
        raise SlimlineError(
            f"{setting}: {Path(command[0]).name if command[0] != sys.executable else 'dvc'} ended with {done.returncode}: {said[:300]}"
        )
    return done.stdout


def settle(place: Path, settings: Data) -> bool:
    """Wait until nothing is written to `place`, a file or folder, for a while; whether it came to that.

    Files that appear while they are hashed would cost the tick, and half a file would be learned from.
    """
    deadline = time.monotonic() + settings.patience_seconds
    stamps = list(_stamps(place))
    age = time.time() - max((one[2] / 1e9 for one in stamps), default=0.0)
    if age > settings.quiet_seconds:  # a file from the future has a negative age, and is looked at twice
        return True
    while time.monotonic() < deadline:
        time.sleep(settings.quiet_seconds)
        before, stamps = stamps, list(_stamps(place))
        if before == stamps:
            return True
    return False


def _stamps(place: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and last change of each file at `place`; the change of its entry, since copies may keep the times of what they copy."""
    for folder, folders, names in os.walk(place) if place.is_dir() else [(str(place.parent), [], [place.name])]:
        folders.sort()
        for name in sorted(names):
            try:
                status = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118  # a million of them
            except OSError:
                continue  # it went meanwhile: the next look finds other files
            yield os.path.join(folder, name), status.st_size, status.st_ctime_ns  # noqa: PTH118
