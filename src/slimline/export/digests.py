"""`model.sha256`: the SHA-256 of each file of a model's folder, in the format of coreutils' `sha256sum`, which can check it too."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from slimline.errors import SlimlineError
from slimline.paths import ModelFolder


def digests(files: Iterable[Path]) -> bytes:
    """A line a file, by name."""
    return "".join(f"{_sha256(file)}  {file.name}\n" for file in sorted(files)).encode()


def check_digests(folder: ModelFolder, files: Iterable[Path]) -> None:
    """See to it that `files` are as they were written. Where no digests lie beside them, as beside a file that was shipped alone, nothing is known.

    Raises:
        SlimlineError: a file that was altered, or that the digests do not name.
    """
    if not folder.digests.exists():
        return
    lines = folder.digests.read_bytes().splitlines()
    for file in files:
        if file.exists() and f"{_sha256(file)}  {file.name}".encode() not in lines:
            raise SlimlineError(f"{file}: truncated or altered (its digest in {folder.digests.name} is another); run the stage that makes it again")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
