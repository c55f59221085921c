import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slimline.data.sources import SOURCES
from slimline.data.sources.item import Item, Membership
from slimline.errors import SlimlineError
from slimline.registry import SpecError, build, complete

hub = pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def table(*labels: str) -> bytes:
    content = BytesIO()
    pq.write_table(pa.table({"image": [{"bytes": label.encode(), "path": None} for label in labels], "label": list(labels)}), content)
    return content.getvalue()


FILES = {
    "me/one": {
        "README.md": b"# one",
        "data/train-00000-of-00001.parquet": table("a", "b"),
        "data/test-00000-of-00001.parquet": table("c"),
        "x.bin": b"x",
    },
    "me/two": {"README.md": b"# two", "en/train-00000-of-00001.parquet": table("a"), "de/train-00000-of-00001.parquet": table("b")},
    "me/none": {"README.md": b"# none", "images.zip": b"x"},
}


class Hub(BaseHTTPRequestHandler):
    """What of the hub snapshot_download asks for: the list of a commit's files, and each file."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        for repository, files in FILES.items():
            if path == f"/api/datasets/{repository}/tree/{COMMIT}":
                listed = [{"type": "file", "path": name, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for name, c in files.items()]
                return self.answer(200, json.dumps(listed).encode(), Content_Type="application/json")
            if path.startswith(f"/api/datasets/{repository}/tree/"):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            for name, content in files.items():
                if path == f"/datasets/{repository}/resolve/{COMMIT}/{name}":
                    return self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        return self.answer(404, X_Error_Code="RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def direct_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT sets while the package is imported, which other tests may have done already."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def asked(tmp_path, monkeypatch) -> Iterator[list[str]]:
    """A stand-in for the hub, and the paths that were asked of it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []  # type: ignore[attr-defined]
    direct_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def spec(repository: str, **parameters: str) -> dict[str, str]:
    return {"name": "huggingface", "path": "hub.md", "repository": repository, "revision": COMMIT, **parameters}


def read(root: Path, repository: str, **parameters: str) -> list[Item]:
    return list(build(SOURCES, spec(repository, **parameters), root))


def refusal(root: Path, repository: str, **parameters: str) -> str:
    with pytest.raises(SlimlineError) as error:
        read(root, repository, **parameters)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_parquet_files_of_a_commit_are_read_and_nothing_else_is_fetched(asked, tmp_path) -> None:
    items = read(tmp_path, "me/one")
    assert [(item.content, item.belongs) for item in items] == [
        (b"c", Membership("c", "test")),
        (b"a", Membership("a", "train")),
        (b"b", Membership("b", "train")),
    ]
    assert items[0].origin == "data/test-00000-of-00001.parquet[0]"
    assert not any("x.bin" in path for path in asked)


def test_what_is_in_the_cache_is_not_asked_for_again(asked, tmp_path) -> None:
    first = read(tmp_path, "me/one")
    before = len(asked)
    assert [item.origin for item in read(tmp_path, "me/one")] == [item.origin for item in first]
    assert len(asked) == before


def test_of_several_subsets_one_must_be_chosen_and_alone_is_fetched(asked, tmp_path) -> None:
    assert "data.source.subset: missing; me/two has several: de, en" in refusal(tmp_path, "me/two")
    assert [item.belongs.label for item in read(tmp_path, "me/two", subset="en")] == ["a"]
    assert not any("resolve" in path and "de/" in path for path in asked)
    assert "has no subset 'fr'; there are: de, en" in refusal(tmp_path, "me/two", subset="fr")


def test_a_data_set_without_parquet_files_is_refused(asked, tmp_path) -> None:
    assert "me/none at 01234567 has no Parquet file" in refusal(tmp_path, "me/none")


def test_an_unknown_data_set_or_commit_is_refused_in_one_line(asked, tmp_path) -> None:
    assert "me/gone at 01234567 cannot be fetched from the hub: " in refusal(tmp_path, "me/gone")
    assert "me/one at ffffffff cannot be fetched from the hub: " in refusal(tmp_path, "me/one", revision="f" * 40)


def test_a_hub_out_of_reach_is_refused_in_one_line(asked, tmp_path, monkeypatch) -> None:
    direct_to("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the package waits longer before each of five further attempts
    assert "cannot be fetched from the hub: " in refusal(tmp_path, "me/one")


@pytest.mark.parametrize("revision", ["main", "v1.0", "0123456", "F" * 40, "refs/convert/parquet"])
def test_a_revision_that_could_move_is_refused_before_anything_runs(revision) -> None:
    with pytest.raises(SpecError, match=r"revision: .* is no commit and could move; write the 40 hexadecimal digits"):
        complete(SOURCES, spec("me/one", revision=revision))


@pytest.mark.parametrize("name", ["me/one/two", "../one", "https://huggingface.co/datasets/me/one", ""])
def test_a_repository_that_is_no_name_is_refused_before_anything_runs(name) -> None:
    with pytest.raises(SpecError, match=r"repository: .* is no name on the hub; write OWNER/NAME"):
        complete(SOURCES, spec(name))


def test_a_missing_package_is_told_with_the_command_that_brings_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "huggingface_hub' in refusal(tmp_path, "me/one")
