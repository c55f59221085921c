"""Plugins by name: the signature is the schema."""

import importlib
import re
from pathlib import Path

import pytest

from slimline.errors import SlimlineError
from slimline.registry import bind, build, complete, find, parameters_of

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src"
TABLES = [
    f"{'.'.join(path.relative_to(SOURCES).with_suffix('').parts).removesuffix('.__init__')}:{name}"
    for path in sorted(SOURCES.rglob("*.py"))
    for name in re.findall(r"^([A-Z]+): Table = ", path.read_text(), re.MULTILINE)
]
TABLE = {"method": "tiny:method", "other": "tiny:Plain", "untyped": "tiny:untyped"}


@pytest.mark.parametrize("place", TABLES)
def test_the_page_on_plugins_has_every_entry_of_every_table_in_its_order(place) -> None:
    module, _, name = place.partition(":")
    table = getattr(importlib.import_module(module), name)
    assert ", ".join(f"`{entry}`" for entry in table) in (ROOT / "docs" / "plugins.md").read_text()


def test_an_unknown_name_is_refused_with_the_choices_and_the_nearest() -> None:
    with pytest.raises(SlimlineError, match=r'found "metod"; did you mean method\? allowed here: method, other, untyped'):
        find(TABLE, "metod")


def test_a_method_is_found_by_name_and_by_import_path() -> None:
    assert find(TABLE, "method") is find(TABLE, "tiny:method")


@pytest.mark.parametrize("target", ["no_such_module:thing", "tiny:no_such_thing", "tiny:", ":method", "..tiny:method"])
def test_an_import_path_that_leads_nowhere_is_refused_with_itself(target) -> None:
    with pytest.raises(SlimlineError, match=f"cannot import '{target}'"):
        find(TABLE, target)


def test_what_cannot_be_called_is_no_method() -> None:
    with pytest.raises(SlimlineError, match="'tiny:NO_METHOD' is no class or function"):
        find(TABLE, "tiny:NO_METHOD")


def test_keyword_only_arguments_are_parameters_and_positional_ones_are_given_at_run_time() -> None:
    assert list(parameters_of(find(TABLE, "method"))) == ["rate", "label", "pair"]
    assert build(TABLE, {"name": "method", "rate": 0.5, "pair": [1, 2]}, 10, 20) == (10, 20, 0.5, "none", (1, 2))


def test_defaults_are_filled_in() -> None:
    assert complete(TABLE, {"name": "method", "rate": 1.0}) == {"name": "method", "rate": 1.0, "label": "none", "pair": ()}


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    assert complete(TABLE, {"name": "method", "rate": 2})["rate"] == 2.0


def test_a_method_without_annotations_takes_its_parameters_as_they_are() -> None:
    assert build(TABLE, {"name": "untyped", "anything": "x"}, 1) == (1, "x")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "rate: missing; known here: rate, label, pair"),
        ({"rate": 1.0, "lable": "x"}, "lable: no such parameter; did you mean label"),
        ({"raet": 1.0}, "raet: no such parameter; did you mean rate"),
        ({"rate": 1.0, "first": 3}, "first: no such parameter"),
        ({"rate": "1e-3"}, 'rate: found "1e-3"; .*write 0.001 without quotes'),
        ({"rate": True}, "rate: found true; it should be a valid number"),
        ({"rate": None}, "rate: found null; it should be a valid number"),
        ({"rate": 0.0}, "rate: found 0.0; it should be greater than 0"),
        ({"rate": float("nan")}, "rate: found NaN; it should be a finite number"),
        ({"rate": float("inf")}, "rate: found Infinity; it should be a finite number"),
        ({"rate": 1.0, "label": 3}, "label: found 3; it should be a valid string"),
        ({"rate": 1.0, "pair": [1, "2"]}, r'pair.1: found "2"; .*write 2 without quotes'),
        ({"rate": -1.0, "label": 3}, "rate: found -1.0; .*and 1 more"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_one_line(parameters, told) -> None:
    with pytest.raises(SlimlineError, match=told) as refusal:
        build(TABLE, {"name": "method", **parameters}, 1, 2)
    assert 'method "method"' in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spec", [{}, {"rate": 1.0}, {"name": 3}, {"name": None}])
def test_a_spec_without_a_name_is_refused_with_the_choices(spec) -> None:
    with pytest.raises(SlimlineError, match="the name of a method is needed: method, other, untyped"):
        bind(TABLE, spec)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tiny:method", "is given 1 arguments here, which it does not take .*; name a method of this kind: method, other, untyped"),
        ("builtins:dict", "'builtins:dict' has no signature that parameters could be read from"),
        ("tiny:unreadable", "'tiny:unreadable' has no signature that parameters could be read from"),
    ],
)
def test_a_method_of_another_kind_is_refused_before_it_is_called(name, told) -> None:
    with pytest.raises(SlimlineError, match=told):
        build(TABLE, {"name": name, **({"rate": 1.0} if name == "tiny:method" else {})}, 1)


def test_parameters_do_not_leak_from_one_build_to_the_next() -> None:
    spec = {"name": "method", "rate": 1.0, "label": "x"}
    build(TABLE, spec, 1, 2)
    assert spec == {"name": "method", "rate": 1.0, "label": "x"}
    assert build(TABLE, {"name": "method", "rate": 2.0}, 1, 2) == (1, 2, 2.0, "none", ())
