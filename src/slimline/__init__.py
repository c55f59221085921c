"""slimline: a small, fast classifier from a folder of images, with the proof."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__version__ = "0.1.0"


def load(path: str | Path) -> "nn.Module":
    """The network in a packed file, `model.slim`: images, float32 [batch channels height width] in [0, 1], to logits.

    Raises:
        SlimlineError: missing, truncated, altered or foreign.
    """
    from slimline.artifacts import load_packed  # imports torch, which `import slimline` should not cost

    return load_packed(Path(path))[1]
