"""What an experiment that is a sweep keeps of it, and the tables of its README.md.

    python -m experiments.sweeps record threshold_bits     # environment active, after the sweep; once more after `slimline adopt` and `make repro`

`results.json` is a copy of what the sweep left, with the commit and the machine, and of what came of the model that was adopted; the tables
are made of it alone.
"""

import argparse
import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from experiments.lab import written
from slimline import artifacts
from slimline.data.prepared import describe, load_split
from slimline.evaluation.latency import machine
from slimline.files import write_text
from slimline.paths import ModelFolder, Paths
from slimline.report.record import between, markdown
from slimline.runtime.fingerprint import git_state
from slimline.runtime.outcome import rightly
from slimline.sweep.outcome import BASELINE

ROOT = Path(__file__).resolve().parents[1]
END = "<!-- end of results -->"


def begin(name: str) -> str:
    """The line of README.md before the tables."""
    return f"<!-- results: made by `python -m experiments.sweeps record {name}` from results.json -->"


def gathered(folder: Path, base: Paths) -> dict[str, Any]:
    """What the sweep in `folder` left, and what the last run of `base` made of its promise, if that is of this sweep."""
    commit, dirty = git_state(folder)
    session = {"commit": commit, "dirty": dirty, "date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__, "machine": machine()}
    trials = json.loads((folder / "trials.json").read_text())
    best = YAML(typ="safe", pure=True).load((folder / "best.yaml").read_text())
    with (folder / "front.csv").open(newline="") as file:
        front = list(csv.DictReader(file))
    rungs = {name: {"trials": len(rows), "infeasible": sum(not row["scores"] for row in rows)} for name, rows in trials["rungs"].items()}
    promise = json.loads(base.scorecard.read_text()).get("promise") if base.scorecard.exists() else None
    outcome = promise if promise is not None and (promise["sweep"], promise["trial"]) == (best["sweep"], best["trial"]) else None
    about = {"session": session, "images": describe(base.prepared).counts, "rungs": rungs, "student": trials["student"]}
    return {**about, "best": best, "front": front, "tested": _tested(folder, base, best), "outcome": outcome}


def _tested(folder: Path, base: Paths, best: dict[str, Any]) -> dict[str, int]:
    """How many test images the recommended trial's own model names rightly, and the baseline's: looked at when all is chosen.

    Models are kept under the digest of code, too, which may have changed since; so the one is looked for that has the bytes of the recommended.
    """
    images = load_split(base.prepared, "test")
    kept = Paths(folder).scratch.glob(f"sweep/*/models/*/{best['trial']}")
    found = [path for path in kept if ModelFolder(path).packed.stat().st_size == best["scores"]["packed_bytes"]]
    folders = {"recommended": found[0], BASELINE: found[0].with_name(BASELINE)} if found else {}
    return {name: int(rightly(artifacts.load(ModelFolder(path))[1], images).sum()) for name, path in folders.items() if path.exists()}


def said(results: Path) -> str:
    """The tables, and how they came to be."""
    if not results.exists():
        return "Not run in full yet."
    values = json.loads(results.read_text())
    rungs = "; ".join(f"{name}: {one['trials']} trials, {one['infeasible']} of them infeasible" for name, one in values["rungs"].items())
    parts = [f"{rungs}. The front of the last:", _front(values), _recommended(values)]
    if values["tested"]:
        parts.append(_looked_at(values))
    if values["outcome"] is not None:
        parts.append(_outcome(values["outcome"]))
    return "\n\n".join([*parts, _made(values)])


def _looked_at(values: dict[str, Any]) -> str:
    images, tested, promise = values["images"]["test"], values["tested"], values["best"]["promise"]
    share = tested["recommended"] / images
    kept = promise["test_accuracy_low"] <= share <= promise["test_accuracy_high"]
    return (
        f"The test images, looked at afterwards: {share:.2%} by the trial's own model, which lies {'within' if kept else 'outside of'} what was "
        f"promised{f'; {tested[BASELINE] / images:.2%} by that of baseline.yaml' if BASELINE in tested else ''}."
    )


def _front(values: dict[str, Any]) -> str:
    rows = values["front"]
    known = ("trial", "recommended", "validation_accuracy", "packed_bytes", "bops", "macs", "params", "nonzero_params", "latency_ms")
    parameters = [name for name in rows[0] if name not in known]
    table = []
    for row in rows:
        mark = f"**{row['trial']}**" if row["recommended"] == "1" else row["trial"]
        found = [f"{float(row['validation_accuracy']):.2%}", f"{float(row['packed_bytes']):,.0f}", f"{float(row['bops']) / 1e6:,.1f}"]
        table.append([mark, *(_value(row[name]) for name in parameters), *found, f"{float(row['latency_ms']):.3f}"])
    student = values["student"]
    own = [f"{student['validation_accuracy']:.2%}", f"{student['packed_bytes']:,.0f}", f"{student['bops'] / 1e6:,.1f}", ""]
    table.append(["student", *("" for _ in parameters), *own])
    return markdown(["trial", *parameters, "accuracy, images that choose", "bytes", "million bit operations", "ms an image"], table)


def _value(text: str) -> str:
    return f"{float(text):.4g}" if "." in text else text


def _recommended(values: dict[str, Any]) -> str:
    best = values["best"]
    promise, against = best["promise"], best["against_student"]
    lines = [
        f"Recommended is trial {best['trial']}: {promise['accuracy']:.2%} of the {promise['images']} validation images on which no trial was "
        f"selected (95 % interval {promise['low']:.2%} to {promise['high']:.2%}), {100 * against['difference']:+.2f} points against the student "
        f"({100 * against['low']:+.2f} to {100 * against['high']:+.2f}). Promised of the {promise['test_images']} test images: "
        f"{promise['test_accuracy_low']:.2%} to {promise['test_accuracy_high']:.2%}."
    ]
    if "against_baseline" in best:
        pair = best["against_baseline"]
        rows = [["baseline.yaml", *(_score(name, value) for name, value in pair["scores"].items())]]
        own = {**best["scores"], "validation_accuracy": promise["accuracy"]}
        rows.append([f"trial {best['trial']}", *(_score(name, own[name]) for name in pair["scores"])])
        lines += [
            "Beside the hand-set default, made in the same way; accuracies are those of the images on which nothing was selected:",
            markdown(["model", *pair["scores"]], rows),
            f"Difference in accuracy {100 * pair['accuracy']['difference']:+.2f} points ({100 * pair['accuracy']['low']:+.2f} to "
            f"{100 * pair['accuracy']['high']:+.2f}, paired). Better in one objective and worse in none: {'yes' if pair['dominates'] else 'no'}.",
        ]
    return "\n\n".join(lines)


def _score(name: str, value: float) -> str:
    return f"{value:.2%}" if name == "validation_accuracy" else f"{value:,.0f}"


def _outcome(told: dict[str, Any]) -> str:
    promised, obtained = told["promised"], told["obtained"]
    low, high = promised["accuracy"]
    rows = [["test accuracy", f"{low:.2%} to {high:.2%}", f"{obtained['accuracy']:.2%}"]]
    rows += [[name, f"{promised[name]:,}", f"{obtained[name]:,}"] for name in ("packed_bytes", "bops")]
    return f"Adopted and built by the pipeline, the test accuracy is {told['accuracy']} what was promised:\n\n" + markdown(
        ["", "promised", "obtained"], rows
    )


def _made(values: dict[str, Any]) -> str:
    session = values["session"]
    counts = ", ".join(f"{count:,} {split}" for split, count in values["images"].items())
    commit = f"{session['commit'][:12]}{' with changes' if session['dirty'] else ''}"
    about = f"{session['machine']['processor']}, {session['machine']['cores']} cores, torch {session['torch']}"
    return f"Commit {commit}; {session['date']}; one seed; digits: {counts} images; {about}."


def renewed(folder: Path) -> str:
    """README.md with what results.json says."""
    return between((folder / "README.md").read_text(), begin(folder.name), END, said(folder / "results.json"))


def main() -> None:
    """Write results.json and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("record",))
    parser.add_argument("name")
    folder = ROOT / "experiments" / parser.parse_args().name
    write_text(folder / "results.json", written(gathered(folder, Paths(ROOT))))
    write_text(folder / "README.md", renewed(folder))


if __name__ == "__main__":
    main()
