"""What a container does first: bring the code of the workspace, a volume, up to that of the image; then become the command.

A workspace that is a clone of somebody's own (it has a .git) is theirs and left alone. In another one the code is the image's: it is
replaced when the image is another one, and what is the user's (parameters, settings, data, DVC's configuration) is laid down once.
Standard library alone, and no import of ours: whatever the workspace holds, this starts.
"""

import configparser
import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path

IMAGE = Path("/opt/slimline")
CODE = ("src", "pipelines", "dvc.yaml", "pyproject.toml", "requirements.lock", ".dvcignore")
"""Of the image's files, those that a new image replaces."""

BUSY = 4
"""Exit code where another container is at work with other code, as that of `slimline rerun`."""


def prepare(image: Path, workspace: Path) -> str:
    """Make `workspace` one in which the code of `image` runs; what was done, in words, nothing where nothing was.

    Raises:
        BlockingIOError: other code is at work there.
        OSError: it cannot be written.
    """
    if (workspace / ".git").exists():
        return ""
    scratch = workspace / ".slimline"
    scratch.mkdir(exist_ok=True)
    marker, digest = scratch / "image", digest_of(image)
    with (scratch / "image.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # containers that start together
        if marker.exists() and marker.read_text() == digest:
            return ""
        (scratch / "rerun").mkdir(exist_ok=True)
        with (scratch / "rerun" / "lock").open("a") as tick, (scratch / "repro.lock").open("a") as work:
            for held in (tick, work):  # a tick pulls, judges and pushes beside the pipeline's run
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in image.iterdir():
                if file.name in CODE:
                    replace(file, workspace / file.name)
                else:
                    lay_down(file, workspace / file.name)
            without_git(workspace / ".dvc" / "config.local")
            marker.write_text(digest)
    return "the workspace has the code of this image"


def digest_of(image: Path) -> str:
    """Of the names and bytes of all code."""
    digest = hashlib.sha256()
    for name in CODE:
        place = image / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(image)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def replace(source: Path, target: Path) -> None:
    """Put a copy of `source` at `target`, whole: what is no longer in it goes."""
    aside = target.with_name(f".{target.name}.new")
    if aside.is_dir():
        shutil.rmtree(aside)
    if source.is_dir():
        shutil.copytree(source, aside)
        if target.exists():
            shutil.rmtree(target)
    else:
        shutil.copyfile(source, aside)
    aside.replace(target)


def lay_down(source: Path, target: Path) -> None:
    """Copy of `source` what is not at `target`."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for file in source.iterdir():
            lay_down(file, target / file.name)
    elif not target.exists():
        replace(source, target)


def first(error: OSError) -> tuple[str | None, str]:
    """Where and why; of the many that copying a folder collects, the first."""
    if isinstance(error, shutil.Error):
        _, place, why = error.args[0][0]
        return str(place), str(why)
    return error.filename, str(error.strerror)


def without_git(file: Path) -> None:
    """Have DVC work where no git is."""
    config = configparser.ConfigParser()
    config.read(file)
    if not config.has_section("core"):
        config.add_section("core")
    config["core"]["no_scm"] = "true"
    with file.open("w") as target:
        config.write(target)


def main() -> None:
    workspace = Path.cwd()
    try:
        if told := prepare(IMAGE, workspace):
            print(f"slimline: {told}", file=sys.stderr, flush=True)
    except BlockingIOError:
        print(f"slimline: {workspace}: another container is at work there with other code; wait for it, or stop it", file=sys.stderr)
        sys.exit(BUSY)
    except OSError as error:
        who = f"user {os.getuid()}:{os.getgid()}"
        cure = f"give the volume to {who} (chown), run as its owner (--user), or make room"
        place, why = first(error)
        print(f"slimline: {place or workspace}: {why}; {cure}", file=sys.stderr)
        sys.exit(2)
    command = sys.argv[1:] or ["slimline", "repro"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
