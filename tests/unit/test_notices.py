"""What a tick tells, to whom, and what happens to it where nobody takes it; settings and secrets that cannot be are refused."""

import email
import json
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.rerun import notices
from slimline.rerun.mail import Mailbox
from slimline.rerun.output import cause, kept
from slimline.rerun.settings import FILE, PASSWORD, Mail, Rerun, load, secret
from slimline.rerun.summary import CODES, WORDS, Summary
from slimline.rerun.webhook import Webhook

ROOT = Path(__file__).parents[2]


PATIENCE = 20.0


class Listener:
    name = "listener"

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.down = False

    def send(self, notice: Mapping[str, Any]) -> None:
        if self.down:
            raise SlimlineError("the listener sleeps")
        self.heard.append(notice["text"])


def test_notices_are_sent_in_order_and_stay_where_one_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Listener(), Listener()
    second.name = "other"
    second.down = True
    for text in ("one", "two", "three"):
        notices.keep(tmp_path, [first, second], notices.notice("1", {}, text, text))
    assert list(notices.deliver(tmp_path, [first, second])) == ["the listener sleeps; 3 notices kept for the next tick"]
    assert first.heard == ["one", "two", "three"]
    second.down = False
    assert list(notices.deliver(tmp_path, [first, second])) == []
    assert second.heard == first.heard
    monkeypatch.setattr(notices, "MOST", 2)
    for text in ("four", "five", "six"):
        notices.keep(tmp_path, [first], notices.notice("1", {}, text, text))
    assert list(notices.deliver(tmp_path, [first])) == []
    assert first.heard[3:] == ["five", "six"], "the oldest go where too many wait"


@pytest.mark.parametrize("broken", ["{half", "[]", "null", "{}"])
def test_a_notice_that_cannot_be_read_is_put_aside_and_holds_up_none_behind_it(tmp_path: Path, broken: str) -> None:
    listener = Listener()
    (tmp_path / "00-listener.json").write_text(broken)
    notices.keep(tmp_path, [listener], notices.notice("1", {}, "one", "one"))
    (told,) = notices.deliver(tmp_path, [listener])
    assert "no notice can be read there; it is put aside" in told
    assert listener.heard == ["one"]
    assert list(notices.deliver(tmp_path, [listener])) == []
    assert (tmp_path / "unreadable-00-listener.json").read_text() == broken


class Hook(BaseHTTPRequestHandler):
    """Answers as the path that it is asked for says."""

    def do_POST(self) -> None:
        match self.path.strip("/").split("/"):
            case ["code", code]:
                self.send_response(int(code))
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
            case ["hangs"]:
                self.server.over.wait(PATIENCE)  # type: ignore[attr-defined]
            case ["endless"]:
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):
                    while not self.server.over.is_set():  # type: ignore[attr-defined]
                        self.wfile.write(b"x" * 65536)

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("code/200", None),
        ("code/204", None),
        ("endless", None),
        ("code/302", "answers 302"),
        ("code/404", "answers 404"),
        ("code/500", "answers 500"),
        ("hangs", "does not answer (ReadTimeout)"),
    ],
)
def test_a_webhook_that_hangs_fails_or_sends_elsewhere_has_not_taken_it(monkeypatch: pytest.MonkeyPatch, path: str, told: str | None) -> None:
    monkeypatch.setattr("slimline.rerun.webhook.PATIENCE", 0.5)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.over = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            hook = Webhook(f"http://127.0.0.1:{server.server_address[1]}/{path}")
            if told is None:
                hook.send({"text": "one"})
            else:
                with pytest.raises(SlimlineError, match=re.escape(f"the webhook at 127.0.0.1 {told}")) as refused:
                    hook.send({"text": "one"})
                assert path not in str(refused.value)
        finally:
            server.over.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


class Post(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client asks for; `server.letters` is what came."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            match line[:4].upper():
                case b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    letter = b"".join(iter(self.rfile.readline, b".\r\n"))
                    self.server.letters.append(letter)  # type: ignore[attr-defined]
                    self.wfile.write(b"250 taken\r\n")
                case b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                case _:
                    self.wfile.write(b"250 yes\r\n")


@contextmanager
def post() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Post) as server:
        server.letters = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_mail_arrives_whole_and_one_that_is_not_taken_says_so() -> None:
    notice = {"id": "1", "headline": "slimline rerun: a new champion", "text": "images 240 → 260\n.\nversion 2"}
    with post() as server:
        settings = Mail(
            host="127.0.0.1", port=server.server_address[1], security="none", sender="a@example.org", to=("b@example.org", "c@example.org")
        )
        Mailbox(settings).send(notice)
        (letter,) = server.letters
        message = email.message_from_bytes(letter.replace(b"\n..", b"\n."), policy=email.policy.default)  # type: ignore[attr-defined]
        assert message["Subject"] == notice["headline"]
        assert message["To"] == "b@example.org, c@example.org"
        assert message["Message-ID"] == "<1@slimline>"
        assert message.get_content().splitlines() == notice["text"].splitlines()
        with pytest.raises(SlimlineError, match=r"mail server 127\.0\.0\.1 does not take it"):
            Mailbox(settings.model_copy(update={"security": "starttls"})).send(notice)
    with pytest.raises(SlimlineError, match="does not take it"):
        Mailbox(settings).send(notice)


