"""`slimline bits`."""

import argparse

from slimline.commands.command import Commands, amount
from slimline.files import write_bytes, write_csv
from slimline.params.file import load
from slimline.params.quantize import Quantize
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    allocating = commands.add_parser("bits", help="how many bits each layer of a model bears, and which to give it within a budget")
    allocating.add_argument("--model", default="pruned", help="folder under models/ (default: pruned)")
    allocating.add_argument("--widths", default="8,6,5,4,3,2", help="widths that a layer may get (default: 8,6,5,4,3,2)")
    budget = allocating.add_mutually_exclusive_group(required=True)
    budget.add_argument("--bytes", type=amount, help="of all weights, before entropy coding")
    budget.add_argument("--drop", type=amount, help="of validation accuracy, added up over layers: 0.01 is one point")
    allocating.set_defaults(run=bits)


def bits(paths: Paths, given: argparse.Namespace) -> None:
    """Write table and picture of which bits where, and print what to put into params.yaml."""
    from slimline.evaluation.bits import which_bits
    from slimline.report.bits import picture, table

    params = load(paths.params).block("quantize", Quantize)
    rows, chosen, accuracy = which_bits(paths, given.model, given.widths, params.weights, total_bytes=given.bytes, drop=given.drop)
    write_csv(paths.bits_table, (made := table(rows, chosen)), list(made[0]))
    write_bytes(paths.bits_picture, picture(rows, chosen))
    sizes = sum(row.bytes for row in rows if chosen[row.layer] == row.width)
    print("quantize.weights.exceptions:")
    for layer, width in chosen.items():
        print(f'  "{layer}": {width}')
    print(f"# {sizes:,.0f} bytes of weights, {100 * accuracy:.2f} % of the validation images right without training; {paths.bits_picture}")
