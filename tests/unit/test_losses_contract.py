"""What every distillation loss must keep: each entry of the table, held against its formula written anew in numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

import tiny
from slimline.core.batch import Batch
from slimline.core.labels import UNKNOWN
from slimline.distillation import LOSSES
from slimline.distillation.layers import shapes
from slimline.distillation.loss import Loss, Response, Shapes
from slimline.distillation.points import before_logits, last_map
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.quantization.calibrate import calibrated, plan
from slimline.registry import build, find

ALL = pytest.mark.parametrize("name", sorted(LOSSES))
FEATURES = [name for name in sorted(LOSSES) if not find(LOSSES, name).teaches_logits]  # type: ignore[attr-defined]

STUDENT = {"image": (1, 2, 2), "map": (3, 3, 2), "row": (3,), "logits": (4,)}
TEACHER = {"image": (1, 2, 2), "map": (2, 2, 3), "row": (5,), "logits": (4,)}
"""Layers of two networks, in the order in which they answer, and what each answers to an image."""

IMAGES = 5
NUMBERS = torch.tensor([0, 1, 2, 3, 0])
LABELS = {
    "numbers": NUMBERS,
    "mixed": torch.tensor([[0.75, 0.25, 0, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0.125, 0.875], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64),
    "partly unknown": torch.tensor([UNKNOWN, 1, UNKNOWN, 3, 0]),
    "partly unknown mixes": torch.tensor([[0.75, 0.25, 0, 0], [0, 0, 0, 0], [0.5, 0, 0.5, 0], [0] * 4, [0, 1, 0, 0]], dtype=torch.float64),
    "unknown": torch.full((IMAGES,), UNKNOWN),
}
EVERY_LABELS = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)


def response(shapes: Shapes, seed: int, size: float = 3.0, images: int = IMAGES) -> Response:
    """Numbers in the place of a network's answers."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return size * torch.randn(images, *shape, dtype=torch.float64, generator=generator)

    return Response(numbers(4), {name: numbers(*shape) for name, shape in shapes.items()})


def made(name: str, student: Shapes = STUDENT, teacher: Shapes = TEACHER, **parameters: Any) -> Loss:
    torch.manual_seed(0)
    loss: Loss = build(LOSSES, tiny.loss_spec(name) | parameters, student, teacher)
    return loss.double()


def student(seed: int = 1, size: float = 3.0, images: int = IMAGES) -> Response:
    return response(STUDENT, seed, size, images)


def teacher(seed: int = 2, size: float = 3.0, images: int = IMAGES) -> Response:
    return response(TEACHER, seed, size, images)


def picked(of: Response, images: Tensor) -> Response:
    return Response(of.logits[images], {name: values[images] for name, values in of.layers.items()})


def as_inputs(of: Response) -> list[Tensor]:
    return [of.logits.requires_grad_(), *(values.requires_grad_() for values in of.layers.values())]


def as_response(logits: Tensor, *layers: Tensor) -> Response:
    return Response(logits, dict(zip(STUDENT, layers, strict=True)))


# The formulas, in numpy and in their own words.


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    costs = [-(row @ log_softmax(values)) for values, row in zip(logits, labels, strict=True) if row.any()]
    return float(np.mean(costs)) if costs else 0.0


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    return np.exp(log_softmax(logits / temperature, axis=-1))


def soft_hard(s: np.ndarray, t: np.ndarray, y: np.ndarray, temperature: float, alpha: float) -> float:
    soft = np.mean([divergence(softened(b, temperature), softened(a, temperature)) for a, b in zip(s, t, strict=True)])
    return alpha * temperature**2 * float(soft) + (1 - alpha) * cross_entropy(s, y)


