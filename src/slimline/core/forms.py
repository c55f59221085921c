"""The forms a network can take after its architecture is built, each one line here and one function.

A saved model lists its forms in the order in which they were taken on; replaying them on a fresh network gives a network with
the shapes and grids of the saved one, ready for its tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from slimline.core.binary import binary
from slimline.core.double import double
from slimline.core.masked import masked
from slimline.core.quantized import quantized
from slimline.core.resized import resized
from slimline.errors import SlimlineError

FORMS: Mapping[str, Callable[[nn.Module, Mapping[str, Any]], nn.Module]] = {
    "resized": resized,
    "masked": masked,
    "binary": binary,
    "quantized": quantized,
    "double": double,
}


def take_on(model: nn.Module, forms: Sequence[Mapping[str, Any]]) -> nn.Module:
    """`model` in the forms given, each `{"form": name, "record": …}`.

    Raises:
        SlimlineError: an unknown form (a newer or a foreign file).
    """
    for form in forms:
        if form["form"] not in FORMS:
            raise SlimlineError(f"the model has the form '{form['form']}', which this version does not know (known: {', '.join(FORMS)})")
        model = FORMS[form["form"]](model, form["record"])
    return model
