"""The networks of binarized neural networks (Courbariaux, Hubara et al., "Binarized Neural Networks", 2016, section 2), as real numbers.

Batch norm stands before every activation, so that sums of ±1 come to the activation with a spread of about 1, where its gradient passes, and
behind the last layer too. The stage `quantize` makes them binary: a hard tanh, clip(x, -1, 1), then becomes the sign, whose gradient it has.
As they stand they are the real-numbered twins that a binary network is compared with.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.models.dropout import Probability

Positive = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]
Activation = Literal["hard_tanh", "relu"]
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"hard_tanh": nn.Hardtanh, "relu": nn.ReLU}


def connected(inputs: int, hidden: tuple[int, ...], activation: str, dropout: float) -> nn.Sequential:
    """Fully connected layers, each activation(batch norm(W x)); dropout is of what each gives."""
    units = (inputs, *hidden)
    layers = [
        (nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), ACTIVATIONS[activation](), nn.Dropout(dropout))
        for before, after in zip(units, hidden, strict=False)
    ]
    return nn.Sequential(*(module for layer in layers for module in layer))


class BinaryNet(nn.Module):
    """The image as one row of numbers, then fully connected layers, each activation(batch norm(W x)), the classifier and its norm.

    With 3 × 4096 units it is the network of section 2.1, with 3 × 1024 and `relu` that of BinaryConnect (Courbariaux et al., 2015, section 3.1);
    both papers train it with a squared hinge loss.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        hidden: units of each hidden layer.
        activation: `hard_tanh` for binarized networks, `relu` for BinaryConnect.
        dropout: probability with which training sets a hidden unit to zero, in every hidden layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        hidden: Widths = (4096, 4096, 4096),
        activation: Activation = "hard_tanh",
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.flatten = nn.Flatten()
        self.hidden = connected(channels * height * width, hidden, activation, dropout)
        self.classifier = nn.Linear(hidden[-1], classes, bias=False)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.norm(self.classifier(self.hidden(self.flatten(x))))


class BinaryConvNet(nn.Module):
    """The convolutional network of section 2.3, in the manner of VGG: pairs of 3×3 convolutions, fully connected layers, classifier.

    Each is activation(batch norm(W x)); a 2×2 maximum stands between the second convolution of a pair and its norm. Images of 8×8 and larger.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        filters: channels of each pair of convolutions.
        hidden: units of each fully connected layer.
        activation: as in `BinaryNet`.
        dropout: probability with which training sets a unit of a fully connected layer to zero.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        filters: tuple[Positive, Positive, Positive] = (128, 256, 512),
        hidden: Widths = (1024, 1024),
        activation: Activation = "hard_tanh",
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        before, height, width = input_shape
        modules: list[nn.Module] = []
        for channels in filters:
            for inputs, pool in ((before, nn.Identity()), (channels, nn.MaxPool2d(2, ceil_mode=True))):
                modules += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), pool, nn.BatchNorm2d(channels), ACTIVATIONS[activation]()]
            before, height, width = channels, -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*modules)
        self.flatten = nn.Flatten()
        self.hidden = connected(before * height * width, hidden, activation, dropout)
        self.classifier = nn.Linear(hidden[-1], classes, bias=False)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.norm(self.classifier(self.hidden(self.flatten(self.features(x)))))
