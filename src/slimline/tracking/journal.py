"""The record of a stage's run as the stage writes it: into a journal on disk, and nothing else.

Another process, `tracking.sender`, tells MLflow what journals hold, while the stage works and after it. So a stage neither imports MLflow
(seconds a stage) nor waits for a server, and what a server does not take now lies there until it does: the next stage, or `slimline sync`,
sends it.

A journal is a folder: `operations.jsonl`, one operation a line; `files/`, copies of what is to be an artifact; `state.json`, where the
sender keeps how far it is. Every operation may be sent twice and counts once.
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar
from urllib.parse import urlsplit, urlunsplit

from slimline.tracking import Status, flattened

OPERATIONS, FILES, STATE = "operations.jsonl", "files", "state.json"
LOCK, LOG = "sender.lock", "sender.log"
"""In the spool: held by the one process that sends; what it complains of."""

NEW = ".new"
"""How the names of folders begin that are no journals yet."""

LONGEST_PARAM = 6000
"""MLflow refuses longer values."""

PATIENCE: Mapping[Status, float] = {"FINISHED": 60.0, "FAILED": 10.0, "KILLED": 2.0}
"""Seconds that the end of a stage waits for its journal to be sent; a signal leaves little."""

POLL = 0.05
STARTS = 2
"""How often a sender is started that ends without sending."""

SQLITE = "sqlite:///"

Method = TypeVar("Method", bound=Callable[..., None])


@dataclass(frozen=True)
class Opening:
    """Which run a journal is of.

    Args:
        uri: MLflow's store; environment and relative paths already resolved.
        experiment: name; created where it does not exist.
        stage: name of the stage.
        execution: digest that names the pipeline execution.
        fingerprint: digest of what the stage depends on.
        workspace: names the folder in which at most one process at a time is at this stage.
        commit: git commit, or None outside of git.
        tags: further facts, of the stage's run and of its parent.
    """

    uri: str
    experiment: str
    stage: str
    execution: str
    fingerprint: str
    workspace: str = ""
    commit: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def _forgiving(method: Method) -> Method:
    """A journal that cannot be written (no space, no permission) is told once, on standard error, and ends the recording, never the stage."""

    @functools.wraps(method)
    def attempt(self: "Journal", *args: Any, **kwargs: Any) -> None:
        if self.broken:
            return
        try:
            method(self, *args, **kwargs)
        except (OSError, ValueError) as error:
            self.broken = True
            print(f"slimline: what is to go to MLflow cannot be kept ({_line(error)}); the stage goes on unrecorded", file=sys.stderr)

    return attempt  # type: ignore[return-value]


class Journal:
    """The journal of one stage's run, open for writing.

    Args:
        spool: folder of all journals.
        largest_artifact: bytes; a larger file is recorded by reference.
    """

    def __init__(self, spool: Path, opening: Opening, *, largest_artifact: int) -> None:
        self.broken = False
        self._spool, self._opening, self._largest_artifact = spool, opening, largest_artifact
        self._copies = 0
        self._file: TextIO | None = None  # until it is opened
        self._open()

    @_forgiving
    def _open(self) -> None:
        self._folder, self._file = _new(self._spool, self._opening.stage)
        self._write("store", uri=self._opening.uri, experiment=self._opening.experiment)
        self._write("open", **{key: value for key, value in asdict(self._opening).items() if key not in ("uri", "experiment")})
        self._folder = _placed(self._folder)
        start_sender(self._spool)

    def _write(self, operation: str, **facts: Any) -> None:
        line = json.dumps({"operation": operation, "time": round(time.time() * 1000), **facts}, default=str)
        self._opened.write(f"{line}\n")
        self._opened.flush()  # to the operating system: a killed process loses nothing

    @_forgiving
    def params(self, values: Mapping[str, Any]) -> None:
        flat = {name: str(value) for name, value in flattened(values).items()}
        if long := {name: value for name, value in flat.items() if len(value) > LONGEST_PARAM}:
            print(
                f"slimline: MLflow takes {LONGEST_PARAM} characters of a parameter, and {', '.join(long)} has more; the whole stands in the run's "
                "artifact long_parameters.json",
                file=sys.stderr,
            )
            self._copy(json.dumps(long, indent=2).encode(), "long_parameters.json", "")
        self._write("params", values={name: value[:LONGEST_PARAM] for name, value in flat.items()})

    @_forgiving
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self._write("metrics", values={name: float(value) for name, value in values.items()}, step=step)

    @_forgiving
    def tags(self, values: Mapping[str, str]) -> None:
        self._write("tags", values=dict(values))

    @_forgiving
    def artifact(self, path: Path) -> None:
        made = {}
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            folder = file.parent.relative_to(path.parent).as_posix()
            folder = "" if folder == "." else folder
            digest = md5(file)
            made[f"md5.{digest}"] = f"{folder}/{file.name}".removeprefix("/")
            if file.stat().st_size <= self._largest_artifact:
                self._copy(file, file.name, folder)
            else:
                reference = {"path": str(file), "bytes": file.stat().st_size, "md5": digest}
                self._copy(json.dumps(reference, indent=2).encode(), f"{file.name}.reference.json", folder)
        self._write("tags", values=made)

    def _copy(self, content: Path | bytes, name: str, folder: str) -> None:
        self._write("artifact", file=self._kept(content, name), folder=folder)

    def _kept(self, content: Path | bytes, name: str) -> str:
        """The name of a copy in the journal: a stage may be run again before the server takes what it made."""
        self._copies += 1
        place = self._folder / FILES / str(self._copies) / name
        place.parent.mkdir(parents=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            shutil.copyfile(content, place)
        return place.relative_to(self._folder).as_posix()

    @_forgiving
    def dataset(self, name: str, digest: str, facts: Mapping[str, Any]) -> None:
        self._write("dataset", name=name, digest=digest, facts=dict(facts))

    @_forgiving
    def model(self, name: str, onnx: Path, example: Path) -> None:
        if onnx.stat().st_size <= self._largest_artifact:
            self._write("model", name=name, onnx=self._kept(onnx, onnx.name), example=self._kept(example, example.name))

    @_forgiving
    def beside(self, stage: str, fingerprint: str, values: Mapping[str, float]) -> None:
        self._write("beside", stage=stage, fingerprint=fingerprint, values={name: float(value) for name, value in values.items()})

    def finish(self, status: Status, *, last: bool) -> None:
        # A journal that was opened is closed even if something in between could not be written.
        self.broken = self._file is None
        self._finish(status, last)

    @_forgiving
    def _finish(self, status: Status, last: bool) -> None:
        self._write("finish", status=status, last=last)
        self._opened.close()
        if problem := delivered(self._spool, [self._folder], PATIENCE[status]):
            print(f"slimline: {problem}; the record of {self._opening.stage} is kept, and sent by the next stage or slimline sync", file=sys.stderr)

    @property
    def _opened(self) -> TextIO:
        assert self._file is not None, "broken journals are not written"
        return self._file


def link(spool: Path, uri: str, experiment: str, execution: str, stages: Sequence[Mapping[str, Any]]) -> Path:
    """A journal that tells the runs of `stages` what DVC says they made.

    Args:
        stages: of each `stage`, `fingerprint`, `outputs` and `inputs`, the last two paths with md5.
    """
    folder, file = _new(spool, "link")
    lines = [{"operation": "store", "uri": uri, "experiment": experiment}, {"operation": "link", "execution": execution, "stages": list(stages)}]
    with file:
        file.writelines(f"{json.dumps(line)}\n" for line in (*lines, {"operation": "end"}))
    return _placed(folder)


def _new(spool: Path, name: str) -> tuple[Path, TextIO]:
    """A folder that is no journal yet, and its operations, which are locked as long as they are open."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)  # an address may hold a password
    folder = spool / f"{NEW}-{time.time_ns()}-{name}"
    folder.mkdir()
    file = (folder / OPERATIONS).open("a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return folder, file


def _placed(folder: Path) -> Path:
    """`folder` as a journal, which the sender finds from now on."""
    return folder.rename(folder.with_name(folder.name.removeprefix(f"{NEW}-")))


def resolved_uri(uri: str, repository: Path) -> str:
    """`uri`, or MLFLOW_TRACKING_URI where it is set; a relative sqlite path is taken from `repository`.

    So a stage finds the same store from whichever folder it runs.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{repository / uri.removeprefix(SQLITE)}"
    return uri


def without_password(uri: str) -> str:
    """`uri` as it may be shown."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":…@")))


def journals(spool: Path) -> list[Path]:
    """Those that are not sent yet, the oldest first."""
    return sorted(file.parent for file in spool.glob(f"[0-9]*/{OPERATIONS}"))


def at_work(journal: Path) -> bool:
    """Whether its stage is still writing."""
    with (journal / OPERATIONS).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refused(journal: Path) -> Path:
    """Where `journal` lies once it is sent but for what MLflow refused."""
    return journal.with_name(f"refused-{journal.name}")


def state(journal: Path) -> dict[str, Any]:
    """How far the sender is; nothing where it has not begun."""
    try:
        return dict(json.loads((journal / STATE).read_text()))
    except (OSError, ValueError):
        return {}


def start_sender(spool: Path) -> None:
    """Start the process that sends journals, where none is at it.

    It has a session of its own: a signal to the stage's group ends it not, and it ends by itself. It is handed the lock, held already,
    since it takes seconds to come to itself.
    """
    with (spool / LOCK).open("a") as lock:
        if not taken(lock):
            return
        command = [sys.executable, "-m", "slimline.tracking.sender", str(spool), str(lock.fileno())]
        source = str(Path(__file__).parents[2])  # also where this package was found by a path that Python does not hand on
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
        nothing, own = subprocess.DEVNULL, [lock.fileno()]
        with (spool / LOG).open("w") as log:
            subprocess.Popen(command, cwd="/", env=environment, stdin=nothing, stdout=log, stderr=log, start_new_session=True, pass_fds=own)


def taken(lock: TextIO) -> bool:
    """Take the lock of whoever sends, unless another process has it; it is held until every copy of `lock` is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def delivered(spool: Path, waited_for: Sequence[Path], patience: float) -> str:
    """Wait until the journals `waited_for` are sent; why one is not, in words, empty where all are."""
    begun, deadline, starts = time.time(), time.monotonic() + patience, 0
    while waiting := [journal for journal in waited_for if journal.exists()]:
        told = state(waiting[0])
        if told.get("problem") and told["tried"] >= begun:
            return str(told["problem"])
        if time.monotonic() > deadline:
            return f"MLflow has not taken it within {patience:g} seconds"
        with (spool / LOCK).open("a") as lock:
            free = taken(lock)
        if free and starts == STARTS:
            return f"what sends to MLflow does not run ({_last_line(spool / LOG)})"
        if free:
            starts += 1
            start_sender(spool)
        time.sleep(POLL)
    for journal in waited_for:
        if refused(journal).exists():
            return f"MLflow refused a part ({state(refused(journal)).get('refused')}), which lies in {refused(journal)}"
    return ""


def _last_line(file: Path) -> str:
    try:
        return _line(file.read_text().strip().rpartition("\n")[2])
    except OSError:
        return "no log"


def md5(file: Path) -> str:
    """As DVC has it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
