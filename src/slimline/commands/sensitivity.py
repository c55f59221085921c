"""`slimline sensitivity`."""

import argparse
from dataclasses import asdict

from slimline.commands.command import Commands, amount
from slimline.files import write_bytes, write_csv
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune
from slimline.paths import Paths

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Of each layer, that `sensitivity` tries."""


def declare(commands: Commands) -> None:
    sensing = commands.add_parser("sensitivity", help="accuracy of the student when single layers are pruned, as CSV and as a picture")
    sensing.add_argument("--points", type=amount, default=1.0, help="of accuracy that a layer may cost in the limits printed (default: %(default)s)")
    sensing.set_defaults(run=sensitivity)


def sensitivity(paths: Paths, given: argparse.Namespace) -> None:
    """Prune the student's layers one by one, as block `prune` says; write what that costs, and print the limits that follow."""
    from slimline.pruning.sensitivity import limits
    from slimline.report.sensitivity import picture
    from slimline.runtime.settings import Settings
    from slimline.stages.prune import sensitivities

    params = load(paths.params)
    rows = sensitivities(params.block("prune", Prune), Settings(params.seed, params.block("hardware", Hardware)), paths, FRACTIONS)
    write_csv(paths.sensitivity, [asdict(row) for row in rows], ["layer", "fraction", "accuracy"])
    write_bytes(paths.sensitivity_picture, picture([(row.layer, row.fraction, row.accuracy) for row in rows]))
    allowed = ", ".join(f"{layer}: {fraction:.4g}" for layer, fraction in limits(rows, given.points).items())
    print(f"{paths.sensitivity}\n{paths.sensitivity_picture}\nlimits: {{{allowed}}}   # for prune.granularity: {given.points:g} points a layer")
