"""Several networks that answer as one: what is averaged, and how much each counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from slimline import artifacts
from slimline.errors import SlimlineError
from slimline.export.parity import parity
from slimline.export.runtime import OnnxModel
from slimline.models.ensemble import AVERAGES, NAME, mean_logits, mean_probabilities
from slimline.paths import ModelFolder
from slimline.registry import complete
from slimline.runtime.weighing import WEIGHINGS, equal, likelihood

ALL = pytest.mark.parametrize("average", sorted(AVERAGES))
SPECS = [tiny.model_spec("resnet"), tiny.model_spec("mlp")]


def answers(seed: int, members: int = 3, images: int = 40, size: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits of members that know something of the labels, the first one most."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (images,), generator=generator)
    noise = size * torch.randn(members, images, 4, generator=generator, dtype=torch.float64)
    known = torch.arange(members, 0, -1, dtype=torch.float64)[:, None, None]
    return noise + known * nn.functional.one_hot(labels, 4), labels


def manifest(average: str = "probabilities", weights: tuple[float, ...] = (0.25, 0.75)) -> artifacts.Manifest:
    spec = {"name": NAME, "members": SPECS, "average": average, "weights": weights}
    return tiny.manifest().model_copy(update={"architecture": spec})


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 1.0, 50.0, 1000.0]))
@settings(deadline=None, max_examples=40)
def test_the_softmax_of_averaged_probabilities_is_the_mean_of_probabilities(seed: int, scale: float) -> None:
    logits, _ = answers(seed, size=scale)
    weights = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    weights /= weights.sum()
    mean = (weights[:, None, None] * logits.softmax(2)).sum(0)
    found = mean_probabilities(logits, weights)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.softmax(1), mean, atol=1e-12)


def test_averaged_logits_are_the_members_geometric_mean() -> None:
    logits, _ = answers(1)
    product = logits.softmax(2).log().mean(0).exp()
    assert torch.allclose(mean_logits(logits, torch.full((3,), 1 / 3).double()).softmax(1), product / product.sum(1, keepdim=True))


@ALL
def test_members_that_agree_are_answered_as_one_of_them(average) -> None:
    logits = answers(2)[0][:1].expand(3, -1, -1)
    assert torch.allclose(AVERAGES[average](logits, torch.tensor([0.2, 0.5, 0.3]).double()).softmax(1), logits[0].softmax(1))


@ALL
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_no_other_shares_make_the_labels_likelier(average, seed: int) -> None:
    logits, labels = answers(seed)

    def loss(shares: Tensor) -> float:
        return float(nn.functional.cross_entropy(AVERAGES[average](logits, shares.clamp_min(1e-12)), labels))

    found = torch.tensor(likelihood(logits, labels, average), dtype=torch.float64)
    assert float(found.sum()) == pytest.approx(1.0)
    assert float(found.min()) >= 0
    generator = torch.Generator().manual_seed(seed)
    others = [torch.eye(3, dtype=torch.float64)[k] for k in range(3)] + [torch.full((3,), 1 / 3).double()]
    others += list(torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((20,)))
    others += [0.95 * found + 0.05 * torch.rand(3, generator=generator, dtype=torch.float64).softmax(0) for _ in range(5)]
    assert all(loss(found) <= loss(other / other.sum()) + 1e-4 for other in others)


def test_a_member_that_knows_nothing_does_not_count() -> None:
    logits, labels = answers(3, images=400, size=1.0)
    logits[2] = 5 * torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert likelihood(logits, labels, "logits")[2] == pytest.approx(0.0, abs=0.02)
    assert set(WEIGHINGS) == {"equal", "likelihood"}
    assert equal(logits, labels, "logits") == [1 / 3] * 3


@ALL
def test_an_ensemble_is_a_model_folder_like_any_other(average, tmp_path, images) -> None:
    made = manifest(average)
    torch.manual_seed(0)
    model = tiny.warmed(artifacts.fresh(made), made.input_shape)
    folder = ModelFolder(tmp_path / "teacher")
    artifacts.save(folder, made, model)
    read, again = artifacts.load(folder)
    assert read == artifacts.Manifest.model_validate_json(made.model_dump_json())
    members = torch.stack([member(model.get_submodule("normalize")(images)) for member in model.get_submodule("network.members").children()])
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
        assert torch.allclose(model(images), AVERAGES[average](members, torch.tensor([0.25, 0.75])), atol=1e-6)
    assert parity(model, OnnxModel(folder.onnx, threads=1), [images]).largest_difference < 1e-4
    assert artifacts.load_packed(folder.packed)[0] == read


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.0), (0.5, -1.0)])
def test_an_ensemble_without_one_weight_a_member_is_refused(weights) -> None:
    with pytest.raises(SlimlineError, match="weight"):
        artifacts.fresh(manifest(weights=weights))


def test_an_ensembles_members_are_checked_as_any_network_is() -> None:
    with pytest.raises(SlimlineError, match=r"members\.0\.width"):
        complete({}, {"name": NAME, "members": [{"name": "resnet", "width": 0}], "average": "logits", "weights": [1.0]})
