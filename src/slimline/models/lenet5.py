"""LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998) in Caffe's form, which pruning papers take."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.models.dropout import Probability

Positive = Annotated[int, Field(ge=1)]

SMALLEST = 16
"""Side of the smallest image that two 5×5 convolutions with 2×2 pooling after each leave something of."""


class LeNet5(nn.Module):
    """5×5 convolution, 2×2 maximum, 5×5 convolution, 2×2 maximum, fully connected layer with rectified units, classifier.

    Nothing is padded and no activation follows a convolution, as in Caffe's `lenet.prototxt`: 431,080 parameters on 1×28×28 and 10
    classes (Han et al., "Deep Compression", 2016, count 431 k). Images below 16×16 get a border of zeros, which are the mean of
    normalized images, up to 16×16. Where pooling meets an odd side, the last row or column is pooled alone, as in Caffe.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        filters: channels of the two convolutions.
        hidden: units of the fully connected layer.
        dropout: probability with which training sets a hidden unit to zero.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        filters: tuple[Positive, Positive] = (20, 50),
        hidden: Positive = 500,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        channels, *sides = input_shape
        missing = [max(SMALLEST - side, 0) for side in sides]
        above, left = (number // 2 for number in missing)
        self.pad = nn.ZeroPad2d((left, missing[1] - left, above, missing[0] - above)) if any(missing) else nn.Identity()
        self.conv1 = nn.Conv2d(channels, filters[0], 5)
        self.pool1 = nn.MaxPool2d(2, ceil_mode=True)
        self.conv2 = nn.Conv2d(filters[0], filters[1], 5)
        self.pool2 = nn.MaxPool2d(2, ceil_mode=True)
        self.flatten = nn.Flatten()
        height, width = (_after(max(side, SMALLEST)) for side in sides)
        self.hidden = nn.Linear(filters[1] * height * width, hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        x = self.pool2(self.conv2(self.pool1(self.conv1(self.pad(x)))))
        return self.classifier(self.dropout(self.relu(self.hidden(self.flatten(x)))))


def _after(side: int) -> int:
    """What two convolutions and poolings leave of `side`."""
    for _ in range(2):
        side = -(-(side - 4) // 2)
    return side
