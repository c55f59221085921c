"""`slimline sweep …`: look for the best values of parameters."""

import argparse

from slimline.commands.command import Commands, count
from slimline.paths import Paths

FOLDER = "a folder that holds a sweep.yaml, or its name under experiments/"


def declare(commands: Commands) -> None:
    doing = commands.add_parser("sweep", help="look for the best values of parameters").add_subparsers(dest="what", required=True, metavar="COMMAND")
    for name, run, text in (
        ("run", sweep_run, "run the trials that are missing, and write front, page and recommendation; Ctrl-C and a later start go on"),
        ("resume", sweep_resume, "the same, but only where such a sweep was begun"),
        ("status", sweep_status, "how far a sweep is; it may be running"),
        ("front", sweep_front, "the models that no other beats, as they are known now"),
    ):
        parser = doing.add_parser(name, help=text)
        parser.add_argument("folder", help=FOLDER)
        parser.set_defaults(run=run)
        if name in ("run", "resume"):
            parser.add_argument("--workers", type=count, help="processes (default: as in sweep.yaml)")


def sweep_run(paths: Paths, given: argparse.Namespace) -> None:
    """Run a sweep to its end."""
    from slimline.sweep.driver import run
    from slimline.sweep.outcome import folder_of, leave, tell

    folder = folder_of(paths.root, given.folder)
    run(folder, workers=given.workers, leave=leave)
    print(tell(folder))


def sweep_resume(paths: Paths, given: argparse.Namespace) -> None:
    """Go on with a sweep that was begun."""
    from slimline.sweep.outcome import folder_of
    from slimline.sweep.status import begun

    begun(folder_of(paths.root, given.folder))
    sweep_run(paths, given)


def sweep_status(paths: Paths, given: argparse.Namespace) -> None:
    """Print how far a sweep is."""
    from slimline.sweep.outcome import folder_of
    from slimline.sweep.status import status

    print(status(folder_of(paths.root, given.folder)))


def sweep_front(paths: Paths, given: argparse.Namespace) -> None:
    """Print the front of the trials that are finished."""
    from slimline.sweep.outcome import folder_of
    from slimline.sweep.status import table

    print(table(folder_of(paths.root, given.folder)))
