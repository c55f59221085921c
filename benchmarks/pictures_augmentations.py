"""Draw docs/images/augmentations.png: eight digits, and what each augmentation and mix makes of them.

python benchmarks/pictures_augmentations.py          # in the repository, environment active
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, arange, from_numpy

from slimline.core.draws import Draws
from slimline.data.augment import AUGMENTATIONS
from slimline.data.mix import MIXES
from slimline.registry import build

DIGITS = 8
SIDE = 28
AUGMENTED: tuple[Mapping[str, Any], ...] = (
    {"name": "flip"},
    {"name": "shift", "pixels": 6},
    {"name": "crop", "area": 0.3},
    {"name": "rotate", "degrees": 40.0},
    {"name": "affine", "degrees": 20.0, "scale": [0.6, 1.2], "shear": 30.0},
    {"name": "cutout", "size": 0.4},
    {"name": "noise", "std": 0.15},
)
MIXED: tuple[Mapping[str, Any], ...] = ({"name": "mixup", "alpha": 1.0}, {"name": "cutmix"})


def rows() -> dict[str, Tensor]:
    """Images by the title of their row."""
    digits = from_numpy(load_digits().images[: 2 * DIGITS]).float()[:, None] / 16
    images, partners = F.interpolate(digits, (SIDE, SIDE), mode="bicubic").clamp(0, 1).chunk(2)
    samples, draws = arange(DIGITS), Draws(0, 0, "picture")
    shown = {"as they are": images}
    for spec in AUGMENTED:
        shown[title(spec)] = build(AUGMENTATIONS, spec, draws)(images, samples)
    shown["partners"] = partners
    for spec in MIXED:
        shown[title(spec)] = build(MIXES, spec, draws)(images, partners, samples)[0]
    return shown


def title(spec: Mapping[str, Any]) -> str:
    parameters = "\n".join(f"{key}: {value}" for key, value in spec.items() if key != "name")
    return f"{spec['name']}\n{parameters}" if parameters else str(spec["name"])


def main() -> None:
    shown = rows()
    figure, places = plt.subplots(len(shown), DIGITS, figsize=(8.4, 0.82 * len(shown)))
    for row, (name, images) in zip(places, shown.items(), strict=True):
        row[0].text(-0.25, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=8)
        for place, image in zip(row, images, strict=True):
            place.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            place.set(xticks=[], yticks=[])
    figure.subplots_adjust(left=0.2, right=0.99, top=0.995, bottom=0.005, wspace=0.05, hspace=0.05)
    figure.savefig(Path(__file__).parents[1] / "docs/images/augmentations.png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
