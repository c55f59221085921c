"""The report page, on small numbers made up for each case."""

import copy
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimline.errors import SlimlineError
from slimline.evaluation.layers import Layer
from slimline.evaluation.masking import TESTS
from slimline.evaluation.promise import outcome
from slimline.evaluation.statistics import compare
from slimline.params.evaluate import Gates, Promise
from slimline.paths import Paths
from slimline.report import figures, one_bit
from slimline.report.curves import read
from slimline.report.drawing import COLORS
from slimline.report.gates import TITLES
from slimline.report.gates import verdict as verdict_of_gates
from slimline.report.mistakes import picked
from slimline.report.numbers import milliseconds, points, short, size, times
from slimline.report.page import page
from slimline.report.plots import write_plots
from slimline.report.promise import section as promised
from slimline.report.robustness import less_robust, masked, table, verdict
from slimline.report.tables import models_table
from slimline.report.words import Level, accuracy_sentence, drawbacks, headline, meaning

MODELS = ("teacher", "student", "student_alone", "pruned", "quantized")
CLASSES = ("cat", "<b>dog</b>", "$x_1$")
NO_GATES = {"gates": {}, "passed": None}
LAYERS = [Layer("net.stem.conv", 100, 60, 30, 8, 8), Layer("net.head.fc", 50, 50, 50, 4, 32)]
IMAGES = {number: np.full((1, 8, 8), number, np.uint8) for number in (7, 9)}


def card(packed_bytes: int, errors: int) -> dict[str, Any]:
    accuracy = 1 - errors / 100
    return {
        "validation_accuracy": accuracy,
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.04,
        "accuracy_high": min(accuracy + 0.03, 1.0),
        "errors": errors,
        "ece": 0.02,
        "top5_accuracy": None,
        "nll": 0.1,
        "reliability": [
            {"low": 0.4, "high": 0.5, "images": 10, "confidence": 0.45, "accuracy": 0.5},
            {"low": 0.9, "high": 1.0, "images": 90, "confidence": 0.97, "accuracy": 0.95},
        ],
        "per_class": [{"images": n, "right": n - 2, "accuracy": 1 - 2 / n, "accuracy_low": 0.8, "accuracy_high": 0.99} for n in (32, 34, 34)],
        "confusion": [[0, 0, 30], [0, 1, 2], [1, 0, 1], [1, 1, 33], [2, 1, 2], [2, 2, 32]],
        "params": packed_bytes // 4,
        "nonzero_params": packed_bytes // 4,
        "macs": 1_000_000,
        "bops": 1_024_000_000,
        "packed_bytes": packed_bytes,
        "onnx_bytes": packed_bytes + 1000,
        "attacks": attacks(errors),
    }


