"""What every source yields."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One labelled image.

    Args:
        image: decoded, of any size and mode.
        label: class name.
        split: "train" or "test" where the source says so, else None.
        origin: where it lies, for messages.
    """

    image: Image.Image
    label: str
    split: str | None
    origin: str
