"""The tables of README.md, from results.json."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimline.evaluation.statistics import median_interval
from slimline.report.record import between, markdown

BEGIN, END = "<!-- results: made by `measure.py record` from results.json -->", "<!-- end of results -->"
CONFIDENCE = 0.95

Processes = list[dict[str, Any]]
Rounds = dict[int, Processes]


def cells(values: Mapping[str, Any], question: str) -> dict[tuple[str, str], Rounds]:
    """What was measured: by name and way, then by round."""
    found: dict[tuple[str, str], Rounds] = {}
    for record in values["records"]:
        if record["question"] == question:
            found.setdefault((record["name"], record["way"]), {})[record["round"]] = record["processes"]
    return dict(sorted(found.items()))


def spread(numbers: list[float], form: str = ".2f") -> str:
    """Median, and its interval from order statistics."""
    middle, low, high = (format(number, form) for number in median_interval(np.array(numbers), CONFIDENCE))
    return f"{middle} ({low}–{high})"


def ratio(above: Rounds, below: Rounds, of: Callable[[Processes], float]) -> str:
    return spread([of(above[turn]) / of(below[turn]) for turn in sorted(above.keys() & below.keys())])


def clock(processes: Processes) -> float:
    return max(p["step_seconds"] for p in processes)


def work(processes: Processes) -> float:
    return max(p["step_work"] for p in processes)


def rate(processes: Processes) -> float:
    return float(processes[0]["images_per_second"])


def synchrony(values: Mapping[str, Any]) -> str:
    found, rows = cells(values, "synchrony"), []
    for (condition, way), rounds in found.items():
        stale: Counter[int] = Counter()
        for processes in rounds.values():
            stale.update({int(age): count for age, count in (processes[0]["staleness"] or {}).items()})
        ages = ", ".join(f"{age}: {count / stale.total():.1%}" for age, count in sorted(stale.items())) or "–"
        accuracies = np.array([processes[0]["validation_accuracy"] for processes in rounds.values()])
        accuracy = f"{accuracies.mean():.2%} ± {accuracies.std(ddof=1) if len(accuracies) > 1 else 0.0:.2%}"
        speed = spread([rate(processes) for processes in rounds.values()], ",.0f")
        against = ratio(rounds, found[condition, "synchronous"], rate)
        rows.append([f"{condition}: {way}", speed, against, accuracy, ages, str(len(rounds))])
    return markdown(["workers: way", "images/s", "to synchronous", "validation accuracy, mean ± sd", "staleness", "seeds"], rows)


def speed(values: Mapping[str, Any]) -> str:
    found, rows = cells(values, "speed"), []
    names = sorted({name for name, _ in found}, key=lambda name: (found[name, "one"][0][0]["parameters"], name))
    for name in names:
        one, apart, data = (found[name, way] for way in ("one", "apart", "data"))
        sums = {turn: [{"step_work": processes[0]["all_reduce_work"]}] for turn, processes in data.items()}
        row = [name, f"{one[0][0]['parameters']:,}", ratio(apart, sums, work)]
        row += [ratio(one, data, work), ratio(one, apart, work), ratio(apart, data, clock), ratio(one, data, clock)]
        row.append(ratio(one, found[name, "pipeline"], clock) if (name, "pipeline") in found else "–")
        rows.append([*row, str(len(data))])
    header = ["network", "parameters", "compute / all-reduce", "speed-up by work", "the same without exchange"]
    header += ["pace kept with exchange", "speed-up on the clock", "pipeline, on the clock", "rounds"]
    return markdown(header, rows)


def memory(values: Mapping[str, Any]) -> str:
    found, rows = cells(values, "memory"), []
    for (name, way), rounds in found.items():
        alone = found[name, "one"]
        whole = alone[0][0]["parameter_bytes"]
        apart = max(float(np.max(np.abs(np.array(p["curve"]) / np.array(alone[turn][0]["curve"]) - 1))) for turn, row in rounds.items() for p in row)
        for rank, process in enumerate(rounds[0]):
            grown = [[row[rank][key] / 1e6 for row in rounds.values()] for key in ("median_growth", "largest_growth")]
            row = [f"{way}, process {rank}", f"{process['parameter_bytes'] / 1e6:.1f} MB", f"{process['parameter_bytes'] / whole:.1%}"]
            row += [f"{process['optimizer_bytes'] / 1e6:.1f} MB", *(f"{np.median(numbers):.0f} MB" for numbers in grown), f"{apart:.1e}"]
            rows.append([*row, str(len(rounds))])
    return markdown(["way", "weights", "share", "momentum", "growth, median", "growth, largest", "losses differ by", "rounds"], rows)


def made(values: Mapping[str, Any]) -> str:
    """How the figures came to be."""
    sessions, loads = values["sessions"], [record["load"] for record in values["records"]]
    machine = sessions[-1]["machine"]
    commits = ", ".join(f"{s['commit'][:12]}{' with changes' if s['dirty'] else ''}" for s in sessions)
    data = "; ".join(f"{name}: {c['train']:,} training, {c['validation']:,} validation images" for name, c in sessions[-1]["images"].items())
    return (
        f"Commits {commits}, {sessions[-1]['date']}; {sessions[-1]['source']} ({data}); {machine['processor']}, {machine['cores']} cores, "
        f"torch {sessions[-1]['torch']}, 1 thread a process; the machine's load average while measuring, other jobs included: "
        f"{min(loads):.1f} to {max(loads):.1f}, median {float(np.median(loads)):.1f}. In brackets: {CONFIDENCE:.0%} interval of the median "
        "(with five rounds or fewer: smallest and largest)."
    )


def renewed(readme: str, values: Mapping[str, Any]) -> str:
    """`readme` with the tables of `values` between its two marks."""
    parts = ["**1. Synchrony**", synchrony(values), "**2. Speed-up**", speed(values), "**3. Memory**", memory(values), made(values)]
    return between(readme, BEGIN, END, "\n\n".join(parts))
