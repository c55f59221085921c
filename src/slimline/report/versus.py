"""Two models side by side, as a reader at a terminal takes it."""

from collections.abc import Mapping
from typing import Any

from slimline.evaluation.gates import table as gates_table
from slimline.evaluation.versus import AFTER, BEFORE
from slimline.report.numbers import aligned, count, milliseconds, p_value, percent, points, times
from slimline.report.words import batch, reading

COUNTS = ("errors", "params", "nonzero_params", "macs", "bops", "packed_bytes", "onnx_bytes")


def as_text(found: Mapping[str, Any]) -> str:
    """What `evaluation.versus` found."""
    data, cards, timed = found["data"], found["models"], found["latency"]
    test, pair = data["test"], found["comparisons"][f"{AFTER}_vs_{BEFORE}"]
    rows = [["", BEFORE, AFTER]]
    rows.append(["validation accuracy", *(percent(card["validation_accuracy"], data["validation"]) for card in cards.values())])
    rows.append(["test accuracy", *(percent(card["accuracy"], test) for card in cards.values())])
    rows.append(["  interval", *(f"{percent(card['accuracy_low'], test)} to {percent(card['accuracy_high'], test)}" for card in cards.values())])
    rows += [[key.replace("_", " "), *(count(card[key]) for card in cards.values())] for key in COUNTS]
    rows += [["calibration error", *(percent(card["ece"], test) for card in cards.values())]]
    rows += [["negative log-likelihood", *(f"{card['nll']:.4f}" for card in cards.values())]]
    for key in timed["models"][BEFORE]:
        rows.append([f"p50 at {batch(key)}, ms", *(milliseconds(timed["models"][name][key]["p50_ms"]) for name in cards)])
    parts = [aligned(rows)]
    parts.append(
        f"{AFTER} against {BEFORE} on {count(test)} test images: {reading(pair)}. {points(pair['difference'], test)} points of accuracy "
        f"({points(pair['low'], test)} to {points(pair['high'], test)}); {AFTER} alone right on {count(pair['only_first'])}, {BEFORE} alone on "
        f"{count(pair['only_second'])}, p {p_value(pair['p_value'])}; they answer differently on {count(found['disagreements']['images'])}."
    )
    ratios = timed[f"ratios_to_{BEFORE}"][AFTER]
    parts.append(
        "\n".join(
            f"{AFTER} at {batch(key)}: {one['verdict']}, {times(one['speed_up'])} the speed ({times(one['low'])} to {times(one['high'])})."
            for key, one in ratios.items()
        )
    )
    if found["regression"]["gates"]:
        parts.append(f"{AFTER} against {BEFORE} (evaluate.regression):\n{gates_table(found['regression'])}")
    gates = found["gates"]
    if gates["gates"]:
        parts.append(f"{AFTER} against its teacher, by the figures of its own run (evaluate.gates):\n{gates_table(gates)}")
    elif gates["why"]:
        parts.append(f"evaluate.gates, limits against the teacher, are not judged: {gates['why']}.")
    return "\n\n".join(parts)
