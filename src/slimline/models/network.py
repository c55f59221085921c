"""A network as it is trained, saved and deployed: normalization first, so that every model takes the same images."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from slimline.core.normalize import Normalize
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.registry import Spec, build


def network(spec: Spec, input_shape: tuple[int, int, int], classes: int, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """The network that `spec` names, behind its normalization: images in [0, 1] to logits.

    Args:
        spec: an entry of the zoo's table, or an import path.
        input_shape: channels, height, width.
        mean, std: a number a channel, of images in [0, 1].

    Raises:
        SlimlineError: no such model, one that cannot be built (too large, say), or it does not map this input to one logit a class.
    """
    try:
        body = build(MODELS, spec, input_shape, classes)
        model = nn.Sequential(OrderedDict(normalize=Normalize(mean, std), network=body))
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # too large for the memory, or a user's own
        raise SlimlineError(
            f"model '{spec['name']}' cannot be built for images of {input_shape} and {classes} classes: {str(error).splitlines()[0]}"
        ) from error
    with torch.no_grad():
        try:
            # One image alone too: some norms have nothing to average over where a single one leaves a single value.
            logits = [model.eval()(torch.zeros(batch, *input_shape)) for batch in (1, 2)][-1]
        except (RuntimeError, ValueError) as error:  # torch raises either for shapes that do not fit
            raise SlimlineError(f"model '{spec['name']}' does not run on images of {input_shape}: {str(error).splitlines()[0]}") from error
    if tuple(logits.shape) != (2, classes):
        raise SlimlineError(f"model '{spec['name']}' gives {tuple(logits.shape[1:])} outputs an image, where {classes} classes are needed")
    return model.train()
