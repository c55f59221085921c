"""The page of the prepared images."""

import json
import re
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from chain import Chain
from PIL import Image

import tiny
from slimline.data.sources.item import Membership
from slimline.errors import SlimlineError
from slimline.files import write_json
from slimline.paths import Paths
from slimline.report.data_page import data_page


def page_of(folder: Path, items, **changes) -> str:
    paths = Paths(folder)
    with tiny.prepared(items, **changes) as made:
        shutil.copytree(made.folder, paths.prepared)
        made.prepared.write_files(paths.files)
        write_json(paths.stage_metrics("prepare"), made.prepared.report)
    write_json(paths.origin, {"name": "mine & <yours>"})
    return data_page(paths)


def pictures(page: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(BytesIO(b64decode(code)))) for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]


def test_the_digits_are_shown_class_by_class(chain: Chain) -> None:
    page = data_page(chain.paths)
    assert len(pictures(page)) >= 100
    train = np.load(chain.paths.prepared / "train/images.npy")[:, 0]
    assert any(np.array_equal(pictures(page)[0], image) for image in train)
    assert "10 classes, 8×8 pixels, grey" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page == data_page(chain.paths)


def test_what_is_odd_is_shown_with_its_file(tmp_path: Path) -> None:
    items = tiny.items(120)
    odd = [
        items[3]._replace(belongs=Membership("class 0"), origin="twice/<b>.png"),
        items[4]._replace(content=np.full((8, 8), 7, np.uint8), origin="blank.png"),
    ]
    page = page_of(tmp_path, [*items, *odd])
    assert "twice/&lt;b&gt;.png" in page
    assert "mine &amp; &lt;yours&gt;" in page
    assert "The same picture under two labels" in page
    assert any((image == 7).all() for image in pictures(page))
    assert "pictures under two different labels: 1" in page


def test_labels_that_are_perhaps_wrong_are_shown_as_the_images_that_they_are(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.paths.root, tmp_path / "copy")
    paths = Paths(tmp_path / "copy")
    report = json.loads(paths.stage_metrics("prepare").read_text())
    report["label_noise"]["files"] = [{"file": "digit 5", "split": "train", "class": "5", "likelier": "9"}]
    write_json(paths.stage_metrics("prepare"), report)
    line = next(line for line in paths.files.read_text().splitlines() if line.endswith(",digit 5"))
    split, row, *_ = line.split(",")
    assert "5, or rather 9? (train)" in data_page(paths)
    assert np.array_equal(pictures(data_page(paths))[-1], np.load(paths.prepared / split / "images.npy")[int(row), 0])


def test_many_classes_of_large_colour_images_make_a_page_of_bounded_size(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (800, 8, 8, 3), dtype=np.uint8)
    items = [
        item._replace(content=pixels, belongs=Membership(f"class {n % 80}", ("train", "validation", "test")[n // 80 % 3]))
        for n, (item, pixels) in enumerate(zip(tiny.items(800), colours, strict=True))
    ]
    page = page_of(tmp_path, items, size=256, channels=3)
    assert "The 60 smallest of 80 classes" in page
    assert all(image.shape == (128, 128, 3) for image in pictures(page))


def test_a_workspace_without_prepared_data_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SlimlineError, match="no prepared data to show"):
        data_page(Paths(tmp_path))
