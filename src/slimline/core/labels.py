"""What a batch says of its images' classes."""

from jaxtyping import Float, Int64
from torch import Tensor

Labels = Int64[Tensor, " batch"] | Float[Tensor, "batch classes"]
"""The number of each image's class, or, where images are mixed, the share of each class in it; rows sum to 1.

`F.cross_entropy` takes either, with label smoothing or without.
"""
