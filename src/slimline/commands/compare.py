"""`slimline compare`: two models on the same test images."""

import argparse
import json
import sys

from slimline.commands.command import Commands
from slimline.commands.gate import FAILED
from slimline.params.evaluate import Evaluate
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.paths import MODELS, Paths


def declare(commands: Commands) -> None:
    comparing = commands.add_parser(
        "compare", help="a model against another one on this workspace's test images; exits with 1 if it breaks a limit of evaluate.gates"
    )
    for side, what in (("before", "what it is held to"), ("after", "the model in question")):
        comparing.add_argument(side, help=f"{what}: a model folder, a workspace, a git revision, or . for what is here now")
    comparing.add_argument("--model", choices=MODELS, default="quantized", help="of a workspace or revision (default: %(default)s)")
    comparing.add_argument("--json", action="store_true", help="print JSON")
    comparing.set_defaults(run=compare)


def compare(paths: Paths, given: argparse.Namespace) -> None:
    """Print two models side by side, and what the gates say of the second."""
    import torch

    from slimline.evaluation.versus import versus  # torch and ONNX Runtime: seconds
    from slimline.report.versus import as_text
    from slimline.runtime.revision import model_at

    params = load(paths.params)
    threads = params.block("hardware", Hardware).threads
    torch.set_num_threads(threads)
    with model_at(given.before, paths, given.model) as before, model_at(given.after, paths, given.model) as after:
        found = versus(before, after, paths.prepared, params.block("evaluate", Evaluate), seed=params.seed, threads=threads)
    for name in found["trained_on_other_data"]:
        print(
            f"slimline: {name} learned from other images than are prepared here; where some of them are test images here, it looks too good",
            file=sys.stderr,
        )
    print(json.dumps(found, indent=2) if given.json else as_text(found))
    if found["gates"]["passed"] is False:
        sys.exit(FAILED)
