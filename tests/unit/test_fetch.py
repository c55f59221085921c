import gzip
import hashlib
import io
import re
import resource
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from slimline.data import fetch as module
from slimline.data.fetch import DATASETS, Dataset, File, cifar10_arrays, datasets, fetch
from slimline.data.sources import SOURCES
from slimline.errors import SlimlineError
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

    def table(self, *names: str, **changes: Any) -> dict[str, Dataset]:
        files = tuple(File(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in self.files.items())
        mirrors = tuple(f"http://127.0.0.1:{self.server_port}/{name}/" for name in names)
        return {"stand_in": Dataset(**{"mirrors": mirrors, "files": files, "advice": ("source: {{name: idx, path: {path}}}",), **changes})}


@pytest.fixture
def server() -> Iterator[Mirrors]:
    behaviours = (whole, ranges, cut, cut_unnoticed, wrong, too_long, gone, stalled, packed_on_the_way)
    running = Mirrors(**{behaviour.__name__: behaviour for behaviour in behaviours})
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.stop.set()
    running.shutdown()
    running.server_close()


def refusal(raw: Path, table: dict[str, Dataset]) -> str:
    before = sorted(raw.rglob("*")) if raw.exists() else []
    with pytest.raises(SlimlineError) as error:
        fetch("stand_in", raw, table=table)
    assert "\n" not in str(error.value)
    assert sorted(raw.rglob("*")) == before
    return str(error.value)


def test_files_come_whole_into_a_folder_and_the_lines_for_params_are_told(server, tmp_path) -> None:
    told = fetch("stand_in", tmp_path / "raw", table=server.table("whole"))
    assert told == f"data:\n  source: {{name: idx, path: {tmp_path.as_posix()}/raw/stand_in}}"
    assert {file.name: file.read_bytes() for file in (tmp_path / "raw" / "stand_in").iterdir()} == server.files
    assert [file.name for file in (tmp_path / "raw").iterdir()] == ["stand_in"]


def test_what_is_there_is_not_fetched_again(server, tmp_path) -> None:
    table = server.table("whole")
    fetch("stand_in", tmp_path, table=table)
    (tmp_path / "stand_in" / "b.bin").unlink()
    fetch("stand_in", tmp_path, table=table)
    fetch("stand_in", tmp_path, table=table)
    assert [path for path, _ in server.asked] == ["/whole/a.bin", "/whole/b.bin", "/whole/b.bin"]


def test_another_file_of_the_same_name_is_not_overwritten(server, tmp_path) -> None:
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "a.bin").write_bytes(b"my own")
    assert "a.bin: it is another file" in refusal(tmp_path, server.table("whole"))
    assert (tmp_path / "stand_in" / "a.bin").read_bytes() == b"my own"


@pytest.mark.parametrize("first", ["cut", "cut_unnoticed", "wrong", "too_long", "gone"])
def test_the_next_mirror_is_asked_where_one_fails(first, server, tmp_path) -> None:
    fetch("stand_in", tmp_path, table=server.table(first, "whole"))
    assert (tmp_path / "stand_in" / "a.bin").read_bytes() == CONTENT


def test_what_came_before_a_cut_is_not_fetched_twice(server, tmp_path) -> None:
    fetch("stand_in", tmp_path, table=server.table("cut", "ranges"))
    assert server.asked[:2] == [("/cut/a.bin", None), ("/ranges/a.bin", "bytes=100000-")]
    assert (tmp_path / "stand_in" / "a.bin").read_bytes() == CONTENT


def test_a_server_that_packs_what_it_sends_changes_nothing(server, tmp_path) -> None:
    fetch("stand_in", tmp_path, table=server.table("packed_on_the_way"))
    assert (tmp_path / "stand_in" / "a.bin").read_bytes() == CONTENT


REASONS = {
    "cut": "100000 bytes read",
    "cut_unnoticed": "another file than expected, of 100000 bytes",
    "wrong": "another file than expected, of 300000 bytes and SHA-256",
    "too_long": "another file than expected",
    "gone": "404 Not Found",
}


@pytest.mark.parametrize("mirror", REASONS)
def test_a_failure_names_file_address_and_reason_and_leaves_nothing(mirror, server, tmp_path) -> None:
    message = refusal(tmp_path, server.table(mirror))
    assert f"cannot fetch a.bin: http://127.0.0.1:{server.server_port}/{mirror}/a.bin: " in message
    assert REASONS[mirror] in message


def test_a_failure_at_the_last_file_leaves_none_of_them(server, tmp_path) -> None:
    table = server.table("whole")
    server.files["b.bin"] = b"changed since"
    assert "cannot fetch b.bin" in refusal(tmp_path, table)


