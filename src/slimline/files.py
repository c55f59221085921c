"""How a file comes to be: content is written aside, flushed to disk, then renamed into place, so nobody meets half a file."""

import csv
import fcntl
import glob
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

FORGOTTEN = 3600.0
"""Seconds without a change after which what is half written was left by a kill."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; it takes its place at `path` when the block ends well, and goes when it does not.

    Raises:
        OSError: no permission, no space; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > FORGOTTEN:
                left.unlink()
    aside = path.with_name(f".{path.name}.{token_hex(4)}.part")  # containers that share a folder have the same process numbers
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never a part."""
    with whole_file(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON in its own key order, with a newline at the end; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write `rows` as CSV under a header of `columns`, fractions with six digits."""
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    write_text(path, text.getvalue())


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; it takes `target`'s place when the block ends well, and goes when it does not.

    Where a process was killed in between, the next one finds `target` as it was. Several may be at it: each one's folder is whole.
    A link is not replaced: the folder that it leads to is.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _tidy(target)
    own = token_hex(4)
    aside = target.with_name(f".{target.name}.{own}.part")
    replaced = target.with_name(f".{target.name}.{own}.old.part")
    aside.mkdir()
    lock = os.open(aside, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # says that its maker lives; it goes with the process
        yield aside
        for file in aside.rglob("*"):
            _flush(file)
        if target.exists():
            target.replace(replaced)
        aside.replace(target)
        _flush(target.parent)
    finally:
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
        os.close(lock)


def _tidy(target: Path) -> None:
    """Bring back what a killed process had moved away from `target`, and remove what it left half-made."""
    for left in target.parent.glob(f".{target.name}.*.part"):
        if left.name.endswith(".old.part"):
            if target.exists():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.replace(target)
        elif not _alive(left):
            shutil.rmtree(left, ignore_errors=True)


def _alive(folder: Path) -> bool:
    """Whether the process that makes `folder` still runs."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _flush(path: Path) -> None:
    """Have the operating system put a file or a folder on its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