def attacks(errors: int) -> dict[str, Any]:
    def of(budget: float, fooled: int) -> dict[str, Any]:
        accuracy = (50 - errors - fooled) / 50
        return {"budget": budget, "fooled": fooled, "accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1}

    methods = {
        "<i>fgsm</i>": {"measure": "linf", "access": "gradient", "points": [of(0.1, 10), of(0.2, 20)], "fooled_without_bound": None},
        "blur": {"measure": "severity", "access": "nothing", "points": [of(3.0, 5)], "fooled_without_bound": None},
    }
    masking = {"one_step_beats_iterated": [], "black_box_beats_white_box": None, "unbounded_attack_fails": [], "loss_does_not_grow": []}
    return {"images": 50, "right": 50 - errors, "methods": methods, "together": {"linf": [of(0.1, 12), of(0.2, 22)]}, "masking": masking}


def pair(difference: float, low: float, high: float, only_first: int = 2, only_second: int = 3) -> dict[str, Any]:
    return {
        "images": 100,
        "only_first": only_first,
        "only_second": only_second,
        "difference": difference,
        "low": low,
        "high": high,
        "p_value": 0.5,
        "p_holm": 0.75,
    }


def parts(image: int, actual: int, teacher: int, quantized: int) -> dict[str, Any]:
    """An image on which models part."""
    answers = {name: {"predicted": quantized if name == "quantized" else teacher, "probability": 0.75} for name in MODELS}
    return {"image": image, "actual": actual, "answers": answers}


def a_scorecard() -> dict[str, Any]:
    sizes = (1_000_000, 250_000, 250_500, 120_000, 40_000)
    return {
        "data": {"name": "pets", "classes": 3, "train": 400, "validation": 90, "test": 100, "digest": "0123abcd", "class_names": list(CLASSES)},
        "models": {name: card(one, errors) for name, one, errors in zip(MODELS, sizes, (3, 3, 4, 4, 5), strict=True)},
        "comparisons": {
            "student_vs_student_alone": pair(0.05, 0.01, 0.09),
            "pruned_vs_student": pair(-0.01, -0.03, 0.01),
            "quantized_vs_teacher": pair(-0.02, -0.05, 0.01),
        },
        "disagreements": {"images": 2, "shown": [parts(7, 0, 0, 1), parts(9, 2, 1, 2), parts(11, 1, 1, 1)]},
        "robustness": [
            {"first": "quantized", "second": "teacher", "measure": "linf", "budget": 0.1, **pair(-0.04, -0.09, 0.01)},
            {"first": "quantized", "second": "teacher", "measure": "linf", "budget": 0.2, **pair(-0.02, -0.05, 0.01)},
        ],
    }


def ratio(speed_up: float, verdict: str = "faster") -> dict[str, Any]:
    return {"speed_up": speed_up, "low": 0.9 * speed_up, "high": 1.1 * speed_up, "verdict": verdict}


def timing(p50_ms: float) -> dict[str, float]:
    return {"p50_ms": p50_ms, "p95_ms": 2 * p50_ms, "images_per_second": 1000 / p50_ms}


def a_latency() -> dict[str, Any]:
    speeds = {"student": 2.0, "student_alone": 2.0, "pruned": 3.0, "quantized": 4.0}
    return {
        "commit": "0123456789abcdef",
        "dirty": True,
        "date": "2026-11-26",
        "machine": {"processor": "made up", "cores": 1, "memory_gib": 2.0, "system": "Linux"},
        "runtime": "onnxruntime 0",
        "threads": 1,
        "rounds": 50,
        "models": {name: {"batch_1": timing(0.1 / speeds.get(name, 1.0))} for name in MODELS},
        "sessions": {
            name: {"load_ms": 3.0, "cold_start_ms": 5.0, "peak_memory_bytes": {"batch_1": 9_000_000 if name == "teacher" else None}}
            for name in MODELS
            if name != "pruned"
        },
        "ratios_to_teacher": {name: {"batch_1": ratio(one)} for name, one in speeds.items()},
    }


def some_curves(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.csv" for name in MODELS}
    for path in paths.values():
        path.write_text("epoch,train_loss,val_loss,val_accuracy,steps\n0,1.5,1.2,0.5,9\n1,0.5,0.4,0.95,18\n2,0.4,0.4,0.95,27\n")
    return paths


@pytest.fixture
def scorecard() -> dict[str, Any]:
    return a_scorecard()


@pytest.fixture
def latency() -> dict[str, Any]:
    return a_latency()


@pytest.fixture
def curves(tmp_path: Path) -> dict[str, Path]:
    return some_curves(tmp_path)


class Elements(HTMLParser):
    """Every start tag with its attributes, and the ids among them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the unchanged numbers, drawn once."""
    curves = some_curves(tmp_path_factory.mktemp("curves"))
    return page(a_scorecard(), a_latency(), NO_GATES, curves, confidence=0.95, weights=LAYERS, images=IMAGES)


def test_the_page_fetches_nothing(html):
    elements = Elements(html)
    for tag in ("script", "link", "iframe", "base", "object"):
        assert not elements.all(tag)
    addresses = [value for _, attributes in elements.tags for name, value in attributes.items() if name in ("src", "href", "xlink:href", "srcset")]
    assert all(str(address).startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert "@import" not in html
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", html))


def test_the_same_inputs_give_the_same_bytes_and_are_left_as_they_were(html, scorecard, latency, curves):
    before = copy.deepcopy((scorecard, latency))
    assert page(scorecard, latency, NO_GATES, curves, confidence=0.95, weights=LAYERS, images=IMAGES) == html
    assert (scorecard, latency) == before


def test_gates_are_told_first_and_failures_before_what_passed():
    gates = {
        "size_ratio": {"limit": 10.0, "value": 25.0, "worst": 25.0, "passed": True, "why": ""},
        "accuracy_drop": {"limit": 0.02, "value": 0.01, "worst": 0.05, "passed": False, "why": "not shown: it may be 5.00 %"},
        "latency_ms": {"limit": 2.0, "value": None, "worst": None, "passed": False, "why": "not measured"},
    }
    told = verdict_of_gates({"gates": gates, "passed": False})
    assert (told.title, told.mood, [line.passed for line in told.lines]) == ("Fails 2 of 3 gates", "worse", [False, False, True])
    assert told.lines[0].text == "Test accuracy lost: 1.00 %, at worst 5.00 % (limit at most 2.00 %): not shown: it may be 5.00 %"
    assert told.lines[1].text == "Milliseconds for one image (limit at most 2): not measured"
    assert told.lines[2].text == "Times smaller: 25 (limit at least 10)"
    passed = verdict_of_gates({"gates": {"size_ratio": gates["size_ratio"]}, "passed": True})
    assert (passed.title, passed.mood) == ("Passes 1 gate", "good")
    assert set(TITLES) == set(Gates.model_fields)


def test_the_model_to_ship_stands_beside_the_teacher(html, scorecard, latency):
    assert re.search(">teacher</th><th[^>]*>quantized</th><th[^>]*>student</th>", html)
    for part in models_table(scorecard, latency):
        assert {len(row.cells) for row in part.rows} == {len(MODELS)}
    sizes = next(row for part in models_table(scorecard, latency) for row in part.rows if row.name == "Packed file")
    assert [cell.text for cell in sizes.cells] == ["1.00 MB", "40.0 kB", "250 kB", "250 kB", "120 kB"]


def test_class_names_are_text_and_never_markup(html):
    assert "<b>" not in html
    assert "&lt;b&gt;dog&lt;/b&gt;" in html
    assert "$x_1$" in html


def test_every_figure_has_an_accessible_name_and_a_caption(html):
    elements = Elements(html)
    named = [attributes["aria-label"] for _, attributes in elements.tags if attributes.get("role") == "img"]
    drawings = elements.all("svg")
    assert len(named) == len(drawings) == len(elements.all("figure")) == len(elements.all("figcaption")) == 10
    assert len(set(named)) == len(named)
    assert all(named)
    assert all(drawing["aria-hidden"] == "true" for drawing in drawings)


def test_the_page_has_a_language_and_its_tables_have_scoped_headings(html):
    elements = Elements(html)
    assert elements.all("html") == [{"lang": "en"}]
    assert all(heading["scope"] in ("col", "row", "rowgroup") for heading in elements.all("th"))


def test_ids_are_unique_and_every_reference_in_a_drawing_meets_one(html):
    ids = [attributes["id"] for _, attributes in Elements(html).tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    assert references
    assert set(references) <= set(ids)


def test_the_verdict_says_how_much_smaller_and_faster(scorecard, latency):
    assert headline(scorecard, latency) == (
        "The quantized model is 25.0× smaller than the teacher, 4.00× as fast at batch 1; no difference in accuracy is shown."
    )


def test_the_verdict_says_slower_when_the_quantized_model_is_slower(scorecard, latency):
    latency["ratios_to_teacher"]["quantized"]["batch_1"] = ratio(0.8, "slower")
    assert "slower at batch 1 (0.80× its speed)" in headline(scorecard, latency)
    assert any(text.startswith("The quantized model is slower than the teacher at batch 1") for text in drawbacks(scorecard, latency))


def test_the_verdict_joins_batch_sizes_of_one_pace_and_tells_what_accuracy_it_costs(scorecard, latency):
    scorecard["comparisons"]["quantized_vs_teacher"] = pair(-0.05, -0.09, -0.01)
    slow = ratio(0.8, "slower")
    fast = [ratio(4.0), ratio(3.0)]
    latency["ratios_to_teacher"] = {"quantized": {"batch_1": fast[0], "batch_8": fast[1], "batch_64": slow, "batch_99": slow}}
    assert headline(scorecard, latency) == (
        "The quantized model is 25.0× smaller than the teacher, 4.00× as fast at batch 1 and 3.00× at batch 8, "
        "slower at batch 64 (0.80× its speed) and batch 99 (0.80× its speed); it is 5.0 points less accurate."
    )
    (line,) = [text for text in drawbacks(scorecard, latency) if "slower than the teacher" in text]
    assert line.count("interval 0.72× to 0.88×") == 2


def test_a_speed_whose_interval_includes_one_is_called_neither_faster_nor_slower(scorecard, latency):
    latency["ratios_to_teacher"]["quantized"]["batch_1"] = ratio(1.02, "no difference shown")
    assert "not shown to be faster at batch 1" in headline(scorecard, latency)


def test_the_verdict_says_when_the_file_did_not_shrink(scorecard, latency):
    scorecard["models"]["quantized"]["packed_bytes"] = 2_000_000
    assert "not smaller than the teacher (2.00× its size)" in headline(scorecard, latency)
    assert any("file is not smaller than the pruned" in text for text in drawbacks(scorecard, latency))


def test_a_step_slower_than_the_one_before_is_named(scorecard, latency):
    assert not any("slower" in text for text in drawbacks(scorecard, latency))
    latency["ratios_to_teacher"]["quantized"]["batch_1"] = ratio(1.5)
    assert any(text.startswith("The quantized model is slower than the pruned one") for text in drawbacks(scorecard, latency))


def test_an_interval_that_includes_zero_shows_no_difference_and_is_not_called_equality(scorecard):
    assert meaning(scorecard) == (
        "The interval includes zero: the data do not show a difference in accuracy; a loss of up to 5.0 points fits them as well."
    )
    assert "5 errors to the teacher's 3 (difference −2.0 points, 90\u202f% interval −5.0 to +1.0)" in accuracy_sentence(scorecard, Level(0.9))


def test_an_interval_below_zero_is_called_less_accurate(scorecard, latency):
    scorecard["comparisons"]["quantized_vs_teacher"] = pair(-0.05, -0.09, -0.01)
    assert "less accurate than the teacher" in meaning(scorecard)
    assert any("quantized model is less accurate than the teacher" in text for text in drawbacks(scorecard, latency))


def test_full_agreement_is_not_called_proof(scorecard):
    always_right = np.ones(100, dtype=bool)
    scorecard["comparisons"]["quantized_vs_teacher"] = asdict(compare(always_right, always_right, 0.95))
    assert meaning(scorecard).startswith("The interval includes zero: the data do not show a difference in accuracy; a loss of up to 3.")


def test_distillation_that_shows_no_gain_is_named(scorecard, latency):
    assert not any("teacher's help" in text for text in drawbacks(scorecard, latency))
    scorecard["comparisons"]["student_vs_student_alone"] = pair(0.0, -0.02, 0.02)
    assert any("do not show that the teacher's help" in text for text in drawbacks(scorecard, latency))


SIGN = {"attack": "square", "against": "pgd", "budget": 0.1, "found": 0.5, "expected": 0.2}


def test_a_model_whose_gradients_may_be_masked_is_named_wherever_its_robustness_is(scorecard, latency, curves) -> None:
    assert list(masked(scorecard)) == []
    scorecard["models"]["pruned"]["attacks"]["masking"]["black_box_beats_white_box"] = [SIGN]
    (line,) = masked(scorecard)
    assert line == (
        "Robustness of the pruned model is not shown, its gradients may be masked: "
        "square sees no gradient and fools more than pgd, which does (50.0\u202f% to 20.0\u202f% at 0.1)."
    )
    html = page(scorecard, latency, NO_GATES, curves)
    assert line in html
    assert "Robustness not shown: pruned; their gradients may be masked." in html
    assert re.search(r'Masked gradients.*<td class="worse">robustness not shown</td>', html, re.S)


@pytest.mark.parametrize("test", TESTS)
def test_every_sign_has_words(test, scorecard) -> None:
    without = {"unbounded_attack_fails": {"against": None, "budget": None}, "loss_does_not_grow": {"against": "linf 0"}}
    scorecard["models"]["teacher"]["attacks"]["masking"] = {test: [SIGN | without.get(test, {})]}
    (line,) = masked(scorecard)
    assert "None" not in line
    assert "square" in line
    assert "{" not in line


def test_what_was_not_tried_is_no_clean_bill(scorecard) -> None:
    one = scorecard["models"]["teacher"]["attacks"]
    assert verdict(one) == "no sign"
    assert verdict({**one, "masking": dict.fromkeys(one["masking"])}) == "not tested"


def test_a_loss_of_robustness_is_told_once_a_pair_where_it_is_largest(scorecard) -> None:
    assert list(less_robust(scorecard)) == []
    for row, low in zip(scorecard["robustness"], (-0.09, -0.05), strict=True):
        row.update(low=low, high=-0.01)
    (line,) = less_robust(scorecard)
    assert line.startswith("Under attack the quantized model is less accurate than the teacher model: −4.0 points at L∞ 0.1 (interval −9.0 to −1.0")


def test_the_curves_data_start_at_a_budget_of_zero(scorecard) -> None:
    rows = table(scorecard)
    assert [row["budget"] for row in rows] == [0.0, 0.1, 0.2]
    assert [row["teacher"] for row in rows] == [47 / 50, 35 / 50, 25 / 50]
    for card in scorecard["models"].values():
        card["attacks"]["together"] = {}
    assert [row["quantized"] for row in table(scorecard)] == [45 / 50]
    for card in scorecard["models"].values():
        del card["attacks"]
    assert [row["quantized"] for row in table(scorecard)] == [0.95]


@pytest.mark.parametrize(
    ("low", "high", "bops", "said"),
    [
        (0.90, 0.99, 1_024_000_000, "as promised"),
        (0.97, 0.99, 1_024_000_000, "below what was promised"),
        (0.90, 0.91, 1_000, "the promise is of another model"),
    ],
)
def test_what_a_sweep_promised_stands_beside_what_came_of_it(low, high, bops, said, scorecard) -> None:
    made = scorecard["models"]["quantized"]
    made["accuracy"] = 0.95
    scorecard["promise"] = outcome(Promise(sweep="bits", trial=7, accuracy=(low, high), packed_bytes=made["packed_bytes"] + 5, bops=bops), made)
    section = promised(scorecard)
    assert section.table is not None
    assert section.table.rows[0][:3] == ["test accuracy", f"{100 * low:.1f}\u202f% to {100 * high:.1f}\u202f%", "95.0\u202f%"]
    assert section.table.rows[1][3] == "\u22125"
    assert said in f"{section.table.rows[0]} {section.table.note}"


def test_of_what_was_not_measured_the_page_says_nothing(scorecard, latency, curves) -> None:
    for card in scorecard["models"].values():
        del card["attacks"]
    for path in curves.values():
        path.unlink()
    html = page(scorecard, latency, NO_GATES, curves)
    assert "obustness" not in html
    assert "attack" not in html
    assert "95\u202f%" not in html  # no level was given
    assert "No gates are set" in html
    assert "Not worse by" not in html
    assert "interval −5.0 to +1.0" in html
    assert "No training curve of: teacher, student, student alone, pruned, quantized" in html
    assert len(Elements(html).all("figure")) == 6
    assert 'id="training"' not in html


def test_a_damaged_curve_is_refused_with_its_path(curves):
    curves["pruned"].write_text("epoch,loss\n0,high\n")
    with pytest.raises(SlimlineError, match=r"pruned\.csv: no training curve"):
        read(curves)


def test_the_epoch_kept_is_the_first_of_the_best(curves):
    assert read(curves)["teacher"].best == 1


def test_models_on_one_spot_are_drawn_apart_and_others_stay():
    assert figures.aside(np.array([0.5, 0.1, 0.51, 0.9])) == [-4.5, 0.0, 4.5, 0.0]


def test_of_many_classes_those_with_most_errors_are_drawn(scorecard, latency, curves):
    matrix = np.diag(np.full(60, 5))
    matrix[50, 7] = 3
    assert {7, 50} <= set(figures.hardest([matrix], 16))
    scorecard["data"]["class_names"] = [f"a rather long class name {number}" for number in range(60)]
    for name in ("teacher", "quantized"):
        row = {"images": 5, "right": 5, "accuracy": 1.0, "accuracy_low": 0.5, "accuracy_high": 1.0}
        scorecard["models"][name]["per_class"] = [row] * 59 + [{**row, "images": 0, "right": 0, "accuracy": None}]
        scorecard["models"][name]["confusion"] = [[a, p, int(n)] for (a, p), n in np.ndenumerate(matrix) if n]
    html = page(scorecard, latency, NO_GATES, curves)
    assert "The 16 of 60 classes with the most errors" in html
    assert "The 16 classes of 60 that lost most" in html
    assert "a rather long class name 50 taken for a rather long class name 7 3×" in html


def test_images_on_which_models_part_are_shown_by_who_is_right(scorecard, html):
    rows = {kind: [row["image"] for row in rows] for kind, rows in picked(scorecard).items()}
    assert rows == {"Right by the teacher alone": [7], "Right by the quantized model alone": [9]}
    (lost, won) = Elements(html).all("img")
    assert lost["alt"] == "Test image 7, class cat; teacher: cat, 75\u202f%; quantized: <b>dog</b>, 75\u202f%"
    assert str(won["src"]).startswith("data:image/png;base64,")
    assert "Right by the teacher alone: 3, 1 shown" in html


def test_layers_are_told_against_those_of_the_student(html):
    assert "Of the student&#39;s 150 weights in 2 layers 110 are left, 80 of them not zero (53.3\u202f%)." in html
    assert "Weights have 4 bits in 1 layer, 8 bits in 1 layer, what layers read has 8 bits in 1 layer, 32 bits in 1 layer." in html
    assert re.search(">stem.conv<.*>head.fc<", html, re.S)


def test_sureness_is_told_beside_the_calibration_error(html):
    assert "teacher: calibration error 2.0\u202f%, on the mean 1.3\u202f% too sure, negative log-likelihood 0.100" in html


def test_the_front_leaves_out_what_another_beats_in_both():
    assert figures.front([1.0, 2.0, 2.0, 3.0, 4.0], [0.5, 0.6, 0.7, 0.6, 0.9]) == [0, 2, 4]


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.08), (0.9, 1.1), (1300, 112_000), (1e-3, 1e6), (5.0, 5.2)])
def test_ticks_are_few_round_and_within_the_axis(low, high):
    found = figures.ticks(low, high)
    assert 2 <= len(found) <= 10
    assert all(low < one < high for one in found)


def test_every_figure_has_its_numbers_in_a_file_for_dvc(tmp_path, scorecard, latency, html):
    written = {str(path.relative_to(tmp_path)): path for path in write_plots(Paths(tmp_path), scorecard, latency, LAYERS)}
    named = {name for name in re.findall(r"<code>(plots/[^<]*)</code>", html) if not name.endswith("/")}
    assert named <= set(written) | {"plots/robustness.csv"}
    assert written["plots/layers.csv"].read_text().splitlines()[1] == "net.stem.conv,100,60,30,8,8,0.3"
    assert written["plots/confusion.csv"].read_text().count("\n") == 101
    assert written["plots/calibration/teacher.csv"].read_text() == "confidence,accuracy,images\n0.45,0.5,10\n0.97,0.95,90\n"


def test_figures_are_drawn_in_the_ink_of_the_page_on_no_background(html):
    assert "currentColor" in html
    assert "#010203" not in html
    assert "#ffffff" not in figures.latency({"teacher": {"batch_1": {"p50_ms": 1.0, "p95_ms": 1.0}}}, "batch_1")


@pytest.mark.parametrize("background", ["#ffffff", "#1a1e23"])
@pytest.mark.parametrize("color", COLORS)
def test_every_colour_stands_out_on_light_and_on_dark(color, background):
    def luminance(code: str) -> float:
        channels = [int(code[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, light = sorted((luminance(color), luminance(background)))
    assert (light + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (times(29.03), "29.0×"),
        (times(2.456), "2.46×"),
        (times(131.4), "131×"),
        (points(-0.0059, 338), "−0.6"),
        (points(-0.0002, 338), "0.0"),
        (points(0.0123, 10_000), "+1.23"),
        (size(999), "999 B"),
        (size(35_031), "35.0 kB"),
        (short(2_593_783_808), "2.59 G"),
        (milliseconds(0.05041), "0.0504"),
        (milliseconds(1.9907), "1.99"),
        (milliseconds(1234.5), "1234"),
    ],
)
def test_numbers_are_rounded_to_what_a_reader_needs(text, expected):
    assert text == expected


def test_a_network_of_one_bit_is_set_beside_real_numbers_and_8_bits(html, scorecard, latency) -> None:
    assert "one-bit" not in html
    ways = ("fp32", "int8", "binary", "xnor")
    told = {"images": 100, "agreement": 1.0, "binary_weights": 20_001, "onnx_bytes": {"fp32": 88_000, "int8": 30_000, "binary": 31_000}}
    told["models"] = {way: {"batch_1": {"p50_ms": 8.0 / (place + 1), "p95_ms": 9.0}} for place, way in enumerate(ways)}
    for other, at in (("fp32", ratio(4.0)), ("int8", ratio(0.5, "slower"))):
        told[f"ratios_to_{other}"] = {way: {"batch_1": at} for way in ways if way != other}
    bits = one_bit.section(scorecard, latency | {"one_bit": told}, Level(0.95))
    summary = "4.00× the speed of real numbers at batch 1 (faster); 0.50× the speed of 8 bits at batch 1 (slower)."
    packed_bytes = size(scorecard["models"]["quantized"]["packed_bytes"])
    row = f'<th scope="row">packed bits</th><td>{packed_bytes}</td><td>2.00</td><td>4.00× (3.60 to 4.40)</td><td>0.50× (0.45 to 0.55)</td>'
    for said in (summary, row, "20,001 weights of ±1 take 2.50 kB", "On 100.0\u202f% of the 100 test images", "in brackets the 95\u202f% interval"):
        assert said in bits
    assert one_bit.section(scorecard, latency | {"one_bit": None}, Level(0.95)) == ""
