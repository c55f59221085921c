"""Well-known data sets from where their makers put them, checked by SHA-256, in a form that a source reads.

Checksums and lengths: TensorFlow Datasets, `url_checksums/{mnist,fashion_mnist,cifar10}.txt`. Mirrors: torchvision's for MNIST, Zalando
Research's own repository for Fashion-MNIST.
"""

import hashlib
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
import requests
import urllib3
from numpy.lib import format as npy
from tqdm import tqdm

from slimline.data.sources.arrays import HEADERS
from slimline.errors import SlimlineError
from slimline.files import whole_file
from slimline.paths import Paths
from slimline.registry import suggestion

CHUNK = 2**20
"""Bytes of an answer in memory at once."""
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
class Files:
    """Files that are kept as they are, in a folder called as the data set.

    Args:
        mirrors: addresses of folders that hold `files`, in the order in which they are asked.
    """

    mirrors: tuple[str, ...]
    files: tuple[File, ...]

    suffix: ClassVar[str] = ""

    def bring(self, target: Path, aside: Path) -> None:
        """Download into `aside` what the folder `target` lacks, then move it there.

        Raises:
            SlimlineError: as `fetch`.
            OSError: no room.
        """
        _refuse_unless(target, "folder")
        missing = [file for file in self.files if not _is_there(file, target / file.name)]
        for file in missing:
            _download(file, self.mirrors, aside / file.name)
        target.mkdir(exist_ok=True)
        for file in missing:
            (aside / file.name).replace(target / file.name)


@dataclass(frozen=True)
class Arrays:
    """One file whose images and labels, all uint8, are kept in an `.npz` file called as the data set.

    Args:
        mirrors: addresses of folders that hold `file`, in the order in which they are asked.
        convert: from the file that was fetched to arrays by name.
        shapes: of these arrays, by name.
        classes: what the array `classes`, which is there besides, holds.
    """

    mirrors: tuple[str, ...]
    file: File
    convert: Callable[[Path], Mapping[str, np.ndarray]]
    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...]

    suffix: ClassVar[str] = ".npz"

    def bring(self, target: Path, aside: Path) -> None:
        """Download into `aside` and make `target` of it, unless that is there.

        Raises:
            SlimlineError: as `fetch`.
            OSError: no room.
        """
        _refuse_unless(target, "file")
        if target.exists():
            return self._refuse_another(target)
        _download(self.file, self.mirrors, aside / self.file.name)
        arrays = self.convert(aside / self.file.name)
        with whole_file(target) as opened:
            np.savez(opened, allow_pickle=False, **arrays)  # same arrays, same bytes: it writes no time of day, and does not compress

    def _refuse_another(self, path: Path) -> None:
        """Refuse a damaged file, and one whose arrays differ from the data set's in name, shape, type or classes."""
        try:
            with ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise BadZipFile(f"{damaged} has another checksum than when it was written")
                difference = self._difference(archive)
        except (BadZipFile, OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError, KeyError) as error:
            raise SlimlineError(f"{path}: it is damaged or no .npz file ({_reason(error)}); move it away to fetch it anew") from error
        if difference:
            raise SlimlineError(f"{path}: it is another file than the data set's ({difference}); move it away to fetch the right one")

    def _difference(self, archive: ZipFile) -> str:
        """The first difference between the arrays of `archive` and the data set's; nothing where there is none."""
        names = sorted(name.removesuffix(".npy") for name in archive.namelist())
        if names != sorted({*self.shapes, "classes"}):
            return f"it holds {', '.join(names)[:200] or 'nothing'}; not {', '.join(sorted({*self.shapes, 'classes'}))}"
        for name, shape in self.shapes.items():
            with archive.open(f"{name}.npy") as member:
                found, _, dtype = HEADERS[npy.read_magic(member)](member)
            if (found, dtype) != (shape, np.uint8):
                return f"{name} is {_shown(found)} of {dtype}; not {_shown(shape)} of uint8"
        with archive.open("classes.npy") as member:
            classes = npy.read_array(member, allow_pickle=False)
        return "" if classes.tolist() == list(self.classes) else f"its classes are {', '.join(map(str, classes.reshape(-1)))[:200]}"


