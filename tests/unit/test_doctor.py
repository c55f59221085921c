"""What `slimline doctor` finds, and that each fault comes with what to do."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from dvc.repo import Repo
from mlflow.tracking import MlflowClient

from slimline import cli
from slimline.files import write_text
from slimline.params.hardware import Hardware
from slimline.paths import Paths
from slimline.runtime import doctor
from slimline.runtime.trace import SHIPPED
from slimline.tracking.finding import Finding
from slimline.tracking.health import examined
from slimline.tracking.mlflow import Store


def found(findings: Iterator[Finding], about: str) -> Finding:
    """The one that is a fault, if one of them is."""
    return max((one for one in findings if one.about == about), key=lambda one: bool(one.remedy))


@pytest.fixture
def place(tmp_path: Path) -> Paths:
    Repo.init(str(tmp_path), no_scm=True).close()
    return Paths(tmp_path)


def test_nothing_is_wrong_with_a_new_place(place: Paths) -> None:
    findings = list(doctor.local(place, Hardware(threads=1)))
    assert [one for one in findings if one.remedy and one.about != "git"] == []
    assert {one.about for one in findings} >= {"permissions", "disk", "dvc", "versions", "machine", "gpu"}


def test_each_fault_of_the_place_has_its_remedy(place: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SCARCE", float("inf"))
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy<1", "no-such-package>=2", "pip; extra == 'test'"])
    monkeypatch.setenv("USER", "somebody")  # DVC asks for a name, and this number has none
    monkeypatch.setattr(doctor.os, "getuid", lambda: 4711)
    write_text(place.spool / "1-prune" / "operations.jsonl", "{}\n")
    write_text(place.spool / "refused-2-prune" / "state.json", "{}")
    findings = list(doctor.local(place, Hardware(threads=1024, accelerator="cuda")))
    expected = {
        "permissions": ("is another user's", "chown -R 4711"),
        "disk": ("GB free at", "dvc gc -w"),
        "versions": ("where <1 is needed, no-such-package is missing", "make setup"),
        "machine": ("hardware asks for 1 × 1024 threads", "lower hardware.threads"),
        "gpu": ("none, and hardware.accelerator is cuda", "make it auto or cpu"),
        "spool": ("1 record (", "slimline sync sends them"),
    }
    for about, (fact, remedy) in expected.items():
        one = found(iter(findings), about)
        assert fact in one.fact
        assert remedy in one.remedy
    assert "MLflow refused parts of 1 record" in findings[-1].fact


def test_a_folder_without_dvc_and_a_pipeline_that_cannot_be_read_are_told_apart(place: Paths, tmp_path: Path) -> None:
    write_text(tmp_path / "dvc.yaml", "stages: [\n")
    assert "dvc.yaml or dvc.lock cannot be read" in found(doctor.local(place, Hardware(threads=1)), "dvc").fact
    write_text(tmp_path / "dvc.yaml", "")
    (tmp_path / ".dvc").rename(tmp_path / "gone")
    one = found(doctor.local(place, Hardware(threads=1)), "dvc")
    assert one.fact == f"{tmp_path} is in no DVC repository"
    assert "dvc init" in one.remedy


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    Store(uri, "tests")
    return uri


def test_the_store_is_examined_without_being_changed(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert found(examined(store, "tests"), "tracking") == Finding("tracking", f"{store}, experiment tests")
    assert "has no experiment others yet" in found(examined(store, "others"), "tracking").fact
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("deleted"))
    assert "mlflow experiments restore" in found(examined(store, "deleted"), "tracking").remedy

    absent = tmp_path / "none" / "mlflow.db"
    one = found(examined(f"sqlite:///{absent}", "tests"), "tracking")
    assert "is not there yet" in one.fact
    assert one.remedy == f"make {absent.parent}, or let yourself write there"
    assert not absent.parent.exists()

    both = tmp_path / "both.db"
    with closing(sqlite3.connect(both)) as database:
        database.execute("create table studies (x)")
        database.execute("create table experiments (x)")
    shared = found(examined(f"sqlite:///{both}", "tests"), "database")
    assert "MLflow and Optuna share it" in shared.fact
    assert shared.remedy == "give the sweep a database of its own"

    for about in ("database", "tracking"):  # at once, where MLflow itself would try for two minutes
        assert "does not answer: start it" in found(examined("postgresql+psycopg://someone@127.0.0.1:9/runs", "tests"), about).remedy
    for address in ("nonsense://store", "postgresql://someone@127.0.0.1:port/runs"):
        assert "is no address of a store" in found(examined(address, "tests"), "tracking").remedy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert "MLFLOW_TRACKING_URI is set and goes before tracking.uri" in next(examined(store, "tests")).fact


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    """The address of a server that answers everything so."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_refuses_its_name_or_who_asks_or_is_away_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with answering(403, "Invalid Host header - possible DNS rebinding attack detected") as uri:
        one = found(examined(uri, "tests"), "server")
        assert one.fact == "it lives, and refuses the name 127.0.0.1"
        assert one.remedy == "start mlflow server with --allowed-hosts '127.0.0.1:*,localhost:*'"
    with answering(401, "Unauthorized") as uri:
        assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in found(examined(uri, "tests"), "tracking").remedy
    assert "start mlflow server there" in found(examined(uri, "tests"), "server").remedy


def test_a_command_that_asks_a_wrong_store_ends_in_one_line(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "params.yaml", SHIPPED.read_text())
    older = tmp_path / "older.db"
    shutil.copy(store.removeprefix("sqlite:///"), older)
    with closing(sqlite3.connect(older)) as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.commit()
    with answering(401, "Unauthorized") as closed:
        for uri, words in {
            f"sqlite:///{tmp_path / 'none.db'}": "is not there yet; the first stage makes it, or mend tracking.uri",
            f"sqlite:///{older}": "has the database of another version of MLflow: make a copy of it, then mlflow db upgrade",
            closed: "refuses who asks: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            "http://127.0.0.1:9": "does not answer: start it, or mend tracking.uri",
            "postgresql+psycopg://me:secret@127.0.0.1:9/runs": "does not answer: start it, or mend tracking.uri",
            "nonsense://store": "is no address of a store: write sqlite:///FILE",
            "postgresql://me:secret@127.0.0.1:port/runs": "is no address of a store: write sqlite:///FILE",
            f"sqlite:///{tmp_path}": "cannot be opened: mend the path in tracking.uri",
            store: "no file, md5, MLflow run, alias of a registered model or git revision that is known here",
        }.items():
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with pytest.raises(SystemExit) as ended:
                cli.main(["--workspace", str(tmp_path), "trace", "nobody@nothing"])
            assert ended.value.code == 2, uri
            (line,) = capfd.readouterr().err.splitlines()
            assert line.startswith("slimline: ")
            assert words in line
            assert "secret" not in line
    assert not (tmp_path / "none.db").exists()
