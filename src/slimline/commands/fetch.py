"""`slimline fetch`."""

import argparse

from slimline.commands.command import Commands
from slimline.paths import Paths

WELL_KNOWN = ("mnist", "fashion_mnist", "cifar10")
"""What `data.fetch.datasets` gives, which help need not wait half a second for."""


def declare(commands: Commands) -> None:
    fetching = commands.add_parser("fetch", help="download a well-known data set into data/raw")
    fetching.add_argument("name", help=", ".join(WELL_KNOWN))
    fetching.set_defaults(run=fetch)


def fetch(paths: Paths, given: argparse.Namespace) -> None:
    """Download a data set and print what to write into params.yaml."""
    from slimline.data.fetch import fetch as fetched  # these two take half a second to import, and `check` is quick

    print(fetched(given.name, paths))
