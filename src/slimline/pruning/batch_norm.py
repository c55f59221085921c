"""The scale of a channel's batch norm (Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017)."""

from collections.abc import Iterable

from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.errors import SlimlineError


def batch_norm(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """|γ| of every batch norm's channels.

    The paper's penalty λ Σ|γ| (its equation 1), which makes these differ, is `norm_sparsity` of a stage's `fit`. It scores channels and no
    single weights; channels without a batch norm stay.

    Raises:
        SlimlineError: no batch norm with a scale.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine}
    if not norms:
        raise SlimlineError("the criterion batch_norm needs batch norms, and the model has none; take magnitude")
    return {f"{name}.weight": norm.weight.detach().abs() for name, norm in norms.items()}
