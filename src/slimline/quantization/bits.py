"""From a width, as params.yaml gives it, to the record of a grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from slimline.errors import SlimlineError
from slimline.registry import suggestion

Bits = int | str
"""2 to 8: integers. 1: signs (`quantization.binarize`, not a grid). 32, 16, "bf16", "e4m3", "e5m2": floating-point numbers."""

FLOATS: Mapping[Bits, str] = {32: "float32", 16: "float16", "bf16": "bfloat16", "e4m3": "e4m3", "e5m2": "e5m2"}


@dataclass(frozen=True)
class Choice:
    """Which grids the weights, or the activations, of a network get.

    Args:
        bits: of all of them,
        exceptions: but of those whose name fits a pattern (of several that fit, the last one counts).
        symmetric: integers without zero point.
        per_channel: a scale an output channel, else one a tensor (activations have no other).
        codebook: integers are numbers of shared values.
    """

    bits: Bits
    exceptions: Mapping[str, Bits] = field(default_factory=dict)
    symmetric: bool = True
    per_channel: bool = False
    codebook: bool = False

    def bits_of(self, names: list[str], what: str) -> dict[str, Bits]:
        """The width of each of `names`.

        Raises:
            SlimlineError: a pattern that fits none of them.
        """
        for pattern in self.exceptions:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise SlimlineError(f"no {what} fits the pattern '{pattern}'; {suggestion(pattern, names)}")
        return {name: next((b for p, b in reversed([*self.exceptions.items()]) if fnmatchcase(name, p)), self.bits) for name in names}

    def record(self, bits: Bits, *, zero: bool = False) -> dict[str, Any]:
        """The grid of `bits` bits.

        Args:
            zero: whether a codebook needs exactly 0.
        """
        if bits in FLOATS:
            return {"kind": "float", "type": FLOATS[bits], "per_channel": self.per_channel}
        if self.codebook:
            return {"kind": "codebook", "bits": bits, "zero": zero}
        return {"kind": "integer", "bits": bits, "symmetric": self.symmetric, "per_channel": self.per_channel}
