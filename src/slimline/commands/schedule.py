"""`slimline schedule` and `slimline healthy`."""

import argparse
import sys

from slimline.commands.command import Commands, amount, count, end_with_terminal
from slimline.errors import SlimlineError
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    scheduling = commands.add_parser("schedule", help="run slimline rerun whenever a cron line is due, until a signal comes")
    scheduling.add_argument(
        "line",
        nargs="+",
        metavar="CRON",
        help='"minute hour day-of-month month day-of-week", as "0 3 * * *"; or @hourly, @daily, @weekly, @monthly, @yearly',
    )
    scheduling.add_argument("--timezone", help="as Europe/Berlin (default: TZ, else this machine's)")
    scheduling.add_argument("--jitter", type=amount, default=0.0, metavar="SECONDS", help="put each run off by up to so long, at random")
    scheduling.add_argument("--now", action="store_true", help="begin with a run")
    scheduling.add_argument("--next", type=count, metavar="N", help="print the next N times and end")
    scheduling.set_defaults(run=schedule)
    asking = commands.add_parser("healthy", help="whether the workspace can be written and its schedule lives; for health checks of containers")
    asking.add_argument("--schedule", action="store_true", help="refuse where no schedule runs on this machine")
    asking.set_defaults(run=healthy)


def schedule(paths: Paths, given: argparse.Namespace) -> None:
    """Keep a schedule, or print when it would be due."""
    from slimline.rerun.cron import Cron, zone_of
    from slimline.rerun.schedule import Schedule

    if len(given.line) > 1:
        raise SlimlineError(f"the cron line is one argument, but these are {len(given.line)}; put it in quotes, as slimline schedule '0 3 * * *'")
    cron = Cron(given.line[0], zone_of(given.timezone), given.jitter)
    if given.next:
        print("\n".join(cron.shown(given.next)))
    else:
        end_with_terminal()
        sys.exit(Schedule(paths, cron).run(now=given.now))


def healthy(paths: Paths, given: argparse.Namespace) -> None:
    """Print when the next run is due; refuse where something is wrong."""
    from slimline.rerun.health import health

    print(health(paths, schedule=given.schedule))
