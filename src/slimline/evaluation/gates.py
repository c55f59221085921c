"""Gates: whether a compressed model may be shipped, or take another one's place, judged by what was measured and by the worse end of its
interval."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from slimline.evaluation.statistics import images_for

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What a gate looks at.

    Args:
        value: the figure.
        worst: the end of its interval that is against the model; the figure itself where no interval is known.
        noise: whether no more than the machine's noise was seen, so that the worse end is held against nobody.
    """

    value: float
    worst: float
    noise: bool = False


@dataclass(frozen=True)
class Sides:
    """One model against another: the scorecard, the latencies (None: not measured), and both names."""

    scorecard: Numbers
    latency: Numbers | None
    model: str
    reference: str

    @property
    def pair(self) -> Numbers:
        return self.scorecard["comparisons"][f"{self.model}_vs_{self.reference}"]


@dataclass(frozen=True)
class Gate:
    """How a limit is judged.

    Args:
        find: what it looks at; None where that was not measured.
        at_most: whether the limit is an upper one.
        percent: whether figures are shares.
    """

    find: Callable[[Sides], Measured | None]
    at_most: bool
    percent: bool = False


@dataclass(frozen=True)
class Judged:
    """A gate after a run; `why` says in words what failed, or for what reason it passed beyond its limit."""

    limit: float
    value: float | None
    worst: float | None
    passed: bool
    why: str


def accuracy_drop(of: Sides) -> Measured:
    """Test accuracy lost, with the upper end of its interval."""
    return Measured(-of.pair["difference"], -of.pair["low"])


def size_ratio(of: Sides) -> Measured:
    """Times that the packed file is smaller. Bytes are counted, so there is no interval."""
    ratio = of.scorecard["models"][of.reference]["packed_bytes"] / of.scorecard["models"][of.model]["packed_bytes"]
    return Measured(ratio, ratio)


def latency_ms(of: Sides) -> Measured | None:
    """Median milliseconds of a call with one image, with the upper end of its interval."""
    if of.latency is None:
        return None
    timed = of.latency["models"][of.model]["batch_1"]
    return Measured(timed["p50_ms"], timed["p50_ms"] if timed["p50_high_ms"] is None else timed["p50_high_ms"])


def speed_up(of: Sides) -> Measured | None:
    """Times that a call with one image is faster, with the lower end of its interval."""
    if of.latency is None:
        return None
    ratio = of.latency[f"ratios_to_{of.reference}"][of.model]["batch_1"]
    return Measured(ratio["speed_up"], ratio["low"])


def ece(of: Sides) -> Measured:
    """Expected calibration error. Chance makes it larger rather than smaller, so no interval is added."""
    found = of.scorecard["models"][of.model]["ece"]
    return Measured(found, found)


def robustness_drop(of: Sides) -> Measured | None:
    """Accuracy lost under all attacks of a measure within a budget, with the upper end of its interval: the largest of all budgets."""
    rows = [row for row in of.scorecard.get("robustness", ()) if (row["first"], row["second"]) == (of.model, of.reference)]
    worst = min(rows, key=lambda row: row["low"], default=None)
    return None if worst is None else Measured(-worst["difference"], -worst["low"])


def size_growth(of: Sides) -> Measured:
    """Share by which the packed file is larger. Bytes are counted, so there is no interval."""
    cards = of.scorecard["models"]
    growth = cards[of.model]["packed_bytes"] / cards[of.reference]["packed_bytes"] - 1
    return Measured(growth, growth)


def slow_down(of: Sides) -> Measured | None:
    """Share by which a call takes longer, with the upper end of its interval: at the batch size at which that is largest.

    Batch sizes at which nothing but noise is seen (`evaluation.latency.verdict`) are heeded where there are no others alone.
    """
    if of.latency is None:
        return None
    ratios = of.latency[f"ratios_to_{of.reference}"][of.model].values()
    found = [Measured(1 / one["speed_up"] - 1, 1 / one["low"] - 1, one["verdict"] != "slower") for one in ratios]
    return max(found, key=lambda one: (not one.noise, one.worst))


def ece_rise(of: Sides) -> Measured:
    """How much the expected calibration error is larger. Chance raises that of both models, so no interval is added."""
    cards = of.scorecard["models"]
    rise = cards[of.model]["ece"] - cards[of.reference]["ece"]
    return Measured(rise, rise)


GATES: Mapping[str, Gate] = {
    "accuracy_drop": Gate(accuracy_drop, at_most=True, percent=True),
    "size_ratio": Gate(size_ratio, at_most=False),
    "latency_ms": Gate(latency_ms, at_most=True),
    "speed_up": Gate(speed_up, at_most=False),
    "ece": Gate(ece, at_most=True, percent=True),
    "robustness_drop": Gate(robustness_drop, at_most=True, percent=True),
    "size_growth": Gate(size_growth, at_most=True, percent=True),
    "slow_down": Gate(slow_down, at_most=True, percent=True),
    "ece_rise": Gate(ece_rise, at_most=True, percent=True),
}
"""By the names that they have in params.yaml (evaluate.gates and evaluate.regression)."""


def judge(limits: Mapping[str, float], of: Sides, confidence: float) -> dict[str, Any]:
    """`metrics/gates.json`: each limit, what was found, and whether it holds. What was not measured passes no gate.

    Args:
        limits: by names of GATES.
    """
    gates = {name: _judged(name, limit, of, confidence) for name, limit in limits.items()}
    return {
        "model": of.model,
        "reference": of.reference,
        "confidence": confidence,
        "passed": all(one.passed for one in gates.values()) if gates else None,
        "gates": {name: asdict(one) for name, one in gates.items()},
    }


def _judged(name: str, limit: float, of: Sides, confidence: float) -> Judged:
    gate = GATES[name]
    measured = gate.find(of) if {of.model, of.reference} <= set(of.scorecard["models"]) else None
    if measured is None:
        return Judged(limit, None, None, False, "not measured")

    def holds(value: float) -> bool:
        return value <= limit if gate.at_most else value >= limit

    if holds(measured.worst):
        return Judged(limit, measured.value, measured.worst, True, "")
    if measured.noise:
        return Judged(limit, measured.value, measured.worst, True, "no more than the machine's noise")
    why = "beyond the limit"
    if holds(measured.value):
        why = f"not shown: at {100 * confidence:g} % confidence it may be {shown(name, measured.worst)}"
        if name == "accuracy_drop":
            pair = of.pair
            needed = images_for(limit, (pair["only_first"] + pair["only_second"]) / pair["images"], confidence)
            why += f"; a limit of {shown(name, limit)} takes about {needed:,} test images, here are {pair['images']:,}"
    return Judged(limit, measured.value, measured.worst, False, why)


def shown(name: str, value: float) -> str:
    """A figure of the gate `name`, for a reader."""
    return f"{100 * value:z.2f} %" if GATES[name].percent else f"{value:.4g}"


def table(judged: Numbers) -> str:
    """What passed and what failed, a line a gate."""
    rows = []
    for name, one in judged["gates"].items():
        word, sign = ("passed" if one["passed"] else "FAILED"), ("≤" if GATES[name].at_most else "≥")
        found = "–" if one["value"] is None else shown(name, one["value"])
        if one["worst"] not in (None, one["value"]):
            found += f" (at worst {shown(name, one['worst'])})"
        rows.append(f"{word}  {name:<16}{found}; limit {sign} {shown(name, one['limit'])}{': ' if one['why'] else ''}{one['why']}")
    return "\n".join(rows)
