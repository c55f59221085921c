"""The resized form: layers with other numbers of channels than their architecture gives them.

What channel pruning leaves is recorded as a few numbers a layer, so that a fresh network of the same architecture can be
brought to the same shapes without the code that decided them.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from slimline.errors import SlimlineError

ATTRIBUTES: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.InstanceNorm2d: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.Linear: ("in_features", "out_features"),
}
"""The numbers that fix the shapes of a layer's tensors."""

Shapes = Mapping[str, Mapping[str, int]]


def shapes(model: nn.Module) -> dict[str, dict[str, int]]:
    """The channel numbers of every layer that could be resized, by layer name."""
    return {
        name: {attribute: int(getattr(layer, attribute)) for attribute in ATTRIBUTES[type(layer)]}
        for name, layer in model.named_modules()
        if type(layer) in ATTRIBUTES
    }


def differing(original: nn.Module, changed: nn.Module) -> dict[str, dict[str, int]]:
    """The layers of `changed` whose numbers differ from `original`'s.

    Raises:
        SlimlineError: a tensor changed its shape in a layer of another kind, which could not be rebuilt.
    """
    before = shapes(original)
    record = {name: now for name, now in shapes(changed).items() if before.get(name) != now}
    old = {name: tensor.shape for name, tensor in original.state_dict().items()}
    for name, tensor in changed.state_dict().items():
        layer = name.rpartition(".")[0]
        if old.get(name) != tensor.shape and layer not in record:
            kind = type(changed.get_submodule(layer)).__name__
            raise SlimlineError(f"layer '{layer}' ({kind}) changed its shape and could not be rebuilt; only {_kinds()} can lose channels")
    return record


def _kinds() -> str:
    return ", ".join(kind.__name__ for kind in ATTRIBUTES)


def resized(model: nn.Module, record: Shapes) -> nn.Module:
    """`model` with the recorded layers brought to their recorded shapes (in place); their values are undefined until loaded.

    Raises:
        SlimlineError: the record names a layer that the model lacks, or numbers that fit no layer of its kind.
    """
    for name, numbers in record.items():
        try:
            layer = model.get_submodule(name)
        except AttributeError as error:
            raise SlimlineError(f"the model has no layer '{name}' to resize") from error
        if set(numbers) != set(ATTRIBUTES.get(type(layer), ())) or min(numbers.values()) < 1:
            raise SlimlineError(f"layer '{name}' ({type(layer).__name__}) cannot be resized to {dict(numbers)}")
        for attribute, number in numbers.items():
            setattr(layer, attribute, number)
        for key, shape in _tensor_shapes(layer).items():
            tensor = getattr(layer, key)
            if tensor is None:
                continue
            empty = torch.zeros(shape, dtype=tensor.dtype)
            setattr(layer, key, nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty)
    return model


def _tensor_shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    match layer:
        case nn.Conv2d():
            return {
                "weight": (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size),
                "bias": (layer.out_channels,),
            }
        case nn.GroupNorm():
            return dict.fromkeys(("weight", "bias"), (layer.num_channels,))
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.InstanceNorm2d():
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (layer.num_features,))
        case nn.Linear():
            return {"weight": (layer.out_features, layer.in_features), "bias": (layer.out_features,)}
    raise TypeError(type(layer).__name__)


@torch.no_grad()
def take_rows(layer: nn.Module, outputs: Collection[int], inputs: Collection[int]) -> None:
    """Take some of its output and input channels away from `layer`, one of ATTRIBUTES; a norm's and a depthwise layer's are outputs."""
    match layer:
        case nn.Conv2d():
            depthwise = layer.groups > 1
            _keep(layer, ("weight", "bias"), 0, outputs)
            if not depthwise:
                _keep(layer, ("weight",), 1, inputs)
            layer.out_channels = layer.weight.shape[0]
            layer.in_channels = layer.out_channels if depthwise else layer.weight.shape[1]
            layer.groups = layer.out_channels if depthwise else 1
        case nn.Linear():
            _keep(layer, ("weight", "bias"), 0, outputs)
            _keep(layer, ("weight",), 1, inputs)
            layer.out_features, layer.in_features = layer.weight.shape
        case nn.GroupNorm():
            layer.num_channels -= len(outputs)
            _keep(layer, ("weight", "bias"), 0, outputs)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.InstanceNorm2d():
            layer.num_features -= len(outputs)
            _keep(layer, ("weight", "bias", "running_mean", "running_var"), 0, outputs)
        case _:
            raise TypeError(type(layer).__name__)


def _keep(layer: nn.Module, keys: Sequence[str], dim: int, gone: Collection[int]) -> None:
    if not gone:
        return
    for key in keys:
        tensor = getattr(layer, key)
        if tensor is None:
            continue
        kept = [row for row in range(tensor.shape[dim]) if row not in gone]
        left = tensor.index_select(dim, torch.tensor(kept))
        setattr(layer, key, nn.Parameter(left, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else left)
