"""The networks and the loss that this experiment has for itself."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.core.labels import Labels, cross_entropy
from slimline.distillation.loss import Loss, Response, Shapes


class Softmax(nn.Module):
    """Softmax regression, W x + b: the shallow net of Goodfellow et al. (2015)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.flatten, self.classifier = nn.Flatten(), nn.Linear(channels * height * width, classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.flatten(x))


class Hot(Loss):
    """Cross-entropy of softmax(logits / T) with the labels: how defensive distillation trains its first network (Papernot et al., 2016).

    The teacher has no part in it. T times over, so that the gradient does not shrink with T.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, temperature: Annotated[float, Field(gt=0.0)]) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        return self.temperature * cross_entropy(student.logits / self.temperature, labels)
