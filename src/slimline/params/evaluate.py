"""Block `evaluate`: how sure, and how speed is measured."""

from typing import Annotated

from pydantic import Field

from slimline.params.base import Block


class Latency(Block):
    """Interleaved measurement on ONNX Runtime.

    Args:
        threads: ONNX Runtime's threads within an operator.
        batch_sizes: images a call.
        rounds: calls of every model at every batch size.
        warm_up: calls before them that are not counted.
    """

    threads: int = Field(ge=1)
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    rounds: int = Field(ge=10)
    warm_up: int = Field(ge=1)


class Evaluate(Block):
    """Settings of the last stage; `confidence` is the level of every interval, `batch_size` the images scored a call."""

    confidence: float = Field(gt=0.5, lt=1.0)
    batch_size: int = Field(ge=1)
    latency: Latency
