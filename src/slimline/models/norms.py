"""Normalizations between a convolution and its activation: `(channels, *, parameters…) -> nn.Module`, one line in the table each.

All map [batch channels height width] to the same shape:

    y = weight · (x - mean) / sqrt(variance + ε) + bias        weight and bias: a number a channel, learned

and differ in what mean and variance are taken over.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.params.base import plugin
from slimline.registry import Spec, Table

NORMS: Table = {
    "batch": "slimline.models.norms:batch",
    "layer": "slimline.models.norms:layer",
    "instance": "slimline.models.norms:instance",
    "group": "slimline.models.norms:group",
    "none": "slimline.models.norms:none",
}

Norm = plugin("slimline.models.norms:NORMS")
BATCH: Spec = {"name": "batch"}


def batch(channels: int) -> nn.Module:
    """Over a channel of all images of the batch; in eval mode, running means of training's (Ioffe & Szegedy, "Batch Normalization", 2015)."""
    return nn.BatchNorm2d(channels)


def layer(channels: int) -> nn.Module:
    """Over all channels and places of one image (Ba et al., "Layer Normalization", 2016): a group norm of one group.

    Scale and shift are numbers a channel, not one a place, so that the layer fits maps of any size (Wu & He, 2018, section 3.1).
    """
    return nn.GroupNorm(1, channels)


def instance(channels: int) -> nn.Module:
    """Over one channel of one image, which takes a map of more than one place (Ulyanov et al., "Instance Normalization", 2016)."""
    return nn.InstanceNorm2d(channels, affine=True)


def group(channels: int, *, groups: Annotated[int, Field(ge=1)]) -> nn.Module:
    """Over `channels` / `groups` neighbouring channels of one image (Wu & He, "Group Normalization", 2018).

    Raises:
        SlimlineError: the groups do not divide the channels.
    """
    if channels % groups:
        raise SlimlineError(f"group norm: {groups} groups do not divide {channels} channels; choose groups that divide every layer's channels")
    return nn.GroupNorm(groups, channels)


def none(channels: int) -> nn.Module:
    """y = x."""
    return nn.Identity()
