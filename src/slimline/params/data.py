"""Block `data`: which images, in which form, divided how, checked for what."""

from typing import Literal

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin


class Data(Block):
    """What `prepare` makes.

    `source.path` is relative to the folder of params.yaml, and DVC hashes what lies there.
    `validation` and `test` are shares of the images that the source puts in no split of that name; a split that the source
    brings is kept as it is, and its share is then unused. `resize`, `background`: see `data.prepare.decode.Form`.

    `unreadable`: an image that cannot be read, or is too large or too small, stops the stage (`refuse`), or is left out and
    listed in metrics/prepare.json (`skip`). `duplicates`: an image whose equal stands in the test or validation split is dropped
    from the split below (`drop`), or kept and counted (`keep`). `smallest_class`: least number of images of a class in each split.
    `label_noise`: whether to look for images whose label may be wrong.
    """

    source: plugin("slimline.data.sources:SOURCES")  # type: ignore[valid-type]
    size: int = Field(ge=8, le=4096)
    channels: Literal[1, 3]
    resize: Literal["fit", "pad", "crop"] = "fit"
    background: int = Field(default=255, ge=0, le=255)
    validation: float = Field(gt=0.0, lt=1.0)
    test: float = Field(gt=0.0, lt=1.0)
    unreadable: Literal["refuse", "skip"] = "refuse"
    duplicates: Literal["drop", "keep"] = "drop"
    smallest_class: int = Field(default=1, ge=1)
    smallest_side: int = Field(default=2, ge=1)
    largest_pixels: int = Field(default=64_000_000, ge=64)
    label_noise: bool = True

    @model_validator(mode="after")
    def something_is_left_to_train_on(self) -> "Data":
        if self.validation + self.test >= 1.0:
            raise ValueError(f"validation + test is {self.validation + self.test:g}, which leaves nothing to train on; make it less than 1")
        return self
