"""The pictures of README.md, from results.json."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from tables import cells, rate, work

from slimline.report.drawing import color, marker, png

WAYS = ("local_sgd", "asynchronous")
WORKERS = {"even": "even workers", "slow": "one slow worker"}


def synchrony(values: Mapping[str, Any]) -> bytes:
    """Speed against synchronous descent, a point a seed, and how old gradients were."""
    found = cells(values, "synchrony")
    conditions = sorted({condition for condition, _ in found})

    def draw(figure: Figure) -> None:
        speed, ages = figure.subplots(1, 2)
        places = [(condition, way) for condition in conditions for way in WAYS]
        for place, (condition, way) in enumerate(places):
            together = found[condition, "synchronous"]
            ratios = [rate(processes) / rate(together[turn]) for turn, processes in found[condition, way].items()]
            index = WAYS.index(way)
            speed.plot([place] * len(ratios), ratios, marker(index), color=color(index), fillstyle="none")
        speed.axhline(1, color="0.5", linewidth=0.8)
        speed.set_xticks(range(len(places)), [f"{way.replace('_', ' ')}\n{WORKERS[condition]}" for condition, way in places], fontsize=7)
        speed.set_ylabel("images/s to synchronous")
        speed.set_yscale("log")
        speed.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
        speed.minorticks_off()
        for index, condition in enumerate(conditions):
            counts: Counter[int] = Counter()
            for processes in found[condition, "asynchronous"].values():
                counts.update({int(age): count for age, count in processes[0]["staleness"].items()})
            at = np.array(sorted(counts))
            ages.bar(at + 0.4 * index - 0.2, [counts[age] / counts.total() for age in at], 0.4, color=color(index), label=WORKERS[condition])
        ages.set_xlabel("staleness: others' updates between pull and push")
        ages.set_ylabel("share of gradients")
        ages.legend()

    return png(draw, width=8.0, height=3.0)


def speed(values: Mapping[str, Any]) -> bytes:
    """Speed-up by work against parameters, and against computation per exchanged number."""
    found = cells(values, "speed")
    names = sorted({name for name, _ in found})

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for name in names:
            one, apart, data = (found[name, way] for way in ("one", "apart", "data"))
            turns = sorted(data)
            gain = float(np.median([work(one[turn]) / work(data[turn]) for turn in turns]))
            dense = float(np.median([work(apart[turn]) / data[turn][0]["all_reduce_work"] for turn in turns]))
            kind = int(name.startswith("convolutional"))
            for axes, x in ((left, one[0][0]["parameters"]), (right, dense)):
                axes.plot(x, gain, marker(kind), color=color(kind))
                axes.annotate(name.partition(" ")[2].replace("batch ", "b"), (x, gain), textcoords="offset points", xytext=(5, 3), fontsize=6)
        for axes, label in ((left, "parameters"), (right, "compute / all-reduce")):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.minorticks_off()
            axes.set_xlabel(label)
            axes.axhline(1, color="0.5", linewidth=0.8)
            axes.margins(x=0.2)
        left.set_ylabel("speed-up of two processes, by work")
        for kind, label in enumerate(("perceptrons", "convolutional networks")):
            right.plot([], [], marker(kind), color=color(kind), label=label)
        right.legend()

    return png(draw, width=8.0, height=3.0)
