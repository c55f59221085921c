"""The tests' own net: annotations are checked while they run."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import tiny
from slimline.core.packing import pack
from slimline.distillation.soft_hard import soft_hard
from slimline.evaluation.scorecard import Answers


def test_a_tensor_of_another_shape_than_its_annotation_says_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        soft_hard(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), temperature=1.0, alpha=0.5)


def test_an_array_of_another_dtype_than_its_annotation_says_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        pack(np.zeros(3), 4, low=0)


def test_a_dataclass_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        Answers(np.zeros((3, 2), np.float32), np.zeros(4, np.int64))


def test_a_network_of_the_zoo_refuses_images_without_a_batch() -> None:
    with pytest.raises(TypeCheckError):
        tiny.trained()[1](torch.zeros(1, 8, 8))