@dataclass(frozen=True)
class Dataset:
    """What is fetched, and what is told then.

    Args:
        content: knows what is brought from where.
        advice: lines of the block `data` in params.yaml; `{path}` is where the data set lies.
    """

    content: Files | Arrays
    advice: tuple[str, ...]


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


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATASETS: Mapping[str, Dataset] = {
    "mnist": Dataset(
        Files(
            mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
            files=_idx_files(
                ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
                ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
                ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
                ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
            ),
        ),
        advice=("source: {{name: idx, path: {path}}}", "size: 28", "channels: 1"),
    ),
    "fashion_mnist": Dataset(
        Files(
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
        Arrays(
            mirrors=("https://www.cs.toronto.edu/~kriz/",),
            file=File("cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),
            convert=cifar10_arrays,
            shapes={"x_train": (50_000, 3, 32, 32), "y_train": (50_000,), "x_test": (10_000, 3, 32, 32), "y_test": (10_000,)},
            classes=CIFAR10,
        ),
        advice=("source: {{name: arrays, path: {path}}}", "size: 32", "channels: 3"),
    ),
}


def datasets() -> tuple[str, ...]:
    """The names that `fetch` takes."""
    return tuple(DATASETS)


def fetch(name: str, paths: Paths, *, table: Mapping[str, Dataset] = DATASETS) -> str:
    """Bring the data set `name` into the folder `paths.raw`, unless it is there; returns the lines to write into params.yaml.

    Everything is fetched and checked in a folder aside, and then renamed.

    Raises:
        SlimlineError: no such data set, no mirror that gives the right file, no room, or another file in the place of one of its files.
    """
    if name not in table:
        raise SlimlineError(f"fetch: found '{name}'; {suggestion(name, sorted(table))}")
    dataset = table[name]
    target = paths.raw / f"{name}{dataset.content.suffix}"
    try:
        paths.raw.mkdir(parents=True, exist_ok=True)
        for left in paths.raw.glob(f".fetch.{name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(dir=paths.raw, prefix=f".fetch.{name}.") as aside:
            dataset.content.bring(target, Path(aside))
    except OSError as error:
        raise SlimlineError(f"{target}: cannot be written ({error.strerror or error}); make room or mend its folder's permissions") from error
    place = target.relative_to(paths.root).as_posix()
    return "\n".join(["data:", *(f"  {line.format(path=place)}" for line in dataset.advice)])


def _refuse_unless(path: Path, kind: Literal["file", "folder"]) -> None:
    """Refuse a folder in the place of a file, or a file in the place of a folder."""
    found = "folder" if path.is_dir() else "file"
    if path.exists() and found != kind:
        raise SlimlineError(f"{path}: it is a {found}, where a {kind} is to come; move it away")


def _is_there(file: File, path: Path) -> bool:
    _refuse_unless(path, "file")
    if not path.exists():
        return False
    if (found := _sha256(path)) != file.sha256:
        raise SlimlineError(f"{path}: it is another file (SHA-256 {found[:12]}…) than the data set's; move it away to fetch the right one")
    return True


def _shown(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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
                if _size(path) < file.size:  # else it broke off after the last byte, and nothing is left to ask for
                    continue
            if (found := _sha256(path)) == file.sha256:
                return
            reasons[url] = f"another file than expected, of {_size(path)} bytes and SHA-256 {found[:12]}…"
            path.unlink()
    told = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    raise SlimlineError(f"cannot fetch {file.name}: {told}; check the network or try later")


def _continue(url: str, file: File, path: Path, bar: tqdm) -> None:
    """Append to `path` what it lacks of the file at `url`; a server that cannot continue starts anew."""
    have = _size(path)
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
