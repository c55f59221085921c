"""How much each layer's weights bear: one layer at a time at each width, everything else in real numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.quantized import quantized_layers
from slimline.errors import SlimlineError
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.registry import Spec

REAL = 32


@dataclass(frozen=True)
class Row:
    """One layer at one width.

    Args:
        weights: how many the layer has.
        bits: of one weight.
        width: as in params.yaml.
        error: mean squared error of the logits, relative to their variance.
        accuracy: of the network, on the same images.
        drop: what is missing from the accuracy in real numbers; not below 0.
    """

    layer: str
    width: Bits
    bits: int
    weights: int
    error: float
    accuracy: float
    drop: float

    @property
    def bytes(self) -> float:
        """What the weights take without entropy coding."""
        return self.weights * self.bits / 8


def sensitivity(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    batches: Iterable[tuple[Tensor, Tensor]],
    widths: Sequence[Bits],
    *,
    scheme: Spec,
    choice: Choice,
    codebook: Spec | None = None,
) -> list[Row]:
    """Every layer at every width of `widths`, layers in the order in which they run.

    Args:
        batches: images and labels, of the validation split: never of the test split.
        scheme, codebook: how ranges, or shared values, are found.
        choice: the grids; its own widths do not count.

    Raises:
        SlimlineError: no images, no width, or a network that tells no images apart.
    """
    kept = [(images, labels) for images, labels in batches]
    if not kept or not widths:
        raise SlimlineError("sensitivity needs validation images and at least one width")
    labels = torch.cat([labels for _, labels in kept])
    record = plan(model, input_shape, weights=replace(choice, bits=REAL, exceptions={}), activations=Choice(REAL))
    exact = _logits(model, kept)
    if not float(spread := exact.var()) > 0:
        raise SlimlineError("the network gives all images the same logits, so no width can be told from another; train it, or prune less")
    accuracy = _share(exact, labels)
    rows = []
    for layer in record["weights"]:
        for width in widths:
            made = {**record, "weights": {**record["weights"], layer: choice.record(width, zero=_has_zeros(model, layer))}}
            graph = calibrated(model, made, [], weights=scheme, activations=scheme, codebook=codebook)
            weight, logits = quantized_layers(graph)[layer], _logits(graph, kept)
            error = float((logits - exact).square().mean() / spread)
            found = _share(logits, labels)
            rows.append(Row(layer, width, weight.grid.bits, weight.weight.numel(), error, found, max(0.0, accuracy - found)))
    return rows


def validated(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    batches: Iterable[tuple[Tensor, Tensor]],
    widths: Mapping[str, Bits],
    *,
    scheme: Spec,
    choice: Choice,
    codebook: Spec | None = None,
) -> float:
    """Share of the images that are classified rightly with each layer's weights at its width of `widths`, everything else in real numbers."""
    made = plan(model, input_shape, weights=replace(choice, bits=REAL, exceptions=dict(widths)), activations=Choice(REAL))
    graph = calibrated(model, made, [], weights=scheme, activations=scheme, codebook=codebook)
    kept = list(batches)
    return _share(_logits(graph, kept), torch.cat([labels for _, labels in kept]))


def _has_zeros(model: nn.Module, layer: str) -> bool:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return not bool(weight.all())


def _logits(model: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, "n classes"]:
    with torch.no_grad():
        return torch.cat([model(images) for images, _ in batches])


def _share(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
