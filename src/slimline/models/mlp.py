"""Fully connected network (Rumelhart et al., "Learning representations by back-propagating errors", 1986), with rectified units."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.models.dropout import Probability


class MLP(nn.Module):
    """The image as one row of numbers, then fully connected layers of `hidden` units, each relu(W x + b), then the classifier.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        hidden: units of each hidden layer.
        dropout: probability with which training sets a hidden unit to zero, in every hidden layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (300, 100),
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.flatten = nn.Flatten()
        units = (channels * height * width, *hidden)
        layers = ((nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)) for before, after in zip(units, hidden, strict=False))
        self.hidden = nn.Sequential(*(module for layer in layers for module in layer))
        self.classifier = nn.Linear(units[-1], classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.hidden(self.flatten(x)))


def lenet300(input_shape: tuple[int, int, int], classes: int, *, dropout: Probability = 0.0) -> MLP:
    """LeNet-300-100 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998), with ReLUs.

    266,610 parameters on 1×28×28 and 10 classes: what pruning papers are compared on (Han et al., 2015).
    """
    return MLP(input_shape, classes, hidden=(300, 100), dropout=dropout)
