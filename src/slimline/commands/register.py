"""`slimline register` and `slimline rollback`."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slimline.commands.command import Commands, read
from slimline.errors import SlimlineError
from slimline.params.evaluate import Evaluate
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.tracking import Tracking
from slimline.paths import Paths, store_root

SHIPPED, STAGE = "quantized", "quantize"
"""The model that is registered, and the stage that makes it."""

NOT_PROMOTED = 1
"""Exit code where the model is registered, but may not be champion."""


def declare(commands: Commands) -> None:
    registering = commands.add_parser("register", help="register the quantized model; make it champion if its gates pass and it is not worse")
    registering.add_argument("--why", default="slimline register", help="kept with every move of an alias")
    registering.set_defaults(run=register)
    rolling = commands.add_parser("rollback", help="champion and previous of the registered model change places")
    rolling.add_argument("--why", default="slimline rollback", help="kept with the move")
    rolling.set_defaults(run=rollback)


def register(paths: Paths, given: argparse.Namespace) -> None:
    """Register what `quantize` made as challenger, and promote it unless something speaks against it."""
    from slimline.runtime.recorded import recorded
    from slimline.tracking.journal import md5

    card = read(paths.scorecard)["models"].get(SHIPPED)
    if card is None:
        raise SlimlineError(f"{paths.scorecard}: the {SHIPPED} model could not be evaluated, so it is not registered; run dvc repro, which says why")
    _, stages = recorded(paths)
    made = next((one for one in stages if one.stage == STAGE), None)
    if made is None:
        raise SlimlineError(f"dvc.lock has no stage {STAGE}, so there is nothing to register; run dvc repro")
    registry = _registry(paths)
    version = registry.register(made.fingerprint, SHIPPED, md5(paths.model(SHIPPED).packed), card, given.why)
    against = _against(paths, registry, version)
    if against:
        print(f"version {version.version} of {registry.name} is registered, as challenger")
        print(f"slimline: it is not made champion: {against}", file=sys.stderr)
        sys.exit(NOT_PROMOTED)
    registry.promote(version, given.why)
    print(f"version {version.version} of {registry.name} is champion")


def rollback(paths: Paths, given: argparse.Namespace) -> None:
    """Go back to the champion before."""
    champion, previous = _registry(paths).rollback(given.why)
    print(f"version {champion.version} of {champion.name} is champion again, version {previous.version} previous")


def _registry(paths: Paths) -> Any:
    from slimline.tracking.journal import resolved_uri
    from slimline.tracking.registry import Registry

    tracking = load(paths.params).block("tracking", Tracking)
    return Registry(resolved_uri(tracking.uri, store_root(paths.root)), tracking.experiment, tracking.model)


def _against(paths: Paths, registry: Any, version: Any) -> str:
    """What speaks against making `version` the champion; nothing if nothing does."""
    from slimline.runtime.promotion import against
    from slimline.tracking.registry import CHAMPION

    gates = paths.gates
    if not gates.exists():
        return f"{gates} is not there, so no gate has passed; dvc repro evaluate makes it"
    judged = read(gates)
    if judged["passed"] is None:
        return "no gate is set, so none has passed; set evaluate.gates"
    if not judged["passed"]:
        return f"gates failed: {', '.join(name for name, one in judged['gates'].items() if not one['passed'])}; slimline gate says why"
    champion = registry.holder(CHAMPION)
    if champion is None or champion.version == version.version:
        return ""
    params = load(paths.params)
    evaluate = params.block("evaluate", Evaluate)
    margin, confidence = evaluate.margin, evaluate.confidence
    if margin is None:
        return "no margin is set, so it cannot be held against the champion; set evaluate.margin"
    with TemporaryDirectory() as folder:
        network = registry.network(champion, Path(folder))
        pair = against(paths.model(SHIPPED).onnx, network, paths, threads=params.block("hardware", Hardware).threads, confidence=confidence)
    if pair.low >= -margin:
        return ""
    low, high = 100 * pair.low, 100 * pair.high
    found = f"{100 * pair.difference:+.2f} points on {pair.images:,} test images ({confidence:.0%} interval {low:+.2f} to {high:+.2f})"
    return f"against version {champion.version}, the champion: {found}, which may be worse than evaluate.margin allows ({-100 * margin:+.2f})"
