"""What compression left of each layer: weights, zeros among them, bits."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from slimline.core.quantized import QuantizedConv2d, QuantizedLinear, input_bits, weight_bits


@dataclass(frozen=True)
class Layer:
    """One convolution or fully connected layer, as deployed.

    Args:
        layer: its name in the network.
        student_weights: of the layer of that name in the student, from which it was cut; 0 where the student has none.
        weights: of its kernel, biases left out.
        nonzero: those that are not zero on their grid.
        weight_bits, input_bits: of a weight, and of a number that it reads.
    """

    layer: str
    student_weights: int
    weights: int
    nonzero: int
    weight_bits: int
    input_bits: int


def layers(model: nn.Module, student: nn.Module) -> list[Layer]:
    """Every layer of `model`, in the order in which the network defines them."""
    held, read, before = weight_bits(model), input_bits(model), _weights(student)
    found = []
    for name, weight in _weights(model).items():
        real = 8 * weight.element_size()
        nonzero = int(_deployed(model.get_submodule(name)).count_nonzero())
        found.append(Layer(name, before[name].numel() if name in before else 0, weight.numel(), nonzero, held.get(name, real), read.get(name, real)))
    return found


def _weights(model: nn.Module) -> Mapping[str, Tensor]:
    return {name: module.weight.detach() for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def _deployed(layer: nn.Module) -> Tensor:
    """A small weight can round to zero."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    weight = layer.weight.detach()
    return layer.grid(weight) if isinstance(layer, QuantizedConv2d | QuantizedLinear) else weight
