"""What the loss says of weights: gradients over all images of some batches, whose division into batches changes nothing but rounding.

The network is in eval mode, so that batch norms take no statistics from a batch; the loss is the cross-entropy with the labels.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from slimline.core.batch import Batch
from slimline.errors import SlimlineError
from slimline.pruning.layers import prunable

NUMBERS_AT_ONCE = 1 << 26
"""Gradients of single images held together, in numbers: bounds the memory."""


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def mean_gradient(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """The gradient of the mean loss for every prunable weight, by parameter name, float64.

    Raises:
        SlimlineError: no images, or a gradient that is no finite number.
    """
    weights = {f"{name}.weight": layer.weight for name, layer in prunable(model).items()}
    trained = [w.requires_grad for w in weights.values()]
    sums = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
    images = 0
    try:
        for w in weights.values():
            w.requires_grad_(True)
        with _eval(model), torch.enable_grad():
            for batch in batches:
                loss = F.cross_entropy(model(batch.images), batch.labels, reduction="sum")
                for total, gradient in zip(sums.values(), torch.autograd.grad(loss, list(weights.values())), strict=True):
                    total += gradient
                images += len(batch.labels)
    finally:
        for w, before in zip(weights.values(), trained, strict=True):
            w.requires_grad_(before)
    return _means(sums, images)


def mean_squared_gradient(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """The mean over images of each image's squared gradient, by parameter name, float64: the empirical Fisher information's diagonal.

    Raises:
        SlimlineError: no images, or a gradient that is no finite number.
    """
    weights = {f"{name}.weight": layer.weight.detach() for name, layer in prunable(model).items()}
    sums = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
    at_once = max(NUMBERS_AT_ONCE // sum(w.numel() for w in weights.values()), 1)
    images = 0

    def loss(own: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, own, (image[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    # Attention by its formula: its fused form knows no gradients of single images. What `grad` differentiates, `no_grad` leaves alone.
    with _eval(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            for some, labels in zip(batch.images.split(at_once), batch.labels.split(at_once), strict=True):
                for name, gradients in _of_each(each, weights, some, labels).items():
                    sums[name] += gradients.double().square().sum(0)
            images += len(batch.labels)
    return _means(sums, images)


def _of_each(each: Callable[..., dict[str, Tensor]], weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    try:
        return each(weights, images, labels)
    except RuntimeError as error:  # a user's network that works in place, or looks at values
        raise SlimlineError(
            f"this network's gradients cannot be told apart by images ({' '.join(str(error).split())[:120]}); take the criterion taylor"
        ) from error


def _means(sums: dict[str, Tensor], images: int) -> dict[str, Tensor]:
    if not images:
        raise SlimlineError("this criterion needs images for its gradients: prune.calibration must be at least 1")
    for name, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise SlimlineError(f"'{name}' has an infinite or undefined gradient on the calibration images; look at its weights and the images")
    return {name: total / images for name, total in sums.items()}
