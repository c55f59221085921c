import gzip
import hashlib
import io
import re
import resource
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile

import numpy as np
import pytest
from ruamel.yaml import YAML

from slimline.cli import main
from slimline.commands.fetch import WELL_KNOWN
from slimline.data import fetch as module
from slimline.data.fetch import CIFAR10, DATASETS, Arrays, Dataset, File, Files, cifar10_arrays, datasets, fetch
from slimline.data.sources import SOURCES
from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.registry import build, complete

CONTENT = np.random.default_rng(0).bytes(300_000)
Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def ranges(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if not asked:
        return whole(handler, content)
    start = int(asked[1])
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    handler.wfile.write(content[start:])


def cut(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:100_000])
    handler.wfile.flush()
    handler.connection.close()


def cut_unnoticed(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[:100_000])


def wrong(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    whole(handler, content[:-1] + b"?")


def too_long(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    whole(handler, content * 99)


def gone(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_error(404)


def stalled(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.server.stop.wait(5)  # type: ignore[attr-defined]


def broken_after_the_last_byte(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) + 1))
    handler.end_headers()
    handler.wfile.write(content)


def packed_on_the_way(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A server that packs what it sends unless it is asked not to, and calls a .gz file packed."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    body = content if handler.headers.get("Accept-Encoding") == "identity" else gzip.compress(content)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))  # type: ignore[attr-defined]
        _, mirror, name = self.path.split("/")
        self.server.mirrors[mirror](self, self.server.files[name])  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


class Mirrors(ThreadingHTTPServer):
    """A web server whose first folders behave differently."""

    def __init__(self, **mirrors: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mirrors, self.files, self.asked, self.stop = mirrors, {"a.bin": CONTENT, "b.bin": CONTENT[::-1]}, [], threading.Event()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no error here."""

    def table(self, *names: str, addresses: tuple[str, ...] = ()) -> dict[str, Dataset]:
        """The mirrors' files, as they are."""
        return {"stand_in": Dataset(Files(addresses or self._addresses(names), self._listed()), ("source: {{name: idx, path: {path}}}",))}

    def arrays(self, *names: str) -> dict[str, Dataset]:
        """The mirrors' one file, as arrays."""
        shapes = {"x_train": (20, 3, 32, 32), "y_train": (20,), "x_test": (4, 3, 32, 32), "y_test": (4,)}
        content = Arrays(self._addresses(names), *self._listed(), cifar10_arrays, shapes, CIFAR10)
        return {"stand_in": Dataset(content, ("source: {{name: arrays, path: {path}}}",))}

    def _addresses(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{self.server_port}/{name}/" for name in names)

    def _listed(self) -> tuple[File, ...]:
        return tuple(File(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in self.files.items())


@pytest.fixture
def server() -> Iterator[Mirrors]:
    behaviours = (whole, ranges, cut, cut_unnoticed, wrong, too_long, gone, stalled, packed_on_the_way, broken_after_the_last_byte)
    running = Mirrors(**{behaviour.__name__: behaviour for behaviour in behaviours})
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.stop.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    return tmp_path / "data" / "raw"


def refusal(raw: Path, table: dict[str, Dataset]) -> str:
    before = sorted(raw.rglob("*")) if raw.exists() else []
    with pytest.raises(SlimlineError) as error:
        fetch("stand_in", Paths(raw.parents[1]), table=table)
    assert "\n" not in str(error.value)
    assert sorted(raw.rglob("*")) == before
    return str(error.value)


def test_files_come_whole_into_a_folder_and_the_lines_for_params_are_told(server, tmp_path) -> None:
    told = fetch("stand_in", Paths(tmp_path), table=server.table("whole"))
    assert told == "data:\n  source: {name: idx, path: data/raw/stand_in}"
    raw = tmp_path / "data" / "raw"
    assert {file.name: file.read_bytes() for file in (raw / "stand_in").iterdir()} == server.files
    assert [file.name for file in raw.iterdir()] == ["stand_in"]


def test_what_is_there_is_not_fetched_again(server, tmp_path, raw) -> None:
    table = server.table("whole")
    fetch("stand_in", Paths(tmp_path), table=table)
    (raw / "stand_in" / "b.bin").unlink()
    fetch("stand_in", Paths(tmp_path), table=table)
    fetch("stand_in", Paths(tmp_path), table=table)
    assert [path for path, _ in server.asked] == ["/whole/a.bin", "/whole/b.bin", "/whole/b.bin"]


def test_another_file_of_the_same_name_is_not_overwritten(server, raw) -> None:
    (raw / "stand_in").mkdir()
    (raw / "stand_in" / "a.bin").write_bytes(b"my own")
    assert "a.bin: it is another file" in refusal(raw, server.table("whole"))
    assert (raw / "stand_in" / "a.bin").read_bytes() == b"my own"


@pytest.mark.parametrize("first", ["cut", "cut_unnoticed", "wrong", "too_long", "gone"])
def test_the_next_mirror_is_asked_where_one_fails(first, server, tmp_path, raw) -> None:
    fetch("stand_in", Paths(tmp_path), table=server.table(first, "whole"))
    assert (raw / "stand_in" / "a.bin").read_bytes() == CONTENT


def test_what_came_before_a_cut_is_not_fetched_twice(server, tmp_path, raw) -> None:
    fetch("stand_in", Paths(tmp_path), table=server.table("cut", "ranges"))
    assert server.asked[:2] == [("/cut/a.bin", None), ("/ranges/a.bin", "bytes=100000-")]
    assert (raw / "stand_in" / "a.bin").read_bytes() == CONTENT


def test_a_server_that_packs_what_it_sends_changes_nothing(server, tmp_path, raw) -> None:
    fetch("stand_in", Paths(tmp_path), table=server.table("packed_on_the_way"))
    assert (raw / "stand_in" / "a.bin").read_bytes() == CONTENT


REASONS = {
    "cut": "100000 bytes read",
    "cut_unnoticed": "another file than expected, of 100000 bytes",
    "wrong": "another file than expected, of 300000 bytes and SHA-256",
    "too_long": "another file than expected",
    "gone": "404 Not Found",
}


@pytest.mark.parametrize("mirror", REASONS)
def test_a_failure_names_file_address_and_reason_and_leaves_nothing(mirror, server, raw) -> None:
    message = refusal(raw, server.table(mirror))
    assert f"cannot fetch a.bin: http://127.0.0.1:{server.server_port}/{mirror}/a.bin: " in message
    assert REASONS[mirror] in message


def test_a_failure_at_the_last_file_leaves_none_of_them(server, raw) -> None:
    table = server.table("whole")
    server.files["b.bin"] = b"changed since"
    assert "cannot fetch b.bin" in refusal(raw, table)


def test_every_mirror_that_failed_is_named(server, raw) -> None:
    message = refusal(raw, server.table("gone", "wrong"))
    assert "/gone/a.bin: 404 Not Found; http://" in message
    assert "/wrong/a.bin: another file" in message


def test_a_refused_connection_and_an_unknown_host_are_told(server, raw) -> None:
    assert "http://127.0.0.1:9/a.bin: Connection refused" in refusal(raw, server.table(addresses=("http://127.0.0.1:9/",)))
    assert "http://nowhere.invalid/a.bin: " in refusal(raw, server.table(addresses=("http://nowhere.invalid/",)))


def test_a_server_that_falls_silent_is_given_up(server, monkeypatch, raw) -> None:
    monkeypatch.setattr(module, "TIME_OUT", (0.2, 0.2))
    assert "timed out" in refusal(raw, server.table("stalled"))


def test_a_full_disk_is_told_and_nothing_is_left(server, raw) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        message = refusal(raw, server.table("whole"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "stand_in: cannot be written (File too large); make room" in message


def test_a_file_in_the_place_of_the_folder_of_all_data_sets_is_told(server, raw) -> None:
    raw.rmdir()
    raw.write_text("a file")
    assert "cannot be written (File exists)" in refusal(raw, server.table("whole"))


def test_files_and_folders_in_each_others_place_are_told_before_anything_is_fetched(server, raw) -> None:
    (raw / "stand_in").write_text("a file")
    assert "stand_in: it is a file, where a folder is to come" in refusal(raw, server.table("whole"))
    (raw / "stand_in").unlink()
    (raw / "stand_in" / "a.bin").mkdir(parents=True)
    assert "a.bin: it is a folder, where a file is to come" in refusal(raw, server.table("whole"))
    server.files = {"cifar.tar.gz": cifar10_archive()}
    (raw / "stand_in.npz").mkdir()
    assert "stand_in.npz: it is a folder, where a file is to come" in refusal(raw, server.arrays("whole"))
    assert server.asked == []


def test_a_connection_that_breaks_after_the_last_byte_costs_nothing(server, tmp_path, raw) -> None:
    fetch("stand_in", Paths(tmp_path), table=server.table("broken_after_the_last_byte", "ranges"))
    assert server.asked == [("/broken_after_the_last_byte/a.bin", None), ("/broken_after_the_last_byte/b.bin", None)]
    assert (raw / "stand_in" / "a.bin").read_bytes() == CONTENT


def test_a_wrong_file_that_breaks_after_the_last_byte_is_fetched_anew(server, tmp_path, raw) -> None:
    table = server.table("broken_after_the_last_byte", "ranges")
    right, server.files["a.bin"] = server.files["a.bin"], CONTENT[::-1]
    server.mirrors["ranges"] = lambda handler, content: ranges(handler, right if handler.path.endswith("a.bin") else content)
    fetch("stand_in", Paths(tmp_path), table=table)
    assert server.asked[:2] == [("/broken_after_the_last_byte/a.bin", None), ("/ranges/a.bin", None)]


def test_what_a_killed_fetch_left_is_removed_by_the_next_one_of_the_same_data_set(server, tmp_path, raw) -> None:
    for name in (".fetch.stand_in.killed", ".fetch.other.running"):
        (raw / name).mkdir()
        (raw / name / "a.bin").write_bytes(CONTENT)
    fetch("stand_in", Paths(tmp_path), table=server.table("whole"))
    assert sorted(path.name for path in raw.iterdir()) == [".fetch.other.running", "stand_in"]


def test_the_command_writes_below_its_workspace_and_names_the_path_from_there(server, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(module, "fetch", partial(fetch, table=server.table("whole")))
    main(["--workspace", "..", "fetch", "stand_in"])
    assert capsys.readouterr().out == "data:\n  source: {name: idx, path: data/raw/stand_in}\n"
    assert (tmp_path / "data" / "raw" / "stand_in" / "a.bin").is_file()


def test_the_commands_help_names_every_data_set() -> None:
    assert datasets() == WELL_KNOWN


def cifar10_archive(count: int = 4) -> bytes:
    """CIFAR-10's binary version, with `count` images a batch; their first byte is the batch's number, the last of each plane too."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        add("batches.meta.txt", "\n".join([*CIFAR10, "", ""]).encode())
        for number, name in enumerate(("test_batch", *(f"data_batch_{n}" for n in range(1, 6)))):
            add(f"{name}.bin", b"".join(bytes((n,)) + bytes(colour * 40 + number for colour in range(3) for _ in range(1024)) for n in range(count)))
    return content.getvalue()


def test_cifar10_becomes_one_file_that_the_source_arrays_reads(server, tmp_path, raw) -> None:
    server.files = {"cifar.tar.gz": cifar10_archive()}
    table = server.arrays("whole")
    told = fetch("stand_in", Paths(tmp_path), table=table)
    assert [file.name for file in raw.iterdir()] == ["stand_in.npz"]
    items = list(build(SOURCES, YAML(typ="safe").load(told)["data"]["source"], tmp_path))
    assert [item.belongs.split for item in items] == ["train"] * 20 + ["test"] * 4
    assert [item.belongs.label for item in items[:4]] == list(CIFAR10[:4])
    assert items[4].content.shape == (32, 32, 3)
    assert items[4].content[5, 7].tolist() == [2, 42, 82]  # batch 2: red, green, blue
    fetch("stand_in", Paths(tmp_path), table=table)
    assert len(server.asked) == 1


def test_the_same_data_make_the_same_bytes_at_any_time(server, tmp_path, monkeypatch) -> None:
    server.files = {"cifar.tar.gz": cifar10_archive()}
    table = server.arrays("whole")
    fetch("stand_in", Paths(tmp_path / "now"), table=table)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    fetch("stand_in", Paths(tmp_path / "later"), table=table)
    assert Paths(tmp_path / "now").raw.joinpath("stand_in.npz").read_bytes() == Paths(tmp_path / "later").raw.joinpath("stand_in.npz").read_bytes()


def test_a_damaged_file_that_is_there_is_told(server, raw) -> None:
    (raw / "stand_in.npz").write_bytes(b"half")
    server.files = {"cifar.tar.gz": cifar10_archive()}
    assert "stand_in.npz: it is damaged" in refusal(raw, server.arrays("whole"))


def cifar10_like(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays that pass for the stand-in's, but for `changes`."""
    images = {"x_train": np.zeros((20, 3, 32, 32), np.uint8), "x_test": np.zeros((4, 3, 32, 32), np.uint8)}
    return {**images, "y_train": np.zeros(20, np.uint8), "y_test": np.zeros(4, np.uint8), "classes": np.array(CIFAR10), **changes}


FOREIGN = {
    "other images": (cifar10_like(x_train=np.zeros((20, 28, 28), np.uint8)), "x_train is 20×28×28 of uint8; not 20×3×32×32 of uint8"),
    "fewer images": (cifar10_like(x_test=np.zeros((3, 3, 32, 32), np.uint8)), "x_test is 3×3×32×32 of uint8; not 4×3×32×32"),
    "another type": (cifar10_like(y_test=np.zeros(4)), "y_test is 4 of float64; not 4 of uint8"),
    "other classes": (cifar10_like(classes=np.array([*CIFAR10[:9], "lorry"])), "its classes are airplane, .*, lorry"),
    "one array more": (cifar10_like(x_val=np.zeros(1)), "it holds classes, x_test, x_train, x_val, y_test, y_train; not classes, "),
    "other names": ({"images": np.zeros(1)}, "it holds images; not classes, x_test"),
    "nothing": ({}, "it holds nothing; not"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_npz_file_in_the_place_of_the_data_set_is_refused_by_name(kind, server, raw) -> None:
    arrays, difference = FOREIGN[kind]
    np.savez(raw / "stand_in.npz", allow_pickle=False, **arrays)
    server.files = {"cifar.tar.gz": cifar10_archive()}
    assert re.search(rf"stand_in\.npz: it is another file than the data set's \({difference}", refusal(raw, server.arrays("whole")))


def test_one_of_the_same_form_is_taken_for_the_data_set(server, tmp_path, raw) -> None:
    np.savez_compressed(raw / "stand_in.npz", allow_pickle=False, **cifar10_like())
    server.files = {"cifar.tar.gz": cifar10_archive()}
    fetch("stand_in", Paths(tmp_path), table=server.arrays("whole"))
    assert server.asked == []


@pytest.mark.parametrize("compression", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_an_npz_file_damaged_at_any_place_is_told(compression, server, raw) -> None:
    with ZipFile(raw / "stand_in.npz", "w", compression) as archive:
        for name, array in cifar10_like(x_train=np.random.default_rng(0).integers(0, 9, (20, 3, 32, 32), np.uint8)).items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    content = np.frombuffer((raw / "stand_in.npz").read_bytes(), np.uint8)
    server.files = {"cifar.tar.gz": cifar10_archive()}
    for place in range(60, len(content) // 2, len(content) // 20):
        damaged = content.copy()
        damaged[place : place + 20] ^= 0xFF
        (raw / "stand_in.npz").write_bytes(damaged.tobytes())
        assert "stand_in.npz: it is damaged" in refusal(raw, server.arrays("whole"))


def test_what_no_array_is_in_an_npz_file_is_told(server, raw) -> None:
    for content in (b"", b"no array", b"\x93NUMPY\x09\x00"):
        with ZipFile(raw / "stand_in.npz", "w") as archive:
            for name in cifar10_like():
                archive.writestr(f"{name}.npy", content)
        server.files = {"cifar.tar.gz": cifar10_archive()}
        assert "stand_in.npz: it is damaged or no .npz file" in refusal(raw, server.arrays("whole"))


def test_an_archive_of_other_content_is_refused(server, raw) -> None:
    for content in (b"no archive", cifar10_archive()[:-300], gzip.compress(bytes(10240))):
        server.files = {"cifar.tar.gz": content}
        assert "cifar.tar.gz: it is not CIFAR-10's binary version" in refusal(raw, server.arrays("whole"))


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path) -> None:
    with pytest.raises(SlimlineError, match="found 'mnits'; did you mean mnist"):
        fetch("mnits", Paths(tmp_path))


@pytest.mark.parametrize("name", datasets())
def test_the_lines_told_for_a_data_set_are_a_valid_source(name) -> None:
    advice = "\n".join(line.format(path=f"data/raw/{name}") for line in DATASETS[name].advice)
    data = YAML(typ="safe").load(advice)
    assert complete(SOURCES, data["source"])["path"] == f"data/raw/{name}"
    assert set(data) == {"source", "size", "channels"}


@pytest.mark.parametrize("name", datasets())
def test_every_official_file_has_a_checksum_a_length_and_an_address(name) -> None:
    content = DATASETS[name].content
    for file in content.files if isinstance(content, Files) else (content.file,):
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 0
    assert all(mirror.endswith("/") for mirror in content.mirrors)
