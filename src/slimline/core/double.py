"""The double form: everything is computed in numbers of 64 bits."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float32
from torch import Tensor, nn


class Double(nn.Module):
    """`network` in 64 bits, which takes and gives numbers of 32 like any other."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: Float32[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch classes"]:
        return self.network(x.double()).float()


def double(model: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """`model` (changed in place) in its double form; there is nothing to record."""
    return Double(model)
