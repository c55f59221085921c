"""Which bits the weights of a model on disk may have, by the validation split."""

from slimline import artifacts
from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.params.quantize import Weights
from slimline.paths import Paths
from slimline.quantization.allocate import within_bytes, within_drop
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.sensitivity import Row, sensitivity, validated

BATCH = 512


def which_bits(
    paths: Paths, name: str, widths: str, weights: Weights, *, total_bytes: float | None, drop: float | None
) -> tuple[list[Row], dict[str, Bits], float]:
    """Sensitivities of all layers of `models/name`, the widths within the budget, and the accuracy with those widths, before training.

    Args:
        widths: as in params.yaml, with commas between.
        weights: how ranges are found, and which grids there are.
        total_bytes, drop: the budget; one of them.

    Raises:
        SlimlineError: an impossible width, or a budget that cannot be met.
    """
    offered = list(dict.fromkeys(_width(text.strip()) for text in widths.split(",")))
    manifest, model = artifacts.load(paths.model(name))
    if any(form["form"] in ("quantized", "double", "binary") for form in manifest.forms):
        raise SlimlineError(f"models/{name} is on grids already; name a model of real numbers (pruned, student)")
    batches = [(batch.images, batch.labels) for batch in Ordered(load_split(paths.prepared, "validation"), BATCH)]
    choice = Choice(8, symmetric=weights.symmetric, per_channel=weights.per_channel, codebook=weights.codebook is not None)
    how = {"scheme": weights.scheme, "choice": choice, "codebook": weights.codebook}
    rows = sensitivity(model, manifest.input_shape, batches, offered, **how)
    if total_bytes is not None:
        chosen = within_bytes(rows, total_bytes)
    else:
        assert drop is not None
        chosen = within_drop(rows, drop)
    return rows, chosen, validated(model, manifest.input_shape, batches, chosen, **how)


def _width(text: str) -> Bits:
    allowed = {str(width): width for width in (16, "bf16", "e4m3", "e5m2", 8, 7, 6, 5, 4, 3, 2)}
    if text not in allowed:
        raise SlimlineError(f"--widths: found '{text}'; allowed here: {', '.join(allowed)}")
    return allowed[text]
