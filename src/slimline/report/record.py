"""A run as a record: `results.json`, and the table in an experiment's README that is made from it.

A record names its commit, its date and its machine. It is not rerun for every change; the table beside it always says the same.
"""

from collections.abc import Mapping
from typing import Any

from slimline.errors import SlimlineError
from slimline.paths import MODELS

BEGIN, END = "<!-- results: made by `slimline record` from results.json -->", "<!-- end of results -->"


def results(scorecard: Mapping[str, Any], latency: Mapping[str, Any], *, seed: int, confidence: float) -> dict[str, Any]:
    """What `results.json` holds: `scorecard` and `latency` as `evaluate` wrote them, commit, date and machine first."""
    timings = {key: latency[key] for key in ("models", "ratios_to_teacher")}
    about = {key: value for key, value in latency.items() if key not in timings}
    return {**about, "seeds": [seed], "confidence": confidence, **scorecard, "latency": timings}


def rows(values: Mapping[str, Any]) -> list[list[str]]:
    """The record as a table: a header, and a row a model."""
    batches = list(values["latency"]["models"]["teacher"])
    header = ["model", "validation", f"test ({values['confidence']:.0%} interval)", "errors", "parameters", "packed bytes", "smaller"]
    header += [f"p50 {batch.replace('_', ' ')}" for batch in batches] + ["faster", "export agrees"]
    return [header, *(_row(name, values, batches) for name in MODELS)]


def made(values: Mapping[str, Any]) -> str:
    """How the figures of a record were made, in a sentence."""
    machine, data = values["machine"], values["data"]
    batch = next(iter(values["latency"]["models"]["teacher"])).replace("_", " ")
    commit = f"Commit {values['commit'][:12]}{', with changes' if values['dirty'] else ''}" if values["commit"] else "No commit"
    return (
        f"{commit}, {values['date']}, seed {', '.join(map(str, values['seeds']))}; n = {data['test']:,} test images of {data['name']}; "
        f"{machine['processor']}, {machine['cores']} cores; latency on {values['runtime']}, {values['threads']} thread(s), "
        f"faster: than the teacher, at {batch}; export agrees: share of test images on which ONNX Runtime and the trained model "
        "name the same class."
    )


def table(values: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    header, *body = rows(values)
    return f"{markdown(header, body)}\n\n{made(values)}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table of texts, its first column left, the others right."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows))


def _row(name: str, values: Mapping[str, Any], batches: list[str]) -> list[str]:
    card, teacher = values["models"][name], values["models"]["teacher"]
    times = values["latency"]["models"][name]
    ratio = values["latency"]["ratios_to_teacher"].get(name, {}).get(batches[0])
    return [
        name,
        f"{card['validation_accuracy']:.2%}",
        f"{card['accuracy']:.2%} ({card['accuracy_low']:.2%}–{card['accuracy_high']:.2%})",
        str(card["errors"]),
        f"{card['params']:,}",
        f"{card['packed_bytes']:,}",
        f"{teacher['packed_bytes'] / card['packed_bytes']:.1f}×",
        *(f"{times[batch]['p50_ms']:.3g} ms" for batch in batches),
        f"{ratio['speed_up']:.2f}× ({ratio['low']:.2f}–{ratio['high']:.2f})" if ratio else "1×",
        f"{card['export_agreement']:.2%}",
    ]


def renewed(readme: str, values: Mapping[str, Any]) -> str:
    """`readme` with the table of `values` between its two marks."""
    return between(readme, BEGIN, END, table(values))


def between(readme: str, begin: str, end: str, content: str) -> str:
    """`readme` with `content` between the lines `begin` and `end`.

    Raises:
        SlimlineError: the lines are missing.
    """
    before, found_begin, rest = readme.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise SlimlineError(f"README.md has no place for results: put the lines '{begin}' and '{end}' in it")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
