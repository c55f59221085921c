"""What a network costs: parameters, multiply-accumulates, bit operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from slimline.core.masked import held, masked_layers
from slimline.core.quantized import FLOAT_BITS, input_bits, quantized_layers, weight_bits


@dataclass(frozen=True)
class Cost:
    """Counts for one input image.

    Args:
        params: learnable numbers (weights, biases, norms' scales and shifts).
        nonzero_params: those that are not zero as deployed.
        macs: multiply-accumulates of convolutions, fully connected layers and attention's two matrix products.
        bops: bit operations, the sum over layers of MACs · weight bits · input bits (Baskin et al., "UNIQ", 2018, without the
            accumulator's share). Attention's products count as of 32-bit numbers in every form: between them is a softmax on no grid.
    """

    params: int
    nonzero_params: int
    macs: int
    bops: int


class _Attention(TorchFunctionMode):
    """Counts the products inside `scaled_dot_product_attention` where the network calls it: it belongs to no module of its own.

    `nn.MultiheadAttention` hides its products and its layers from any such count; build of `nn.Linear` and this function instead.

    query [… L E], key [… S E], value [… S V]:    L·S·E of query · keyᵀ, L·S·V of scores · value
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given: Mapping[str, Any] = kwargs or {}
        if function is scaled_dot_product_attention:
            query, key, value = (*args, *(given[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            self.macs += query.numel() * key.shape[-2] + query[..., 0].numel() * value.shape[-2] * value.shape[-1]
        return function(*args, **given)


def measure(model: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Count by running one blank image of `input_shape` (channels, height, width) through `model`, in eval mode."""
    read, held = input_bits(model), weight_bits(model)
    macs: dict[str, int] = {}
    bops: dict[str, int] = {}
    handles = []

    def watch(name: str, layer: nn.Conv2d | nn.Linear):  # type: ignore[no-untyped-def]
        def count(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            per_output = layer.weight[0].numel()
            macs[name] = macs.get(name, 0) + output.numel() * per_output
            real = 8 * layer.weight.element_size()
            bops[name] = macs[name] * held.get(name, real) * read.get(name, real)

        return count

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            handles.append(layer.register_forward_hook(watch(name, layer)))
    was_training = model.training
    try:
        with torch.no_grad(), _Attention() as attention:
            model.eval()(torch.zeros(1, *input_shape))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        nonzero_params=sum(int(p.count_nonzero()) for p in _deployed(model)),
        macs=sum(macs.values()) + attention.macs,
        bops=sum(bops.values()) + attention.macs * FLOAT_BITS**2,
    )


def _deployed(model: nn.Module) -> list[Tensor]:
    """The parameters as deployed: without what masks take, and those on a grid as they lie there, since a small weight can round to zero."""
    weights = {id(m.weight): held(m.weight, m.mask) for m in masked_layers(model).values()}
    weights |= {id(m.weight): m.grid(held(m.weight, m.mask)) for m in quantized_layers(model).values()}
    return [weights.get(id(p), p).detach() for p in model.parameters()]
