"""What the report says of each layer, on a network that is cut and masked."""

import torch
from torch import nn

from slimline.core.masked import Mask, copy_masked
from slimline.evaluation.layers import Layer, layers


def network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, channels, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * channels, 3)).eval()


def test_layers_are_counted_beside_those_they_were_cut_from() -> None:
    student, cut = network(8), network(4)
    kept = torch.ones(4, 1, 3, 3, dtype=torch.bool)
    kept[0] = False
    masked = copy_masked(cut, {"0": Mask(kept)})
    assert layers(masked, student) == [Layer("0", 72, 36, 27, 32, 32), Layer("3", 96, 48, 48, 32, 32)]
    assert layers(masked, nn.Identity())[0].student_weights == 0
