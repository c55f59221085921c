"""What the report says of each layer, on networks that are cut and masked, and quantized."""

import torch
from torch import nn

from slimline.core.masked import Mask, copy_masked
from slimline.evaluation.layers import Layer, layers
from slimline.quantization.calibrate import calibrated, plan


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


def test_a_quantized_layer_has_the_bits_of_its_grid_and_zeros_where_weights_round_to_one() -> None:
    model = network(8)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].weight[0].fill_(0.01).view(-1)[0] = 1.0
        model[3].weight.fill_(-1.0)
    record = plan(model, (1, 4, 4), weight_bits=4, activation_bits=8)
    graph = calibrated(model, record, [torch.rand(16, 1, 4, 4)], weights={"name": "min_max"}, activations={"name": "min_max"})
    assert layers(graph, model) == [Layer("0", 72, 72, 72 - 8, 4, 32), Layer("3", 96, 96, 96, 4, 8)]  # images are on no grid here
