"""`slimline data …`: questions about prepared data."""

import argparse
import sys

from slimline.commands.command import Commands
from slimline.files import write_text
from slimline.paths import Paths

DRIFT = 1
"""Exit code of `data diff` above its limit."""


def declare(commands: Commands) -> None:
    about_data = commands.add_parser("data", help="questions about prepared data").add_subparsers(dest="about", required=True, metavar="COMMAND")
    about_data.add_parser("show", help="make a page of the prepared images and of what is odd about them").set_defaults(run=data_show)
    comparing = about_data.add_parser("diff", help="what changed between two versions, and whether it is more than chance")
    for side in ("before", "after"):
        comparing.add_argument(side, help="a folder of prepared data, a workspace, a git revision, or . for what is prepared now")
    comparing.add_argument("--json", action="store_true", help="print JSON")
    comparing.add_argument("--limit", type=_index, help="exit with 1 if a population stability index that chance does not explain is above this")
    comparing.set_defaults(run=data_diff)


def _index(text: str) -> float:
    """A stability index: a number that is not below zero."""
    if not float(text) >= 0:  # so put, NaN is refused too
        raise ValueError
    return float(text)


def data_show(paths: Paths, _given: argparse.Namespace) -> None:
    """Write the page of the prepared images, and say where."""
    from slimline.report.data_page import data_page

    write_text(paths.data_page, data_page(paths))
    print(paths.data_page)


def data_diff(paths: Paths, given: argparse.Namespace) -> None:
    """Print what changed between two versions of the prepared data."""
    from slimline.report.difference import difference_command
    from slimline.runtime.revision import prepared_at

    with prepared_at(given.before, paths) as before, prepared_at(given.after, paths) as after:
        if not difference_command(before, after, as_program=given.json, limit=given.limit):
            sys.exit(DRIFT)
