"""What a tick tells, to whom, and what happens to it where nobody takes it; settings and secrets that cannot be are refused."""

import email
import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        notices.keep(tmp_path, [first, second], {}, text, text)
    assert list(notices.deliver(tmp_path, [first, second])) == ["the listener sleeps; 3 notices kept for the next tick"]
    assert first.heard == ["one", "two", "three"]
    second.down = False
    assert list(notices.deliver(tmp_path, [first, second])) == []
    assert second.heard == first.heard
    monkeypatch.setattr(notices, "MOST", 2)
    for text in ("four", "five", "six"):
        notices.keep(tmp_path, [first], {}, text, text)
    assert list(notices.deliver(tmp_path, [first])) == []
    assert first.heard[3:] == ["five", "six"], "the oldest go where too many wait"


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
    with pytest.raises(SlimlineError) as refused:
        Webhook("hooks.example.org/a-secret")
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
