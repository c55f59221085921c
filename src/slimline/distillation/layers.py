"""What layers within a network answer: their shapes, and their values during one forward pass."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slimline.distillation.loss import Shapes


@contextmanager
def overheard(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Within it, the named layers' newest answers stand in the mapping it gives. Those that answer no tensor are left out."""
    heard: dict[str, Tensor] = {}

    def listen(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hear(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                heard[name] = output

        return layer.register_forward_hook(hear)

    handles = [listen(name, network.get_submodule(name)) for name in names]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def shapes(network: nn.Module, input_shape: tuple[int, int, int]) -> Shapes:
    """The shape of every layer's answer to one blank image of `input_shape` (channels, height, width), in eval mode."""
    like = next((p for p in network.parameters()), torch.zeros(()))
    was_training = network.training
    with torch.no_grad(), overheard(network, (name for name, _ in network.named_modules() if name)) as heard:
        network.eval()(like.new_zeros(1, *input_shape))
    network.train(was_training)
    return {name: tuple(values.shape[1:]) for name, values in heard.items()}
