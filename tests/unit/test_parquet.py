import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slimline.data.sources import SOURCES
from slimline.data.sources.item import Item, Membership, Unreadable
from slimline.data.sources.parquet import split_of
from slimline.errors import SlimlineError
from slimline.registry import build

IMAGES = [{"bytes": b"one", "path": "1.png"}, {"bytes": b"two", "path": None}, {"bytes": b"three", "path": "3.png"}]
HUB = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def put(file: Path, features: Any = None, **columns: Any) -> Path:
    """A Parquet file; `features` are what the hub's metadata say of its columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns or {"image": IMAGES, "label": [0, 1, 0]})
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file)
    return file


def read(root: Path, path: str = "data", **parameters: str) -> list[Item]:
    return list(build(SOURCES, {"name": "parquet", "path": path, **parameters}, root))


def refusal(root: Path, path: str = "data", **parameters: str) -> str:
    with pytest.raises(SlimlineError) as error:
        read(root, path, **parameters)
    assert "\n" not in str(error.value)
    return str(error.value)


def labels(items: list[Item]) -> list[str]:
    return [item.belongs.label for item in items]


def test_the_hubs_layout_gives_bytes_classes_by_name_and_splits(tmp_path) -> None:
    put(tmp_path / "data/plain_text/train-00000-of-00002.parquet", HUB)
    put(tmp_path / "data/plain_text/train-00001-of-00002.parquet", HUB)
    put(tmp_path / "data/plain_text/test-00000-of-00001.parquet", HUB)
    items = read(tmp_path)
    assert [item.content for item in items] == [b"one", b"two", b"three"] * 3
    assert [item.belongs for item in items[:4]] == [
        Membership("cat", "test"),
        Membership("dog", "test"),
        Membership("cat", "test"),
        Membership("cat", "train"),
    ]
    assert items[4].origin == "plain_text/train-00000-of-00002.parquet[1]"
    assert [item.share for item in items] == [(n + 1) / 9 for n in range(9)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("plain_text/test/0000.parquet", "test"),
        ("partial-train/0000.parquet", "train"),
        ("my.dev.parquet", "validation"),
        ("latest.parquet", None),
        ("trainable/images.parquet", None),
        ("train/test-00000.parquet", "test"),
    ],
)
def test_the_split_is_the_last_word_for_one_in_the_path(name, split) -> None:
    assert split_of(name) == split


def test_one_file_may_be_named_itself(tmp_path) -> None:
    put(tmp_path / "data" / "test.parquet")
    assert read(tmp_path, "data/test.parquet")[0].belongs == Membership("0", "test")


@pytest.mark.parametrize(
    "values", [pa.array(["a", "b", "a"]), pa.array(["a", "b", "a"], pa.large_string()), pa.array(["a", "b", "a"]).dictionary_encode()]
)
def test_text_is_a_label_however_it_is_stored(values, tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", img=IMAGES, target=values)
    assert labels(read(tmp_path)) == ["a", "b", "a"]


def test_binary_cells_are_images_too(tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", picture=[b"one", b"two"], label=[7, 8])
    assert [item.content for item in read(tmp_path)] == [b"one", b"two"]


def test_an_image_without_bytes_is_told_in_its_place(tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", image=[None, {"bytes": None, "path": "gone.png"}, {"bytes": b"x", "path": None}], label=[0, 1, 0])
    empty, named, present = (item.content for item in read(tmp_path))
    assert empty == Unreadable("is missing, its cell is empty")
    assert named == Unreadable("is only named ('gone.png'), its bytes are not in the file")
    assert present == b"x"


def test_of_several_columns_one_must_be_chosen(tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", image=IMAGES, mask=IMAGES, fine_label=[0, 1, 2], label=[3, 4, 5], coarse=["a", "b", "c"])
    assert "several columns could be the image (image, mask); choose data.source.image_column among" in refusal(tmp_path)
    assert "several columns could be the label (label, fine_label)" in refusal(tmp_path, image_column="mask")
    assert labels(read(tmp_path, image_column="mask", label_column="coarse")) == ["a", "b", "c"]


def test_the_hubs_metadata_go_before_names_and_types(tmp_path) -> None:
    features = {"photo": {"_type": "Image"}, "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "label": {"dtype": "string", "_type": "Value"}}
    put(tmp_path / "data" / "x.parquet", features, photo=IMAGES, thumbnail=IMAGES, kind=[1, 1, 0], label=["x", "y", "z"])
    assert labels(read(tmp_path)) == ["dog", "dog", "cat"]


@pytest.mark.parametrize("features", [[], "text", {"image": 3}, {"label": {"_type": "ClassLabel", "num_classes": 2}}])
def test_metadata_of_another_form_mean_nothing(features, tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", features)
    assert labels(read(tmp_path)) == ["0", "1", "0"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"label": [0, 1]}, "no column of images is told by type or name; choose data.source.image_column among label"),
    "no label": ({"image": IMAGES, "score": [1, 2, 3]}, "no column of labels is told"),
    "a null label": ({"image": IMAGES, "label": [0, None, 1]}, "column 'label' has rows without a label"),
    "an empty label": ({"image": IMAGES, "label": ["a", "", "b"]}, "'' is no name of a class"),
    "fractions": ({"image": IMAGES, "label": [0.5, 1.5, 2.5]}, "no column of labels is told"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_tables_are_refused_by_name(kind, tmp_path) -> None:
    columns, message = BAD[kind]
    put(tmp_path / "data" / "x.parquet", **columns)
    assert message in refusal(tmp_path)
    assert "x.parquet" in refusal(tmp_path)


def test_columns_that_were_chosen_must_exist_and_fit(tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", image=IMAGES, label=[0, 1, 2], score=[0.1, 0.2, 0.3])
    assert "data.source.image_column: " in refusal(tmp_path, image_column="photo")
    assert "has no column 'kind'; its columns are image, label, score" in refusal(tmp_path, label_column="kind")
    assert "'score' is of type double; images are needed" in refusal(tmp_path, image_column="score")
    assert "'score' is of type double; one integer or text" in refusal(tmp_path, label_column="score")


def test_a_hidden_label_is_refused(tmp_path) -> None:
    put(tmp_path / "data" / "test.parquet", HUB, image=IMAGES, label=[-1, -1, -1])
    assert "labels reach from -1 to -1, but there are 2 classes" in refusal(tmp_path)


def test_several_data_sets_in_one_folder_are_refused(tmp_path) -> None:
    put(tmp_path / "data/en/train.parquet")
    put(tmp_path / "data/de/train.parquet")
    assert "it holds several data sets (de, en)" in refusal(tmp_path)
    assert len(read(tmp_path, "data/en")) == 3


def test_a_place_without_parquet_files_is_refused(tmp_path) -> None:
    assert "data.source.path: 'data' does not exist" in refusal(tmp_path)
    put(tmp_path / "data" / ".cache" / "x.parquet")
    assert "no .parquet file found" in refusal(tmp_path)


def test_a_file_without_rows_gives_nothing(tmp_path) -> None:
    put(tmp_path / "data" / "x.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.int64()))
    assert read(tmp_path) == []


@pytest.mark.parametrize("share", [0, 0.5, 0.95])
def test_a_file_cut_off_is_refused_by_name(share, tmp_path) -> None:
    file = put(tmp_path / "data" / "x.parquet")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert "x.parquet: no readable Parquet file" in refusal(tmp_path)


def test_a_damaged_page_is_refused_by_name(tmp_path) -> None:
    file = tmp_path / "data" / "x.parquet"
    file.parent.mkdir()
    noise = np.random.default_rng(0).bytes(99_999)
    pq.write_table(pa.table({"image": [noise] * 3, "label": [0, 1, 0]}), file, compression="zstd", use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[4:60] = bytes(56)
    file.write_bytes(content)
    assert "x.parquet: no readable Parquet file" in refusal(tmp_path)


def test_memory_stays_small_though_one_row_group_holds_all_images(tmp_path) -> None:
    draw = np.random.default_rng(0)
    images = [{"bytes": draw.bytes(100_000), "path": None} for _ in range(640)]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": images, "label": [0] * 640}), tmp_path / "data" / "x.parquet", write_batch_size=16)  # and so small pages
    del images
    peak = before = pa.total_allocated_bytes()
    for _ in build(SOURCES, {"name": "parquet", "path": "data"}, tmp_path):
        peak = max(peak, pa.total_allocated_bytes())
    assert peak - before < 24 * 2**20  # the images are 61 MiB
