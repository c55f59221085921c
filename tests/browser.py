"""A headless Chromium, driven by the DevTools protocol through a pipe: no driver, no port, no dependency.

The pictures of pages in docs/images: `python tests/browser.py reports/index.html docs/images/report.png 1200 1700`.
"""

import base64
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from select import select
from signal import SIGKILL
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 180.0
"""Longest wait for one answer; the machine may be busy."""


@dataclass
class Browser:
    """One page. `events` are what the browser told unasked, as (method, parameters)."""

    to: int
    fro: int
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _rest: bytes = b""
    _last: int = 0
    _session: str | None = None

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command of the protocol (https://chromedevtools.github.io/devtools-protocol/).

        Raises:
            RuntimeError: the browser refused it.
            TimeoutError: it did not answer.
        """
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next(method)
            if told.get("id") == self._last:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                return dict(told["result"])
            self.events.append((told.get("method", ""), told.get("params", {})))

    def wait(self, event: str) -> None:
        """Until `event` was told."""
        while all(name != event for name, _ in self.events):
            told = self._next(event)
            self.events.append((told.get("method", ""), told.get("params", {})))

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def attach(self) -> None:
        """Talk to a new page from now on, and hear of its requests, messages and errors."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of that many CSS pixels, in the light or the dark scheme; `events` start anew."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def press(self, key: str) -> None:
        """Press and let go a key, as Tab."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"Tab": 9, "Enter": 13}.get(key, 0))

    def screenshot(self, to: Path) -> None:
        """What the window shows, as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png")
        to.write_bytes(base64.b64decode(shot["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for since `open`, its own and those within it left out."""
        urls = [params["request"]["url"] for name, params in self.events if name == "Network.requestWillBeSent"]
        return [url for url in urls[1:] if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What stands in the browser's console since `open`."""
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(params) for name, params in self.events if name in names]

    def _next(self, waiting_for: str) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select([self.fro], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self.fro, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError(f"no answer from the browser within {SECONDS:g} s to {waiting_for}")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))


def chromium() -> str:
    """The path of a Chromium; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block."""
    program = chromium()
    with tempfile.TemporaryDirectory(prefix="slimline-browser-", ignore_cleanup_errors=True) as profile:
        # The protocol speaks through descriptors 3 and 4 of the browser; the ends to be put there must not lie there already.
        (read, to), (fro, write) = os.pipe(), os.pipe()
        inner = [fcntl(end, F_DUPFD_CLOEXEC, 10) for end in (read, write)]
        actions = [(os.POSIX_SPAWN_DUP2, end, place) for end, place in zip(inner, (3, 4), strict=True)]
        actions += [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_RDWR, 0) for place in (0, 1, 2)]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = os.posix_spawn(program, [program, *flags], os.environ, file_actions=actions)
        for end in (read, write, *inner):
            os.close(end)
        try:
            one = Browser(to, fro)
            one.attach()
            yield one
        finally:
            os.close(to)
            os.close(fro)
            os.kill(process, SIGKILL)
            os.waitpid(process, 0)


if __name__ == "__main__":
    source, target, across, down = sys.argv[1:]
    with browser() as started:
        started.open(Path(source), width=int(across), height=int(down))
        started.screenshot(Path(target))
