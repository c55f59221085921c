"""Well-known data sets from where their makers put them, checked by SHA-256, in a form that a source reads.

Checksums and lengths: TensorFlow Datasets, `url_checksums/{mnist,fashion_mnist,cifar10}.txt`. Mirrors: torchvision's for MNIST, Zalando
Research's own repository for Fashion-MNIST.
"""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import numpy as np
import requests
import urllib3
from tqdm import tqdm

from slimline.errors import SlimlineError
from slimline.files import whole_file
from slimline.registry import suggestion

CHUNK = 2**20
TIME_OUT = (10.0, 60.0)
"""Seconds to wait for a connection, and then for the next bytes."""
ROUNDS = 2
"""How often every mirror is asked."""


@dataclass(frozen=True)
class File:
    """One file of a data set: its name, the SHA-256 of its content in hexadecimal digits, and its length in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """What is fetched, and what becomes of it.

    Args:
        mirrors: addresses of folders that hold `files`, in the order in which they are asked.
        files: they are put in a folder called as the data set, or, with `convert`, made into one `.npz` file called so.
        convert: from the one file that was fetched to arrays by name.
        advice: lines of the block `data` in params.yaml; `{path}` is where the data set lies.
    """

    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    advice: tuple[str, ...]
    convert: Callable[[Path], Mapping[str, np.ndarray]] | None = None


def cifar10_arrays(archive: Path) -> dict[str, np.ndarray]:
    """CIFAR-10's binary version as the source `arrays` reads it: uint8 `n 3 32 32`, labels `n`, and the names of classes.

    A record is the label's byte and 3072 of red, green and blue, row by row (cs.toronto.edu/~kriz/cifar.html). It is in memory
    as a whole, for a moment twice: some 350 MB.

    Raises:
        SlimlineError: an archive of other content.
    """
    batches = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    try:
        with tarfile.open(archive, "r:gz") as opened:

            def content(name: str) -> bytes:
                member = opened.extractfile(f"cifar-10-batches-bin/{name}")
                return b"" if member is None else member.read()

            arrays = {"classes": np.array(content("batches.meta.txt").decode().split())}
            for split, names in batches.items():
                records = np.frombuffer(b"".join(map(content, names)), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
                arrays[f"x_{split}"], arrays[f"y_{split}"] = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
            return arrays
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError, ValueError) as error:
        raise SlimlineError(f"{archive.name}: it is not CIFAR-10's binary version ({error}); tell us, since its checksum was right") from error


def _idx_files(*files: tuple[str, int]) -> tuple[File, ...]:
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    return tuple(File(name, sha256, size) for name, (sha256, size) in zip(names, files, strict=True))


DATASETS: Mapping[str, Dataset] = {
    "mnist": Dataset(
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        files=_idx_files(
            ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
            ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
            ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
            ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
        ),
        advice=("source: {{name: idx, path: {path}}}", "size: 28", "channels: 1"),
    ),
    "fashion_mnist": Dataset(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        ),
        files=_idx_files(
            ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
            ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
            ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
            ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
        ),
        advice=(
            "source:",
            "  name: idx",
            "  path: {path}",
            "  classes: [T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot]",
            "size: 28",
            "channels: 1",
        ),
    ),
    "cifar10": Dataset(
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files=(File("cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),),
        convert=cifar10_arrays,
        advice=("source: {{name: arrays, path: {path}}}", "size: 32", "channels: 3"),
    ),
}


def datasets() -> tuple[str, ...]:
    """The names that `fetch` takes."""
    return tuple(DATASETS)


def fetch(name: str, raw: Path, *, table: Mapping[str, Dataset] = DATASETS) -> str:
    """Bring the data set `name` into the folder `raw`, unless it is there; returns the lines to write into params.yaml.

    Everything is fetched and checked in a folder aside, and then renamed.

    Raises:
        SlimlineError: no such data set, no mirror that gives the right file, no room, or another file in the place of one of its files.
    """
    if name not in table:
        raise SlimlineError(f"fetch: found '{name}'; {suggestion(name, sorted(table))}")
    dataset = table[name]
    target = raw / (f"{name}.npz" if dataset.convert else name)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=raw, prefix=".fetch.") as aside:
            (_bring_arrays if dataset.convert else _bring_files)(dataset, target, Path(aside))
    except OSError as error:
        raise SlimlineError(f"{target}: cannot be written ({error.strerror or error}); make room or mend its folder's permissions") from error
    return "\n".join(["data:", *(f"  {line.format(path=target.as_posix())}" for line in dataset.advice)])


def _bring_files(dataset: Dataset, target: Path, aside: Path) -> None:
    missing = [file for file in dataset.files if not _is_there(file, target / file.name)]
    for file in missing:
        _download(file, dataset.mirrors, aside / file.name)
    target.mkdir(exist_ok=True)
    for file in missing:
        (aside / file.name).replace(target / file.name)


def _bring_arrays(dataset: Dataset, target: Path, aside: Path) -> None:
    if target.exists():
        return _refuse_damaged(target)
    (file,) = dataset.files
    _download(file, dataset.mirrors, aside / file.name)
    arrays = dataset.convert(aside / file.name)  # type: ignore[misc]
    with whole_file(target) as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]  # same arrays, same bytes: it writes no time of day, and does not compress


def _is_there(file: File, path: Path) -> bool:
    if not path.exists():
        return False
    if (found := _sha256(path)) != file.sha256:
        raise SlimlineError(f"{path}: it is another file (SHA-256 {found[:12]}…) than the data set's; move it away to fetch the right one")
    return True


def _refuse_damaged(path: Path) -> None:
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()
    except BadZipFile as error:
        damaged = str(error)
    if damaged:
        raise SlimlineError(f"{path}: it is damaged ({damaged}); move it away to fetch it anew")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(file: File, mirrors: Sequence[str], path: Path) -> None:
    """Bring `file` to `path`, from the first mirror that has it; what one of them gave before it broke off is kept for the next.

    Raises:
        SlimlineError: none of them gave the right file; each is named with its last reason.
        OSError: no room.
    """
    reasons: dict[str, str] = {}
    with tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None) as bar:  # None: only on a terminal
        for mirror in tuple(mirrors) * ROUNDS:
            url = f"{mirror}{file.name}"
            try:
                _continue(url, file, path, bar)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reasons[url] = _reason(error)
                continue
            if (found := _sha256(path)) == file.sha256:
                return
            reasons[url] = f"another file than expected, of {path.stat().st_size} bytes and SHA-256 {found[:12]}…"
            path.unlink()
    told = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    raise SlimlineError(f"cannot fetch {file.name}: {told}; check the network or try later")


def _continue(url: str, file: File, path: Path, bar: tqdm) -> None:
    """Append to `path` what it lacks of the file at `url`; a server that cannot continue starts anew."""
    have = path.stat().st_size if path.exists() else 0
    # "identity": a server that packs what it sends would have us check other bytes than the file's.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIME_OUT) as response:
        if not response.ok:
            raise requests.HTTPError(f"{response.status_code} {response.reason}")
        continued = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if continued else 0
        bar.n = have
        with path.open("ab" if continued else "wb") as opened:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                opened.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
                if have > file.size:  # an endless answer would fill the disk
                    break
            opened.flush()
            os.fsync(opened.fileno())


def _reason(error: BaseException) -> str:
    """The innermost cause, in a line: "connection refused" rather than the chain of retries around it."""
    while inner := error.__cause__ or error.__context__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None):
        error = inner
    return (getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__)[:200]
