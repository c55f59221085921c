"""The verdict's first line: whether the model passed the gates that were set, and each of them."""

from dataclasses import dataclass

from slimline.evaluation.gates import GATES, shown
from slimline.report.numbers import count
from slimline.report.words import Numbers

TITLES = {
    "accuracy_drop": "test accuracy lost",
    "size_ratio": "times smaller",
    "latency_ms": "milliseconds for one image",
    "speed_up": "times faster at one image",
    "ece": "calibration error",
    "robustness_drop": "accuracy lost under attack",
}


@dataclass(frozen=True)
class Line:
    """One gate: what it found, its limit, and why it failed."""

    text: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """All of them; `mood` is "good", "worse", or "open" where none is set."""

    title: str
    mood: str
    lines: list[Line]


def verdict(judged: Numbers) -> Verdict:
    """What `metrics/gates.json` says, failures first."""
    gates = judged["gates"]
    if not gates:
        return Verdict("No gates are set (evaluate.gates): whether this is enough is for you to judge.", "open", [])
    failed = sum(not one["passed"] for one in gates.values())
    title = f"Fails {count(failed)} of {_gates(len(gates))}" if failed else f"Passes {'all ' if len(gates) > 1 else ''}{_gates(len(gates))}"
    lines = sorted((_line(name, one) for name, one in gates.items()), key=lambda line: line.passed)
    return Verdict(title, "worse" if failed else "good", lines)


def _gates(number: int) -> str:
    return "1 gate" if number == 1 else f"{count(number)} gates"


def _line(name: str, one: Numbers) -> Line:
    found = "" if one["value"] is None else f": {shown(name, one['value'])}"
    worst = "" if one["worst"] in (None, one["value"]) else f", at worst {shown(name, one['worst'])}"
    limit = f"limit {'at most' if GATES[name].at_most else 'at least'} {shown(name, one['limit'])}"
    why = f": {one['why']}" if one["why"] else ""
    return Line(f"{TITLES[name].capitalize()}{found}{worst} ({limit}){why}".replace(" -", " \u2212"), one["passed"])
