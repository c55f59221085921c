"""Which teachers are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from slimline import artifacts
from slimline.data.sources.item import Item
from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.runtime import teacher as teachers
from slimline.runtime.teacher import load_teacher


def plain(count: int) -> list[Item]:
    """Images of three levels of grey, one a class, with a little noise that keeps them apart."""
    noise = np.random.default_rng(0).integers(0, 20, (count, 8, 8), dtype=np.uint8)
    return [item._replace(content=noise[n] + np.uint8(n % 3 * 100)) for n, item in enumerate(tiny.items(count, classes=3))]


def knowing() -> torch.nn.Module:
    """A teacher that sees the level: logits are lines of it, of which each is the highest where its class is."""
    model = artifacts.fresh(MANIFEST)
    with torch.no_grad():
        network = model.get_submodule("network")
        for p in network.parameters():
            p.zero_()
        network.get_submodule("hidden.0").weight[0] = 1 / 64
        network.get_submodule("hidden.0").bias[0] = 3.0
        level = torch.tensor([10.0, 110.0, 210.0]) / 255
        seen = (level - 0.4) / 0.3 + 3
        network.get_submodule("classifier").weight[:, 0] = 2 * seen
        network.get_submodule("classifier").bias.copy_(-seen.square())
    return model.eval()


MANIFEST = tiny.manifest().model_copy(update={"architecture": {"name": "mlp", "hidden": [4]}})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    root = tmp_path_factory.mktemp("workspace")
    with tiny.prepared(plain(600)) as made:
        (root / "data").mkdir()
        (root / "data" / "prepared").symlink_to(made.folder)
        yield Paths(root)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a network the teacher; what it is saved as is another matter."""

    def give(model: torch.nn.Module, **changes: Any) -> None:
        monkeypatch.setattr(artifacts, "load", lambda _: (MANIFEST.model_copy(update=changes), model))

    return give


def test_a_teacher_that_knows_its_classes_is_taken(paths: Paths, given: Any) -> None:
    model = knowing()
    given(model)
    assert load_teacher(paths, MANIFEST) is model


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("classes", ("class 0", "class 1", "another")),
        ("input_shape", (1, 9, 9)),
        ("mean", (0.5,)),
        ("std", (0.2,)),
    ],
)
def test_a_teacher_of_other_images_or_classes_is_refused_with_both_facts(fact: str, value: Any, paths: Paths, given: Any) -> None:
    given(knowing(), **{fact: value})
    with pytest.raises(SlimlineError) as refused:
        load_teacher(paths, MANIFEST)
    assert f"models/teacher has {fact} {value}, the student {getattr(MANIFEST, fact)}" in str(refused.value)


class Constant(torch.nn.Module):
    """A teacher that says the same of every image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(images), 3)


class Contrary(torch.nn.Module):
    """A teacher that is right of no image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -knowing()(images)


def test_a_teacher_that_knows_nothing_is_refused_with_its_figure_and_that_of_chance(paths: Paths, given: Any) -> None:
    for model in (Constant(), Contrary()):
        given(model)
        with pytest.raises(
            SlimlineError,
            match=r"models/teacher names the right class of .*% of \d+ validation images \(95 % interval .*where chance names that of 33\.3%",
        ):
            load_teacher(paths, MANIFEST)


def test_few_images_are_no_reason_to_refuse_a_teacher_that_is_mostly_right(tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiny.prepared(plain(60)) as made:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "prepared").symlink_to(made.folder)
        given(knowing())
        monkeypatch.setattr(teachers, "ASKED", 3)  # the interval of 3 of 3 reaches down to 0.44; of 1 of 1 to 0.21
        load_teacher(Paths(tmp_path), MANIFEST)
        monkeypatch.setattr(teachers, "ASKED", 1)
        load_teacher(Paths(tmp_path), MANIFEST)
