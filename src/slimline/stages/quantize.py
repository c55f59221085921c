"""quantize: weights and activations on grids, or made ±1, calibrated and trained there."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from slimline import artifacts
from slimline.core.binary import Binarization, binary, binary_layers, learn
from slimline.core.double import double
from slimline.core.quantized import FLOAT_BITS, settled
from slimline.data.batches import Ordered
from slimline.data.prepared import Images, load_split
from slimline.errors import SlimlineError
from slimline.export.session import SATURATING, adds_in_16_bits
from slimline.params.fit import Fit
from slimline.params.quantize import Quantize as QuantizeParams
from slimline.paths import Paths
from slimline.quantization import BINARY
from slimline.quantization.binarize import binarization, check_signs, estimate_norms, widths
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.learning import learnable
from slimline.registry import Spec, build
from slimline.runtime import teacher
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.outcome import Trained, accuracy, leave, rightly
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker

CALIBRATION_BATCH = 256

CONTROLLED = ("student", "student_alone")
"""Networks that differ in nothing but the teacher."""

WHOLE = 64
"""Bits that a network has as a whole or not at all."""


class Quantize(Classifier):
    """Quantization-aware training: the forward pass sees the grids, the gradient passes straight through them."""

    def __init__(self, model: nn.Module, how: Fit, objective: teacher.Recovery) -> None:
        super().__init__(model, how, objective(model, how))

    def train(self, mode: bool = True) -> "Quantize":
        """Batch norms that could not be folded keep their statistics: the grids were calibrated on them. Those of binary layers follow them."""
        super().train(mode)
        if binary_layers(self.model):
            return self
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        return self


@dataclass(frozen=True)
class Quantized:
    """What a pruned network has become.

    Args:
        history: the epochs of its training on its grids; empty without one.
        calibrated: its accuracy on the validation images before that.
    """

    manifest: artifacts.Manifest
    model: nn.Module
    history: Sequence[Epoch]
    calibrated: float


def quantized(
    params: QuantizeParams, settings: Settings, paths: Paths, tracker: Tracker, manifest: artifacts.Manifest, pruned: nn.Module
) -> Quantized:
    """`pruned`, which `manifest` describes, on its grids or made ±1, calibrated and trained as `params` says; nothing is written.

    Raises:
        SlimlineError: a network, or calibration images, that do not bear it.
    """
    if params.from_scratch:
        pruned = settings.seeded(artifacts.untrained, manifest)
    made = _made(params, manifest, pruned, paths)
    model = made.model
    calibrated = accuracy(model, load_split(paths.prepared, "validation"))
    history: Sequence[Epoch] = []
    if params.fit is not None:
        if isinstance(model, fx.GraphModule):
            learnable(model, manifest.input_shape, weights=params.weights.learn, activations=params.activations.learn)
        # What a loss has to learn itself starts from the seed, whatever was built before.
        module = settings.seeded(Quantize, model, params.fit, teacher.recovery(params.loss, paths, manifest))
        fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="quantized")
        model, history = module.model, module.history
        if any(layer.draws for layer in binary_layers(model).values()):
            estimate_norms(model, _calibration(params, paths))  # training saw those of drawn signs
    # Numbers of 64 bits are those that were trained in whatever precision `fit` has.
    model = double(model, {}) if "double" in made.forms else settled(model)
    for form, record in made.forms.items():
        manifest = manifest.after(form, record)
    return Quantized(manifest, model, history, calibrated)


def run(params: QuantizeParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/quantized/`, its curve and `metrics/quantize.json`."""
    if params.calibration > (there := len(load_split(paths.prepared, "train"))) and settings.world.first:
        print(
            f"quantize.calibration: {params.calibration} images are asked for, and the training split has {there}: these are taken", file=sys.stderr
        )
    made = quantized(params, settings, paths, tracker, *artifacts.load(paths.model("pruned")))
    if 8 in (params.weights.bits, *params.weights.exceptions.values()) and adds_in_16_bits():
        print(f"quantize: {SATURATING}", file=sys.stderr)
    # Signs without training are near chance, of either network.
    compared = params.weights.bits != WHOLE and params.weights.binary is None and settings.world.first
    control = _control(params, paths) if compared else None
    taught = params.fit is not None and params.loss is not None
    trained = Trained("quantized", made.manifest, made.model, made.history, params.parity, {"val/accuracy_calibrated": made.calibrated})
    return leave("quantize", paths, settings, trained, beside={"taught": taught, "control": control})