def test_every_mirror_that_failed_is_named(server, tmp_path) -> None:
    message = refusal(tmp_path, server.table("gone", "wrong"))
    assert "/gone/a.bin: 404 Not Found; http://" in message
    assert "/wrong/a.bin: another file" in message


def test_a_refused_connection_and_an_unknown_host_are_told(server, tmp_path) -> None:
    assert "http://127.0.0.1:9/a.bin: Connection refused" in refusal(tmp_path, server.table(mirrors=("http://127.0.0.1:9/",)))
    assert "http://nowhere.invalid/a.bin: " in refusal(tmp_path, server.table(mirrors=("http://nowhere.invalid/",)))


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "TIME_OUT", (0.2, 0.2))
    assert "timed out" in refusal(tmp_path, server.table("stalled"))


def test_a_full_disk_is_told_and_nothing_is_left(server, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        message = refusal(tmp_path, server.table("whole"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "stand_in: cannot be written (File too large); make room" in message


def test_a_folder_in_the_place_of_a_file_is_told(server, tmp_path) -> None:
    (tmp_path / "raw").write_text("a file")
    assert "cannot be written (File exists)" in refusal(tmp_path / "raw", server.table("whole"))


def cifar10_archive(count: int = 4) -> bytes:
    """CIFAR-10's binary version, with `count` images a batch; their first byte is the batch's number, the last of each plane too."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        add("batches.meta.txt", b"airplane\nautomobile\nbird\ncat\n\n")
        for number, name in enumerate(("test_batch", *(f"data_batch_{n}" for n in range(1, 6)))):
            add(f"{name}.bin", b"".join(bytes((n,)) + bytes(colour * 40 + number for colour in range(3) for _ in range(1024)) for n in range(count)))
    return content.getvalue()


def test_cifar10_becomes_one_file_that_the_source_arrays_reads(server, tmp_path) -> None:
    server.files = {"cifar.tar.gz": cifar10_archive()}
    table = server.table("whole", convert=cifar10_arrays, advice=("source: {{name: arrays, path: {path}}}",))
    told = fetch("stand_in", tmp_path, table=table)
    assert [file.name for file in tmp_path.iterdir()] == ["stand_in.npz"]
    items = list(build(SOURCES, YAML(typ="safe").load(told)["data"]["source"], Path("/")))
    assert [item.belongs.split for item in items] == ["train"] * 20 + ["test"] * 4
    assert [item.belongs.label for item in items[:4]] == ["airplane", "automobile", "bird", "cat"]
    assert items[4].content.shape == (32, 32, 3)
    assert items[4].content[5, 7].tolist() == [2, 42, 82]  # batch 2: red, green, blue
    fetch("stand_in", tmp_path, table=table)
    assert len(server.asked) == 1


def test_the_same_data_make_the_same_bytes_at_any_time(server, tmp_path, monkeypatch) -> None:
    server.files = {"cifar.tar.gz": cifar10_archive()}
    table = server.table("whole", convert=cifar10_arrays)
    fetch("stand_in", tmp_path / "now", table=table)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    fetch("stand_in", tmp_path / "later", table=table)
    assert (tmp_path / "now" / "stand_in.npz").read_bytes() == (tmp_path / "later" / "stand_in.npz").read_bytes()


def test_a_damaged_file_that_is_there_is_told(server, tmp_path) -> None:
    (tmp_path / "stand_in.npz").write_bytes(b"half")
    assert "stand_in.npz: it is damaged" in refusal(tmp_path, server.table("whole", convert=cifar10_arrays))


def test_an_archive_of_other_content_is_refused(server, tmp_path) -> None:
    for content in (b"no archive", cifar10_archive()[:-300], gzip.compress(bytes(10240))):
        server.files = {"cifar.tar.gz": content}
        assert "cifar.tar.gz: it is not CIFAR-10's binary version" in refusal(tmp_path, server.table("whole", convert=cifar10_arrays))


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path) -> None:
    with pytest.raises(SlimlineError, match="found 'mnits'; did you mean mnist"):
        fetch("mnits", tmp_path)


@pytest.mark.parametrize("name", datasets())
def test_the_lines_told_for_a_data_set_are_a_valid_source(name) -> None:
    advice = "\n".join(line.format(path=f"data/raw/{name}") for line in DATASETS[name].advice)
    data = YAML(typ="safe").load(advice)
    assert complete(SOURCES, data["source"])["path"] == f"data/raw/{name}"
    assert set(data) == {"source", "size", "channels"}


@pytest.mark.parametrize("name", datasets())
def test_every_official_file_has_a_checksum_a_length_and_an_address(name) -> None:
    for file in DATASETS[name].files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 0
    assert all(mirror.endswith("/") for mirror in DATASETS[name].mirrors)
