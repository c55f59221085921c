"""A run as a record: `results.json`, and the table in an experiment's README that is made from it.

A record names its commit, its date and its machine. It is not rerun for every change; the table beside it always says the same.
"""

from collections.abc import Mapping
from typing import Any

from slimline.errors import SlimlineError
from slimline.paths import MODELS

BEGIN, END = "<!-- results: made by `slimline record` from results.json -->", "<!-- end of results -->"


def results(scorecard: Mapping[str, Any], latency: Mapping[str, Any], *, seed: int, confidence: float, commit: str, date: str) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
        scorecard, latency: as `evaluate` wrote them.
        commit: of the code that ran.
        date: ISO 8601.
    """
    return {
        "commit": commit,
        "date": date,
        "seeds": [seed],
        "confidence": confidence,
        "machine": latency["machine"],
        "threads": latency["threads"],
        "runtime": latency["runtime"],
        **scorecard,
        "latency": {"models": latency["models"], "ratios_to_teacher": latency["ratios_to_teacher"]},
    }


def table(values: Mapping[str, Any]) -> str:
    """The record as Markdown: a line on how it was made, and a row a model."""
    machine, data = values["machine"], values["data"]
    batches = list(values["latency"]["models"]["teacher"])
    header = ["model", "validation", f"test ({values['confidence']:.0%} interval)", "errors", "parameters", "packed bytes", "smaller"]
    header += [f"p50 {batch.replace('_', ' ')}" for batch in batches] + ["faster", "export agrees"]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    rows += [_row(name, values, batches) for name in MODELS]
    made = (
        f"Commit `{values['commit'][:12]}`, {values['date']}, seed {', '.join(map(str, values['seeds']))}; n = {data['test']:,} test images; "
        f"{machine['processor']}, {machine['cores']} cores; latency on {values['runtime']}, {values['threads']} thread(s), "
        f"“faster” at {batches[0].replace('_', ' ')}; “export agrees”: share of test images on which ONNX Runtime and the trained model "
        "name the same class."
    )
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", made])


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
    """`readme` with the table of `values` between its two marks.

    Raises:
        SlimlineError: the marks are missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SlimlineError(f"README.md has no place for results: put the lines '{BEGIN}' and '{END}' in it")
    return f"{before}{BEGIN}\n\n{table(values)}\n\n{END}{after}"