@dataclass(frozen=True)
class Formed:
    """A network in new forms, ready to be trained in them: their names and records, in the order in which it took them on."""

    model: nn.Module
    forms: Mapping[str, dict[str, Any]]


def _made(params: QuantizeParams, manifest: artifacts.Manifest, pruned: nn.Module, paths: Paths) -> Formed:
    if params.weights.bits == WHOLE:
        return Formed(pruned, {"double": {}})
    if params.weights.binary is not None:
        return _binary(params, params.weights.binary, manifest, pruned, paths)
    return _calibrated(params, manifest, pruned, paths)


def _binary(params: QuantizeParams, spec: Spec, manifest: artifacts.Manifest, pruned: nn.Module, paths: Paths) -> Formed:
    """`pruned` with its layers of 1 bit in the binary form, and those of others, if any, on their grids."""
    bits = widths(pruned, Choice(params.weights.bits, params.weights.exceptions))
    how: Binarization = build(BINARY, spec)
    record = binarization(pruned, bits, how, inputs=params.activations.bits == 1)
    made = Formed(binary(pruned, record), {"binary": record})
    others = {name: width for name, width in bits.items() if width != 1}
    if set(others.values()) - {FLOAT_BITS}:
        grids = _calibrated(params, manifest, made.model, paths, others)
        made = Formed(grids.model, {**made.forms, **grids.forms})
    learn(made.model, draws=how.stochastic)
    check_signs(made.model, next(_calibration(params, paths)))
    estimate_norms(made.model, _calibration(params, paths))
    return made


def _calibration(params: QuantizeParams, paths: Paths) -> Iterator[Tensor]:
    train = load_split(paths.prepared, "train")
    images = Images(train.pixels[: params.calibration], train.labels[: params.calibration])
    return (batch.images for batch in Ordered(images, CALIBRATION_BATCH))


def _calibrated(
    params: QuantizeParams, manifest: artifacts.Manifest, pruned: nn.Module, paths: Paths, others: Mapping[str, Bits] | None = None
) -> Formed:
    """`pruned` on its grids.

    Args:
        others: the widths of layers beside binary ones, where activations that are not ±1 are real numbers.
    """
    weights, activations = params.weights, params.activations
    record = plan(
        pruned,
        manifest.input_shape,
        weights=Choice(
            weights.bits if others is None else FLOAT_BITS,
            weights.exceptions if others is None else others,
            weights.symmetric,
            weights.per_channel,
            weights.codebook is not None,
        ),
        activations=Choice(activations.bits if others is None else FLOAT_BITS, activations.exceptions, activations.symmetric),
    )
    graph = calibrated(
        pruned,
        record,
        _calibration(params, paths),
        weights=weights.scheme,
        activations=activations.scheme,
        codebook=weights.codebook,
        equalized=params.equalize,
        corrected=params.correct_biases,
    )
    return Formed(graph, {"quantized": record})


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
            graph = _calibrated(params, manifest, network, paths).model
        except SlimlineError as refused:
            print(f"quantize: models/{name} cannot be put on these grids to compare it: {refused}", file=sys.stderr)
            return None
        right["calibrated"].append(rightly(graph, validation))
    return {
        form: {name: float(one.double().mean()) for name, one in zip(CONTROLLED, both, strict=True)}
        | {"only_student": int((both[0] & ~both[1]).sum()), "only_student_alone": int((~both[0] & both[1]).sum())}
        for form, both in right.items()
    }
