"""slimline's intervals and tests beside those of statsmodels, on random tables.

    python benchmarks/intervals.py       # environment active; seconds. statsmodels goes into a folder of its own:
                                         # pip install --no-deps --target FOLDER statsmodels patsy, with FOLDER in PYTHONPATH

Tables of 1 to 5,000 images on which two models disagree on any number, lists of 1 to 20 p-values, confidences from 0.5 to 0.999: the largest
difference of Wilson's interval, of the exact McNemar test and of Holm's correction is told. Tango's interval is not in statsmodels; that
its ends are what its score test just does not refute is a property test (tests/property/test_statistics_laws.py). The last line is one JSON
object.
"""

import json
import sys
from collections.abc import Callable

import numpy as np

from slimline.evaluation.statistics import compared, holm, wilson

try:
    import statsmodels
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint
except ModuleNotFoundError as error:
    sys.exit(f"{error}; the head of this file says how it is installed")

TABLES = 2000
BAR = 1e-9
"""Largest difference that rounding explains."""


def apart(ours: object, theirs: object) -> float:
    return float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float))))


def wilsons(rng: np.random.Generator) -> float:
    images = int(rng.integers(1, 5001))
    right, confidence = int(rng.integers(0, images + 1)), rng.uniform(0.5, 0.999)
    return apart(wilson(right, images, confidence), proportion_confint(right, images, alpha=1 - confidence, method="wilson"))


def mcnemars(rng: np.random.Generator) -> float:
    images = int(rng.integers(1, 5001))
    first, second, both, _ = rng.multinomial(images, rng.dirichlet([0.3, 0.3, 1, 1]))
    table = [[both, first], [second, images - both - first - second]]
    return apart(compared(int(first), int(second), images, 0.95).p_value, mcnemar(table, exact=True).pvalue)


def holms(rng: np.random.Generator) -> float:
    p_values = rng.uniform(0, 1, int(rng.integers(1, 21))) ** 3
    return apart(holm(list(p_values)), multipletests(p_values, method="holm")[1])


COMPARED: dict[str, Callable[[np.random.Generator], float]] = {"Wilson": wilsons, "exact McNemar": mcnemars, "Holm": holms}


def main() -> int:
    rng = np.random.default_rng(0)
    largest = {name: max(difference(rng) for _ in range(TABLES)) for name, difference in COMPARED.items()}
    for name, value in largest.items():
        print(f"{name:14} largest difference on {TABLES:,} tables: {value:.2g}")
    ok = max(largest.values()) <= BAR
    print(json.dumps({"statsmodels": statsmodels.__version__, "tables": TABLES, "largest_difference": largest, "bar": BAR, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