def dkd(s: np.ndarray, t: np.ndarray, y: np.ndarray, temperature: float, alpha: float, beta: float, hard: float) -> float:
    costs = []
    for a, b, row in zip(s, t, y, strict=True):
        target = (row if row.any() else b).argmax()
        p, q = softened(b, temperature), softened(a, temperature)
        tckd = divergence(np.array([p[target], 1 - p[target]]), np.array([q[target], 1 - q[target]]))
        nckd = divergence(np.delete(p, target) / (1 - p[target]), np.delete(q, target) / (1 - q[target]))
        costs.append(alpha * tckd + beta * nckd)
    return temperature**2 * float(np.mean(costs)) + hard * cross_entropy(s, y)


def shrunk(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = maps.shape[2:]
    values = np.empty((*maps.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            top, bottom = i * rows // size[0], -(-(i + 1) * rows // size[0])
            left, right = j * columns // size[1], -(-(j + 1) * columns // size[1])
            values[:, :, i, j] = maps[:, :, top:bottom, left:right].mean((2, 3))
    return values


def hint(s: np.ndarray, t: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    projected = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], shrunk(s, (2, 2))) + bias[:, None, None]
    return float(np.mean((projected - shrunk(t, (2, 2))) ** 2))


def attention(s: np.ndarray, t: np.ndarray) -> float:
    first, second = ((shrunk(maps, (2, 2)) ** 2).sum(1).reshape(IMAGES, -1) for maps in (s, t))
    costs = [((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum() for a, b in zip(first, second, strict=True)]
    return float(np.mean(costs))


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def relational(s: np.ndarray, t: np.ndarray, distance: float, angle: float) -> float:
    pairs = [(i, j) for i in range(IMAGES) for j in range(IMAGES) if i != j]
    triplets = [(i, j, k) for i, j in pairs for k in range(IMAGES) if k not in (i, j)]

    def apart(rows: np.ndarray) -> np.ndarray:
        lengths = np.array([np.linalg.norm(rows[i] - rows[j]) for i, j in pairs])
        return lengths / lengths.mean()

    def cosine(rows: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = rows[i] - rows[j], rows[k] - rows[j]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    far = np.mean([huber(d) for d in apart(s) - apart(t)])
    turned = np.mean([huber(cosine(s, *three) - cosine(t, *three)) for three in triplets])
    return distance * float(far) + angle * float(turned)


def similarity(s: np.ndarray, t: np.ndarray) -> float:
    def alike(maps: np.ndarray) -> np.ndarray:
        rows = maps.reshape(len(maps), -1)
        products = rows @ rows.T
        return products / np.linalg.norm(products, axis=1, keepdims=True)

    return float(((alike(s) - alike(t)) ** 2).sum()) / IMAGES**2


def contrastive(s: np.ndarray, t: np.ndarray, temperature: float) -> float:
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (s, t))
    alike = first @ second.T / temperature
    return -float(np.mean([log_softmax(alike[i])[i] + log_softmax(alike[:, i])[i] for i in range(IMAGES)])) / 2


def one_hot(labels: Tensor) -> np.ndarray:
    """Labels as rows of shares."""
    return labels.numpy() if labels.is_floating_point() else np.array([[float(label == c) for c in range(4)] for label in labels.tolist()])


def expected(name: str, loss: Loss, labels: Tensor) -> float:
    """What `loss`, built by `made`, should say of `student()` and `teacher()`."""
    own, theirs = student(), teacher()
    s, t, y = own.logits.numpy(), theirs.logits.numpy(), one_hot(labels)
    features = {key: (own.layers[key].numpy(), theirs.layers[key].numpy()) for key in STUDENT}
    weights = {key: value.detach().numpy() for key, value in loss.named_parameters()}
    formulas: dict[str, Callable[[], float]] = {
        "soft_hard": lambda: soft_hard(s, t, y, 3.0, 0.7),
        "hard": lambda: 0.5 * cross_entropy(s, np.eye(4)[t.argmax(1)]) + 0.5 * cross_entropy(s, y),
        "dkd": lambda: dkd(s, t, y, 4.0, 1.0, 8.0, 1.0),
        "labels": lambda: cross_entropy(s, y),
        "sum": lambda: 2 * soft_hard(s, t, y, 3.0, 0.7) + 0.5 * soft_hard(s, t, y, 1.0, 1.0),
        "hint": lambda: hint(*features["map"], weights["projections.0.weight"], weights["projections.0.bias"]),
        "attention": lambda: attention(*features["map"]),
        "relational": lambda: relational(*features["row"], 25.0, 50.0),
        "similarity": lambda: similarity(*features["map"]),
        "contrastive": lambda: contrastive(
            features["row"][0] @ weights["own.0.weight"].T + weights["own.0.bias"],
            features["row"][1] @ weights["theirs.0.weight"].T + weights["theirs.0.bias"],
            0.07,
        ),
    }
    return formulas[name]()


@ALL
@EVERY_LABELS
def test_a_loss_is_its_formula(name, labels) -> None:
    loss = made(name)
    assert loss(student(), teacher(), labels).item() == pytest.approx(expected(name, loss, labels), rel=1e-9)


@ALL
@EVERY_LABELS
def test_a_loss_has_the_gradient_of_its_values(name, labels) -> None:
    loss = made(name)
    assert torch.autograd.gradcheck(lambda *values: loss(as_response(*values), teacher(), labels), as_inputs(student()), fast_mode=True)


@ALL
def test_what_a_loss_owns_has_the_gradient_of_its_values(name) -> None:
    loss = made(name)
    own = {key: value.detach().clone().requires_grad_() for key, value in loss.named_parameters()}
    given = (student(), teacher(), NUMBERS)

    def value(*values: Tensor) -> Tensor:
        return torch.func.functional_call(loss, dict(zip(own, values, strict=True)), given)

    assert not own or torch.autograd.gradcheck(value, tuple(own.values()), fast_mode=True)


@ALL
@pytest.mark.parametrize("size", [0.0, 1e-15, 1.0, 1e4, 1e12])
@pytest.mark.parametrize("images", [1, 2, IMAGES])
def test_a_loss_is_a_finite_number_that_is_not_negative_with_finite_gradients(name, size, images) -> None:
    loss = made(name).float()
    own, theirs = (Response(r.logits.float(), {k: v.float() for k, v in r.layers.items()}) for r in (student(1, size, images), teacher(2, 1, images)))
    if name == "hint" and size > 1e4:
        return  # a square of differences beyond the range of floats
    inputs = as_inputs(own)
    value = loss(own, theirs, NUMBERS[:images])
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value >= 0
    gradients = torch.autograd.grad(value, [*inputs, *loss.parameters()], allow_unused=True)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


@ALL
def test_two_networks_that_are_sure_of_opposite_answers_have_a_finite_loss(name) -> None:
    loss = made(name).float()
    own, theirs = (Response(r.logits.float() * 1e4, {k: v.float() * 1e4 for k, v in r.layers.items()}) for r in (student(), teacher()))
    value = loss(own, theirs, NUMBERS)
    assert torch.isfinite(value)
    assert value >= 0


@ALL
def test_a_loss_falls_when_the_student_follows_its_gradient(name) -> None:
    loss, inputs = made(name), as_inputs(student())
    before = loss(as_response(*inputs), teacher(), NUMBERS)
    gradients = torch.autograd.grad(before, inputs, allow_unused=True)
    length = sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5
    moved = [x.detach() if g is None else x.detach() - 1e-3 / length * g for x, g in zip(inputs, gradients, strict=True)]
    assert loss(as_response(*moved), teacher(), NUMBERS) < before


@ALL
def test_the_teacher_makes_a_difference_but_to_the_labels(name) -> None:
    loss = made(name)
    assert (loss(student(), teacher(2), NUMBERS) != loss(student(), teacher(3), NUMBERS)) == (name != "labels")


@ALL
def test_the_labels_make_a_difference_where_logits_are_taught(name) -> None:
    loss = made(name)
    assert (loss(student(), teacher(), NUMBERS) != loss(student(), teacher(), NUMBERS.flip(0))) == (name not in FEATURES)


@ALL
@EVERY_LABELS
def test_order_within_the_batch_does_not_matter(name, labels) -> None:
    loss, order = made(name), torch.tensor([3, 0, 4, 1, 2])
    turned = loss(picked(student(), order), picked(teacher(), order), labels[order])
    assert torch.isclose(loss(student(), teacher(), labels), turned)


@ALL
def test_a_number_and_the_row_that_is_all_of_its_class_are_one_label(name) -> None:
    loss = made(name)
    for labels in (NUMBERS, LABELS["partly unknown"]):
        assert torch.isclose(loss(student(), teacher(), labels), loss(student(), teacher(), torch.from_numpy(one_hot(labels))))


ZERO = {"soft_hard": {"alpha": 1.0}, "dkd": {"hard": 0.0}, "hint": {}, "attention": {}, "relational": {}, "similarity": {}}
"""Losses that are zero, and least, where the student is the teacher: those with labels without them."""
NEITHER = {"hard", "labels", "sum", "contrastive"}
"""An answer taken as a label wants to be surer still; the labels know no teacher; `sum` is its terms; `contrastive` has projections, and
other images to tell apart."""


@ALL
def test_a_student_that_is_the_teacher_has_nothing_left_to_learn_but_where_it_is_said(name) -> None:
    if name not in ZERO:
        assert name in NEITHER
        return
    loss, inputs = made(name, TEACHER, TEACHER, **ZERO[name]), as_inputs(teacher())
    value = loss(Response(inputs[0], dict(zip(TEACHER, inputs[1:], strict=True))), teacher(), NUMBERS)
    assert abs(value.item()) < 1e-12
    assert not list(loss.parameters())
    gradients = torch.autograd.grad(value, inputs, allow_unused=True)
    assert all(g.abs().max() < 1e-12 for g in gradients if g is not None)
    for seed in range(5):
        other, away = teacher(), teacher(seed + 10)
        near = Response(other.logits + 0.1 * away.logits, {key: other.layers[key] + 0.1 * away.layers[key] for key in TEACHER})
        assert loss(near, teacher(), NUMBERS) > 1e-6


@ALL
def test_no_gradient_reaches_the_teacher_and_one_reaches_all_that_is_trained(name, images) -> None:
    model, teaching = tiny.trained("mobilenet").train(), tiny.trained("resnet").train()
    before = {key: tensor.clone() for key, tensor in teaching.state_dict().items()}
    taught = Taught(model, teaching, tiny.teaching_spec(name), (1, 8, 8))
    taught(Batch(images, torch.arange(16) % 3, torch.arange(16)), model).backward()
    assert all(p.grad is None and not p.requires_grad for p in teaching.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teaching.state_dict().items())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for part in (model, taught) for p in part.parameters())


@pytest.mark.parametrize("name", FEATURES)
def test_a_loss_that_compares_layers_alone_is_refused_but_as_a_term(name) -> None:
    model, teaching = tiny.trained(), tiny.trained("resnet")
    with pytest.raises(SlimlineError, match=rf"loss {name} compares layers alone.*a term of sum, beside soft_hard or labels"):
        Taught(model, teaching, tiny.loss_spec(name), (1, 8, 8))
    with pytest.raises(SlimlineError, match="loss sum compares layers alone"):
        Taught(model, teaching, {"name": "sum", "terms": [[1.0, tiny.loss_spec(name)]]}, (1, 8, 8))


@pytest.mark.parametrize("name", FEATURES)
def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_ones_and_their_shapes(name) -> None:
    own, theirs = (shapes(tiny.trained(network), (1, 8, 8)) for network in ("mobilenet", "resnet"))
    with pytest.raises(
        SlimlineError, match=rf"loss {name}: the student has no layer 'blocks.1' \(pair blocks.1, network.blocks\); nearest: .*network.blocks.1 \("
    ):
        made(name, own, theirs, pairs=[["blocks.1", "network.blocks"]])
    with pytest.raises(SlimlineError, match=r"the teacher has no layer 'network.blok' .*nearest: .*network.blocks \(16, 2, 2\)"):
        made(name, own, theirs, pairs=[["network.blocks", "network.blok"]])


@pytest.mark.parametrize(
    ("name", "pair", "told"),
    [
        ("hint", ["map", "row"], r"the student's 'map' \(3, 3, 2\) and the teacher's 'row' \(5,\) cannot be compared"),
        ("attention", ["row", "row"], r"the student's 'row' \(3,\) and the teacher's 'row' \(5,\) cannot be compared"),
        ("attention", ["map", "logits"], r"the student's 'map' \(3, 3, 2\) and the teacher's 'logits' \(4,\) cannot be compared"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused_with_names_and_shapes(name, pair, told) -> None:
    with pytest.raises(SlimlineError, match=told):
        made(name, pairs=[pair])


def test_where_there_is_no_map_the_loss_that_needs_one_says_so_and_the_others_take_rows() -> None:
    rows = {"image": (1, 2, 2), "early": (7,), "late": (3,), "logits": (4,)}
    with pytest.raises(SlimlineError, match="loss attention: the student has no last map; name the layers in pairs"):
        made("attention", rows, TEACHER)
    assert made("hint", rows, TEACHER).pairs == made("similarity", rows, TEACHER).pairs == (("late", "row"),)


@pytest.mark.parametrize("name", tiny.MODEL)
def test_each_network_of_the_zoo_has_points_to_compare(name) -> None:
    found = shapes(tiny.trained(name), (1, 8, 8))
    point, deepest = before_logits(found), last_map(found)
    assert point is not None
    assert point != "network"
    # Behind the classifier of binary networks stands a norm, so what feeds the last layer are logits already.
    assert point.startswith("network.classifier") == name.startswith("binarynet")
    assert (deepest is None) == (name in ("mlp", "binarynet", "vit"))
    for loss in FEATURES:
        if deepest is not None or loss != "attention":
            assert build(LOSSES, tiny.loss_spec(loss), found, found).pairs[0] in {(point, point), (deepest, deepest)}


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_a_quantized_network_has_the_points_of_the_network_that_it_was(name) -> None:
    model = tiny.trained(name)
    record = plan(model, (1, 8, 8), weight_bits=8, activation_bits=8)
    grids = calibrated(model, record, iter([torch.rand(16, 1, 8, 8)]), weights={"name": "min_max"}, activations={"name": "min_max"})
    before, after = (shapes(network, (1, 8, 8)) for network in (model, grids))
    assert {after[point] for point in (last_map(after), before_logits(after))} == {
        before[point] for point in (last_map(before), before_logits(before))
    }


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "soft_hard", "temperature": 0.0, "alpha": 0.5}, "temperature"),
        ({"name": "soft_hard", "temperature": 1.0, "alpha": 1.5}, "alpha"),
        ({"name": "hard", "alpha": 0.0}, "alpha"),
        ({"name": "dkd", "temperature": 0.0}, "temperature"),
        ({"name": "dkd", "beta": 0.0}, "beta"),
        ({"name": "contrastive", "temperature": 0.0}, "temperature"),
        ({"name": "contrastive", "dim": 0}, "dim"),
        ({"name": "relational", "distance": 0.0}, "distance"),
        ({"name": "hint", "pairs": []}, "pairs"),
        ({"name": "hint", "pairs": [["map"]]}, "pairs"),
        ({"name": "sum", "terms": []}, "terms"),
        ({"name": "sum", "terms": [[0.0, {"name": "soft_hard", "temperature": 1.0, "alpha": 1.0}]]}, "terms"),
        ({"name": "sum", "terms": [[1.0, {"name": "soft_hard", "temperature": -1.0, "alpha": 1.0}]]}, "temperature"),
    ],
)
def test_an_impossible_parameter_is_refused(spec, told) -> None:
    with pytest.raises(SlimlineError, match=told):
        build(LOSSES, spec, STUDENT, TEACHER)


@ALL
def test_the_page_on_distillation_has_a_row_for_every_loss(name) -> None:
    assert f"\n| `{name}` |" in (Path(__file__).parents[2] / "docs" / "distillation.md").read_text()
