"""quantize: weights and activations on integer grids, calibrated and trained there."""

import sys
from typing import Any

from torch import Tensor, fx, nn

from slimline import artifacts
from slimline.core.double import double
from slimline.core.quantized import settled
from slimline.data.batches import Ordered
from slimline.data.prepared import Images, load_split
from slimline.errors import SlimlineError
from slimline.export.runtime import SATURATING, adds_in_16_bits
from slimline.params.quantize import Quantize as QuantizeParams
from slimline.paths import Paths
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.learning import learnable
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.outcome import Trained, accuracy, leave, rightly
from slimline.runtime.settings import Made, Settings
from slimline.runtime.teacher import load_teacher, recovery
from slimline.tracking import Tracker

CALIBRATION_BATCH = 256

CONTROLLED = ("student", "student_alone")
"""Networks that differ in nothing but the teacher."""

WHOLE = 64
"""Bits that a network has as a whole or not at all."""


class Quantize(Classifier):
    """Quantization-aware training: the forward pass sees the grids, the gradient passes straight through them."""

    def __init__(self, model: nn.Module, params: QuantizeParams, teacher: nn.Module, input_shape: tuple[int, int, int]) -> None:
        assert params.fit is not None
        super().__init__(model, params.fit, recovery(model, params.fit, params.loss, teacher, input_shape))

    def train(self, mode: bool = True) -> "Quantize":
        """Batch norms that could not be folded keep their statistics: the grids were calibrated on them."""
        super().train(mode)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def run(params: QuantizeParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/quantized/`, its curve and `metrics/quantize.json`."""
    manifest, pruned = artifacts.load(paths.model("pruned"))
    whole = params.weights.bits == WHOLE
    model, form, record = (pruned, "double", {}) if whole else _calibrated(params, manifest, pruned, paths)
    extra = {"val/accuracy_calibrated": accuracy(model, load_split(paths.prepared, "validation"))}
    taught = params.fit is not None and params.loss is not None
    history = []
    if params.fit is not None:
        if isinstance(model, fx.GraphModule):
            learnable(model, manifest.input_shape, weights=params.weights.learn, activations=params.activations.learn)
        # What a loss has to learn itself starts from the seed, whatever was built before.
        module = settings.seeded(Quantize, model, params, load_teacher(paths, manifest), manifest.input_shape)
        fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="quantized")
        model, history = module.model, module.history
    # Numbers of 64 bits are those that were trained in whatever precision `fit` has.
    model = double(model, record) if form == "double" else settled(model)
    if params.weights.bits == 8 and adds_in_16_bits():
        print(f"quantize: {SATURATING}", file=sys.stderr)
    made = Trained("quantized", manifest.after(form, record), model, history, params.parity, extra)
    control = None if whole or not settings.world.first else _control(params, paths)
    return leave("quantize", paths, settings, made, beside={"taught": taught, "control": control})


def _calibrated(params: QuantizeParams, manifest: artifacts.Manifest, pruned: nn.Module, paths: Paths) -> tuple[nn.Module, str, dict[str, Any]]:
    """`pruned` on its grids, ready to be trained there, with the name and the record of that form."""
    weights, activations = params.weights, params.activations
    record = plan(
        pruned,
        manifest.input_shape,
        weights=Choice(weights.bits, weights.exceptions, weights.symmetric, weights.per_channel, weights.codebook is not None),
        activations=Choice(activations.bits, activations.exceptions, activations.symmetric),
    )
    train = load_split(paths.prepared, "train")
    calibration = Images(train.pixels[: params.calibration], train.labels[: params.calibration])
    images = (batch.images for batch in Ordered(calibration, CALIBRATION_BATCH))
    graph = calibrated(
        pruned,
        record,
        images,
        weights=weights.scheme,
        activations=activations.scheme,
        codebook=weights.codebook,
        equalized=params.equalize,
        corrected=params.correct_biases,
    )
    return graph, "quantized", record


def _control(params: QuantizeParams, paths: Paths) -> dict[str, Any] | None:
    """What the same grids, calibrated and not trained, make of the student and of its control; both unpruned.

    Per form of the two networks, `real` and `calibrated`: their accuracies on the validation images, and how many of these one of them
    alone named rightly. None where a network cannot be put on these grids, which is told.
    """
    validation = load_split(paths.prepared, "validation")
    right: dict[str, list[Tensor]] = {"real": [], "calibrated": []}
    for name in CONTROLLED:
        manifest, network = artifacts.load(paths.model(name))
        right["real"].append(rightly(network, validation))
        try:
            graph, *_ = _calibrated(params, manifest, network, paths)
        except SlimlineError as refused:
            print(f"quantize: models/{name} cannot be put on these grids to compare it: {refused}", file=sys.stderr)
            return None
        right["calibrated"].append(rightly(graph, validation))
    return {
        form: {name: float(one.double().mean()) for name, one in zip(CONTROLLED, both, strict=True)}
        | {"only_student": int((both[0] & ~both[1]).sum()), "only_student_alone": int((~both[0] & both[1]).sum())}
        for form, both in right.items()
    }
