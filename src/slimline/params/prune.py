"""Block `prune`: what is cut from the student, and how it recovers."""

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher


class Prune(Block):
    """Channel pruning.

    Args:
        amount: least share of the student's parameters to remove.
        layer_limit: largest share of any one layer's channels to remove.
        multiple_of: what the channels left in a layer must be a multiple of. Processors compute in blocks: ONNX Runtime's fast
            kernels take 16 (AVX-512) or 8 channels at a time, and a layer of 15 can be slower than one of 32.
        loss: how the teacher takes part in retraining; null for labels alone.
        fit: retraining after the cut; null for none.
    """

    criterion: plugin("slimline.pruning:CRITERIA")  # type: ignore[valid-type]
    amount: float = Field(gt=0.0, lt=1.0)
    layer_limit: float = Field(default=0.9, gt=0.0, lt=1.0)
    multiple_of: int = Field(default=1, ge=1)
    loss: plugin("slimline.distillation:LOSSES") | None = None  # type: ignore[valid-type]
    fit: Fit | None = None

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Prune":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        return self