def test_a_mailbox_without_its_password_and_an_address_that_is_none_are_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(SlimlineError, match=f"no password for it; set {PASSWORD}"):
        Mailbox(Mail(host="h", user="me", sender="a@example.org", to=("b@example.org",)))
    for address in ("hooks.example.org/a-secret", "ftp://h/a-secret", "https:///a-secret", "https://[::1/a-secret", "https://h:99999/a-secret"):
        with pytest.raises(SlimlineError, match="no address of a webhook") as refused:
            Webhook(address)
        assert "a-secret" not in str(refused.value)
    with pytest.raises(SlimlineError, match="does not answer") as refused:
        Webhook(f"https://{'h' * 70}.invalid/a-secret").send({})  # no name can be that long
    assert "a-secret" not in str(refused.value)


def test_a_secret_is_a_variable_or_a_file_and_an_empty_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    assert secret(PASSWORD) is None
    file = tmp_path / "secret"
    monkeypatch.setenv(f"{PASSWORD}_FILE", str(file))
    with pytest.raises(SlimlineError, match="cannot be read"):
        secret(PASSWORD)
    file.write_text("\n")
    with pytest.raises(SlimlineError, match="is empty"):
        secret(PASSWORD)
    file.write_text("word\n")
    assert secret(PASSWORD) == "word"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("psuh: true", "psuh: no such parameter; did you mean push?"),
        ("data: {quiet_seconds: soon}", "data.quiet_seconds"),
        ("notify: {outcomes: [champion]}", "notify.outcomes"),
        ("notify: {mail: {host: h, sender: nobody, to: [a@b]}}", "notify.mail.sender"),
        ("notify: {mail: {host: h, sender: a@b, to: ['a@b\\nBcc: c@d']}}", "notify.mail.to"),
        ("notify: {mail: {host: h, sender: a@b, to: []}}", "notify.mail.to"),
        ("notify: {mail: {host: h, port: 99999999999999999999, sender: a@b, to: [a@b]}}", "notify.mail.port"),
        ("promote: 1", "promote: found 1"),
        ("promote: 'yes'", 'promote: found "yes"'),
        ("least_free_gb: -1", "least_free_gb: found -1"),
        ("least_free_gb: .inf", "least_free_gb"),
        ("data: {patience_seconds: .nan}", "data.patience_seconds"),
        ("data: {patience_seconds: 1.0e+400}", "data.patience_seconds"),
        ("data: {quiet_seconds: 86400}", "data.quiet_seconds"),
        ("data: {update: a.dvc}", "data.update"),
        ("data: &a {update: *a}", "Circular reference detected; write plain values"),
        ("? [1, 2]\n: 3", "write plain values"),
        ("2026-01-01: 3", "write plain values"),
        ("push: !!python/object:os.system {}", "no valid YAML"),
        ("push: true\npush: false", "no valid YAML"),
        (f"least_free_gb: {'9' * 5000}", "no valid YAML"),
        ("[1", "no valid YAML"),
        ("- 1", "a mapping is needed"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_key(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(SlimlineError) as refused:
        load(tmp_path / FILE)
    assert told in str(refused.value)


def test_the_file_that_is_shipped_says_what_holds_without_it(tmp_path: Path) -> None:
    assert load(ROOT / FILE) == load(tmp_path / FILE) == Rerun()


def test_each_outcome_has_words_and_a_code_and_its_facts_are_text_and_json() -> None:
    assert set(CODES) | {"stopped"} == set(WORDS)
    summary = Summary("here", "/w", images=(240, 260), scores=({"accuracy": 0.9}, {"accuracy": 0.91}), gates={"size_ratio": False}, version=3)
    text = summary.came_to("kept", "version 3:\n gates failed").text()
    assert text.startswith("slimline rerun: the champion is kept: version 3: gates failed\n")
    for told in ("240 → 260", "accuracy 0.9 → 0.91", "failed: size_ratio"):
        assert told in text
    assert json.loads(json.dumps(summary.record()))["code"] == 1


def test_what_is_printed_is_kept_shown_and_searched_for_the_cause(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:

    file = Paths(tmp_path).scratch / "output.txt"
    with kept(file):
        subprocess.run(["sh", "-c", "echo Running; echo slimline: no such file >&2; echo ERROR: failed to reproduce >&2; sleep 9 &"], check=True)
    assert capfd.readouterr().out == file.read_text() == "Running\nslimline: no such file\nERROR: failed to reproduce\n"
    assert cause(file) == "no such file"
    file.write_text("Running\nERROR: failed to reproduce\nlast\n")
    assert cause(file) == "failed to reproduce"
