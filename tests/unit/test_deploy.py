"""What is deployed, as far as it can be tried without containers: their first steps, health checks, and that files are what their readers take."""

import errno
import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


entrypoint, worker = script("entrypoint"), script("worker")


def files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        place = folder / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return files(
        tmp_path / "image", src__a_py="1", src__old_py="old", dvc_yaml="stages", params_yaml="seed: 0", data__raw__digits_md="x", _dvc__config=""
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


def test_a_new_image_replaces_code_and_nothing_that_is_the_users(image: Path, workspace: Path) -> None:
    assert "has the code of this image" in entrypoint.prepare(image, workspace)
    assert (workspace / "data/raw/digits.md").read_text() == "x"
    assert "no_scm = true" in (workspace / ".dvc/config.local").read_text()
    files(workspace, params_yaml="seed: 1", data__raw__mine_md="mine", _dvc__config="remote")
    assert entrypoint.prepare(image, workspace) == ""
    (image / "src/old.py").unlink()
    files(image, src__a_py="2", params_yaml="seed: 2", rerun_yaml="new")
    assert entrypoint.prepare(image, workspace)
    assert (workspace / "src/a.py").read_text() == "2"
    assert not (workspace / "src/old.py").exists(), "code that is no longer in the image would run"
    assert (workspace / "params.yaml").read_text() == "seed: 1"
    assert (workspace / ".dvc/config").read_text() == "remote"
    assert (workspace / "rerun.yaml").read_text() == "new"
    assert (workspace / "data/raw/mine.md").exists()


def test_a_volume_that_was_full_gets_whole_files_once_there_is_room(image: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, target: Path) -> None:
        target.write_text("se")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            entrypoint.lay_down(image / "params.yaml", workspace / "params.yaml")
    assert not (workspace / "params.yaml").exists()
    assert entrypoint.prepare(image, workspace)
    assert (workspace / "params.yaml").read_text() == "seed: 0"


def test_somebodys_own_clone_is_left_alone(image: Path, workspace: Path) -> None:
    (workspace / ".git").mkdir()
    assert entrypoint.prepare(image, workspace) == ""
    assert [file.name for file in workspace.iterdir()] == [".git"]


def test_code_at_work_is_not_changed_under_it(image: Path, workspace: Path) -> None:
    entrypoint.prepare(image, workspace)
    files(image, src__a_py="2")
    with (workspace / ".slimline/repro.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            entrypoint.prepare(image, workspace)
        assert (workspace / "src/a.py").read_text() == "1"
    assert entrypoint.prepare(image, workspace)


@pytest.mark.parametrize(("name", "told"), [("entrypoint", "chown"), ("worker", "params.yaml: not there yet; run the pipeline first")])
def test_a_container_that_cannot_begin_says_why_in_one_line(workspace: Path, name: str, told: str) -> None:
    (workspace / ".slimline").write_text("no folder")
    program = f"import runpy, pathlib\nm = runpy.run_path({str(ROOT / 'deploy' / f'{name}.py')!r})\nm['main']()"
    done = subprocess.run([sys.executable, "-c", program], cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("slimline: ")
    assert told in done.stderr


def test_a_worker_starts_from_a_copy_without_what_other_runs_keep(tmp_path: Path, workspace: Path) -> None:
    shared = files(
        tmp_path / "shared",
        params_yaml="seed: 0",
        data__prepared__a="1",
        data__raw__b="2",
        models__student__m="3",
        models__teacher__m="4",
        _slimline__c="5",
    )
    worker.copy(shared, workspace)
    worker.copy(shared, workspace)  # a restart
    assert sorted(str(file.relative_to(workspace)) for file in workspace.rglob("*") if file.is_file()) == [
        "data/prepared/a",
        "models/student/m",
        "models/teacher/m",
        "params.yaml",
    ]


def test_the_health_check_sees_what_health_does_not(tmp_path: Path) -> None:
    """A server that knows one name alone: /health answers whoever asks, the rest refuses another Host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = not self.headers["Host"].startswith("localhost") or self.headers["Authorization"] != "Basic YWRtaW46d29yZA=="
            self.send_response(200 if self.path == "/health" or not refused else 403)
            self.end_headers()
            self.wfile.write(b"Invalid Host header" if refused else b"{}")

        def log_message(self, *_: Any) -> None: ...

    def asked(host: str, path: str, password: str = "word") -> subprocess.CompletedProcess[str]:
        environment = {"SLIMLINE_HEALTH_URL": f"http://{host}:{server.server_address[1]}{path}", "MLFLOW_AUTH_ADMIN_PASSWORD": password}
        command = [sys.executable, str(ROOT / "deploy/mlflow/healthy.py")]
        return subprocess.run(command, env={**os.environ, **environment, "no_proxy": "*"}, capture_output=True, text=True, check=False)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert asked("127.0.0.1", "/health").returncode == 0
            assert asked("localhost", "/api").returncode == 0
            trapped = asked("127.0.0.1", "/api")
            assert trapped.returncode == 1
            assert "answers 403: Invalid Host header" in trapped.stderr
            assert asked("localhost", "/api", "wrong").returncode == 1
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "compose.yaml").read_text())


def test_no_port_is_open_to_others_no_password_has_a_default_and_what_may_be_read_only_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if name != "postgres":  # its image begins as root, to give itself its folder
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    text = (ROOT / "compose.yaml").read_text()
    used = dict(re.findall(r"\$\{(\w+)(:?[-?][^}]*)?\}", text))
    assert {name for name, rest in used.items() if re.search("PASSWORD|SECRET", name) and not rest.startswith(":?")} == {"SLIMLINE_SMTP_PASSWORD"}
    example = (ROOT / ".env.example").read_text()
    named = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(named) == set(used) - {"TAG", "MLFLOW_PORT", "DASHBOARD_PORT"}
    assert not any(value for name, value in named.items() if re.search("PASSWORD|SECRET|KEY|URL", name))


def test_services_call_each_other_by_names_that_there_are(compose: dict[str, Any]) -> None:
    services = compose["services"]
    text = json.dumps(compose) + (ROOT / "deploy/mlflow/basic_auth.ini").read_text() + (ROOT / "deploy/mlflow/healthy.py").read_text()
    called = set(re.findall(r"@([a-z]+)/|http://([a-z]+):", text))
    assert {one for pair in called for one in pair if one} <= set(services)
    databases = set(re.findall(r"@postgres/(\w+)", text))
    made = re.search(r"for name in (.*); do", (ROOT / "deploy/postgres/databases.sh").read_text())
    assert made
    assert databases == set(made[1].split()), "MLflow, its accounts and Optuna share no database"
    hosts = next(word for word in services["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert "mlflow:*" in hosts, "the service's own name is no invalid Host header"


def test_the_files_are_what_their_readers_take() -> None:
    """The schemas of the compose specification, of GitHub's workflows and of Kubernetes; and hadolint, where it is."""
    if hadolint := shutil.which("hadolint"):
        linted = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
        assert linted.returncode == 0, linted.stdout
    pytest.importorskip("check_jsonschema")
    for schema, file in (("compose-spec", "compose.yaml"), ("github-workflows", "deploy/github-workflow.yaml")):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(ROOT / file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    validate = pytest.importorskip("kubernetes_validate")
    for document in YAML(typ="safe").load_all((ROOT / "deploy/cronjob.yaml").read_text()):
        validate.validate(document, "1.31", strict=True)
