"""Block `data`: which images, at which size, split how."""

from typing import Literal

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin


class Data(Block):
    """What `prepare` makes.

    `source.path` is relative to the folder of params.yaml, and DVC hashes what lies there.
    `validation` and `test` are shares of all images; a test split that the source brings is kept as it is, and `test` is then unused.
    """

    source: plugin("slimline.data.sources:SOURCES")  # type: ignore[valid-type]
    size: int = Field(ge=8, le=4096)
    channels: Literal[1, 3]
    validation: float = Field(gt=0.0, lt=1.0)
    test: float = Field(gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def something_is_left_to_train_on(self) -> "Data":
        if self.validation + self.test >= 1.0:
            raise ValueError(f"validation + test is {self.validation + self.test:g}, which leaves nothing to train on; make it less than 1")
        return self
