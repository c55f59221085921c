"""Dropout as a parameter of a model (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014).

Training sets each unit to zero with probability p and divides the others by 1 - p, which keeps the mean; in eval mode nothing happens.
"""

from typing import Annotated

from pydantic import Field

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
