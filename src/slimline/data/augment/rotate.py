"""Rotate: turn the image about its centre."""

from typing import Annotated

from pydantic import Field

from slimline.core.draws import Draws
from slimline.data.augment.affine import affine
from slimline.data.augment.sampling import Outside
from slimline.data.augment.transform import Transform


def rotate(draws: Draws, *, degrees: Annotated[float, Field(gt=0.0, le=180.0)] = 15.0, outside: Outside = "black") -> Transform:
    """Clockwise by an angle from -`degrees` to `degrees`, all alike; read bilinearly."""
    return affine(draws, degrees=degrees, translate=0.0, scale=(1.0, 1.0), shear=0.0, outside=outside)
