"""A sampler's front against that of random search at equal trials; the question and the answers stand in README.md.

    python -m experiments.sweep_samplers.measure           # environment active, after make repro; ten minutes on one free core
    python -m experiments.sweep_samplers.measure record    # the table of README.md, from results.json

Searches that were interrupted go on; what results.json has is not measured again. `--seeds 1 --home FOLDER` is a trial.
"""

from pathlib import Path

from ruamel.yaml import YAML

from experiments.lab import Lab, command
from experiments.sweep_samplers import tables
from experiments.sweep_samplers.tables import OBJECTIVES, SAMPLERS
from slimline.paths import Paths
from slimline.sweep.driver import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEEDS = 8


def measure(_archive: Path, home: Path, seeds: int, trials: int | None) -> None:
    lab = Lab(home, Paths(ROOT).prepared, "digits")
    for seed in range(seeds):
        for name, sampler in SAMPLERS.items():
            if lab.record(name, seed) is None:
                found = run(sweep(home, name, seed, sampler, trials)).rungs["search"]
                scores = [[one.scores[objective] for objective in OBJECTIVES] for one in found if one.scores]
                lab.add(name, seed, {"trials": len(found), "scores": scores})


def sweep(home: Path, name: str, seed: int, sampler: dict[str, str], trials: int | None) -> Path:
    """The folder of the search of ../threshold_bits, by another sampler and without constraints, which would draw it to a part of the front."""
    yaml = YAML()
    values = yaml.load(HERE.parent / "threshold_bits" / "sweep.yaml")
    values |= {"base": str(ROOT), "seed": seed, "sampler": sampler, "constraints": {}, "workers": 1}
    values["budget"] = {"trials": trials or values["budget"]["trials"], "short": 0, "full": False}
    folder = home / ".slimline" / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    yaml.dump(values, folder / "sweep.yaml")
    return folder


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "digits.md", HERE, SEEDS, measure, tables.renewed))
