"""What a user does first: point the pipeline at a folder of their own pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from chain import TINY
from PIL import Image
from repository import Repository, clone

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")
OURS = "{source: {name: images, path: data/raw/photos}, size: 16, channels: 3, resize: crop, validation: 0.2, test: 0.2}"


def photographs(folder: Path) -> None:
    """Forty pictures a class, of any size and in several formats: a colour of the class, in stripes of its width, under noise."""
    random = np.random.default_rng(0)
    for number in range(40 * len(CLASSES)):
        kind = number % len(CLASSES)
        height, width = random.integers(20, 200, 2)
        hue = np.array(Image.new("HSV", (1, 1), (kind * 25, 255, 255)).convert("RGB"))[0, 0]
        stripes = (np.arange(width) // (2 + kind) % 2)[None, :, None] * 0.4 + 0.6
        pixels = (hue * stripes + random.normal(0, 30, (height, width, 3))).clip(0, 255).astype(np.uint8)
        place = folder / CLASSES[kind] / f"{number}.{('jpg', 'png', 'webp', 'bmp')[number % 4]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = clone(tmp_path_factory.mktemp("own") / "slimline")
    photographs(repository.root / "data/raw/photos")
    first, _, rest = TINY.partition("data: {")
    (repository.root / "params.yaml").write_text(f"{first}data: {OURS}\n{rest.partition(chr(10))[2]}")
    repository.output("slimline", "check")
    repository.output("dvc", "repro")
    return repository


def test_the_whole_chain_runs_on_a_users_photographs(own: Repository) -> None:
    scorecard = json.loads((own.root / "metrics/scorecard.json").read_text())
    assert scorecard["data"]["name"] == "photos"
    assert scorecard["data"]["classes"] == 10
    assert sum(scorecard["data"][split] for split in ("train", "validation", "test")) == 400
    assert scorecard["models"]["teacher"]["accuracy"] > 0.5
    assert (own.root / "reports/index.html").exists()
    assert "photos" in own.output("slimline", "show")


def test_each_prepared_image_is_traced_to_its_file(own: Repository) -> None:
    lines = (own.root / "data/files.csv").read_text().splitlines()
    assert len(lines) == 401
    assert all((own.root / "data/raw/photos" / line.split(",")[3]).exists() for line in lines[1:])


def test_a_path_that_is_not_there_is_told_before_anything_runs(own: Repository) -> None:
    params = own.root / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("data/raw/photos", "data/raw/phtos"))
        done = own.run("slimline", "check")
        assert done.returncode == 2
        assert "data.source.path: 'data/raw/phtos' does not exist" in done.stderr
    finally:
        params.write_text(text)


def test_the_comparison_of_two_versions_tells_drift_by_its_exit_code(own: Repository, tmp_path: Path) -> None:
    same = own.run("slimline", "data", "diff", ".", "data/prepared", "--limit", "0.1")
    assert same.returncode == 0, same.stderr
    darker = tmp_path / "prepared"
    shutil.copytree(own.root / "data/prepared", darker)
    for file in darker.glob("*/images.npy"):
        np.save(file, np.load(file) // 2)
    told = own.run("slimline", "data", "diff", ".", str(darker), "--json", "--limit", "0.1")
    assert told.returncode == 1, told.stderr
    assert json.loads(told.stdout)["worst"] > 0.25
    assert own.run("slimline", "data", "diff", ".", str(darker)).returncode == 0
    nowhere = own.run("slimline", "data", "diff", ".", "no-such-revision")
    assert nowhere.returncode == 2
    assert len(nowhere.stderr.splitlines()) == 1


def test_an_unknown_data_set_is_refused_with_those_that_are_known(own: Repository) -> None:
    done = own.run("slimline", "fetch", "mnsit")
    assert done.returncode == 2
    assert "did you mean mnist?" in done.stderr
