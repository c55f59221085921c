"""Replaying the forms of a saved model."""

import pytest
from torch import nn

import tiny
from slimline.core.forms import take_on
from slimline.errors import SlimlineError


def test_a_form_that_this_version_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(SlimlineError, match=r"'melted'.*resized, masked, binary, quantized, double"):
        take_on(tiny.trained(), [{"form": "melted", "record": {}}])


def test_forms_are_taken_on_in_their_order() -> None:
    narrow = {"classifier": {"in_features": 8, "out_features": 2}}
    wide = {"classifier": {"in_features": 8, "out_features": 5}}
    model = take_on(tiny.trained()[1], [{"form": "resized", "record": narrow}, {"form": "resized", "record": wide}])
    assert isinstance(model.classifier, nn.Linear)
    assert model.classifier.out_features == 5
