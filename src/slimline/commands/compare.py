"""`slimline compare`: two models on the same test images."""

import argparse
import json
import sys
from typing import Any

from slimline.commands.command import Commands
from slimline.commands.gate import FAILED
from slimline.params.evaluate import Evaluate
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.paths import MODELS, Paths


def declare(commands: Commands) -> None:
    comparing = commands.add_parser(
        "compare",
        help="a model against another one on this workspace's test images; exits with 1 if it breaks a limit of evaluate.regression, or a gate",
    )
    for side, what in (("before", "what it is held to"), ("after", "the model in question")):
        comparing.add_argument(side, help=f"{what}: a model folder, a workspace, a git revision, or . for what is here now")
    comparing.add_argument("--model", choices=MODELS, default="quantized", help="of a workspace or revision (default: %(default)s)")
    comparing.add_argument("--json", action="store_true", help="print JSON")
    comparing.set_defaults(run=compare)


def compare(paths: Paths, given: argparse.Namespace) -> None:
    """Print two models side by side, and what the limits of evaluate.regression, and of evaluate.gates, say of the second."""
    import torch

    from slimline.evaluation.versus import versus  # torch and ONNX Runtime: seconds
    from slimline.report.versus import as_text
    from slimline.runtime.revision import model_at

    params = load(paths.params)
    evaluate, threads = params.block("evaluate", Evaluate), params.block("hardware", Hardware).threads
    torch.set_num_threads(threads)
    with model_at(given.before, paths, given.model) as before, model_at(given.after, paths, given.model) as after:
        found = versus(before, after, paths.prepared, evaluate, seed=params.seed, threads=threads)
    found["gates"] = _gates(paths, given, evaluate, found)
    for name in found["trained_on_other_data"]:
        print(
            f"slimline: {name} learned from other images than are prepared here; where some of them are test images here, it looks too good",
            file=sys.stderr,
        )
    print(json.dumps(found, indent=2) if given.json else as_text(found))
    if False in (found["regression"]["passed"], found["gates"]["passed"]):
        sys.exit(FAILED)


def _gates(paths: Paths, given: argparse.Namespace, params: Evaluate, found: dict[str, Any]) -> dict[str, Any]:
    """What the limits of evaluate.gates say of the second model by its own run; `why` says why nothing is said."""
    from slimline.evaluation.versus import of_its_run
    from slimline.runtime.revision import measured_at
    from slimline.stages.evaluate import REFERENCE, SHIPPED

    limits = params.gates.limits
    nothing: dict[str, Any] = {"passed": None, "gates": {}, "why": ""}
    if not limits:
        return nothing
    if given.model != SHIPPED:
        return nothing | {"why": f"they are about the {SHIPPED} model"}
    record = measured_at(given.after, paths, {"scorecard": paths.scorecard, "latency": paths.latency})
    if record is None:
        return nothing | {"why": f"{given.after} has nothing of what its run measured (metrics/scorecard.json, metrics/latency.json)"}
    judged = of_its_run(record, found, limits, params.confidence, model=SHIPPED, reference=REFERENCE)
    if judged is None:
        return nothing | {"why": f"metrics/scorecard.json of {given.after} is about another model; run dvc repro there"}
    return judged | {"why": ""}
