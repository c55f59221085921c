"""`slimline ui`: MLflow's pages, on this workspace's experiment."""

import argparse
import os
import socket
import subprocess
import sys
import time
import webbrowser

from slimline.commands.command import Commands, count
from slimline.errors import SlimlineError
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import Paths, store_root

HOST, POLL = "127.0.0.1", 0.2


def declare(commands: Commands) -> None:
    showing = commands.add_parser("ui", help="MLflow's pages on this experiment; serves them where tracking.uri is a database")
    showing.add_argument("--port", type=count, default=5000, help="to serve them at (default: 5000)")
    showing.set_defaults(run=ui)


def ui(paths: Paths, given: argparse.Namespace) -> None:
    """Print the address of the experiment, open it where there is a browser, and serve it until interrupted."""
    from slimline.tracking.journal import resolved_uri
    from slimline.tracking.mlflow import experiment_of

    tracking = load(paths.params).block("tracking", Tracking)
    uri = resolved_uri(tracking.uri, store_root(paths.root))
    served = uri.startswith("http")
    experiment = experiment_of(uri, tracking.experiment)
    address = f"{uri.rstrip('/') if served else f'http://{HOST}:{given.port}'}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    if not served and _listening(given.port):
        raise SlimlineError(f"port {given.port} of {HOST} is taken; name another by --port")
    print(f"{tracking.experiment}: {address}", flush=True)
    if served:
        _open(address)
        return
    serve = ["mlflow", "server", "--backend-store-uri", uri, "--host", HOST, "--port", str(given.port), "--workers", "1"]
    server = subprocess.Popen([sys.executable, "-m", *serve])
    while server.poll() is None and not _listening(given.port):
        time.sleep(POLL)
    _open(address)
    sys.exit(server.wait())


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _open(address: str) -> None:
    """In the user's browser, where there is a screen; one in the terminal would take the terminal."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
