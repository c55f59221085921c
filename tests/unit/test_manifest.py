from pathlib import Path

import pytest

from slimline.data.sources import SOURCES
from slimline.data.sources.item import Item, Membership, Unreadable
from slimline.errors import SlimlineError
from slimline.registry import build


def read(root: Path, table: str | bytes | None, **parameters: str) -> list[Item]:
    folder = root / "photos"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    for name in ("1.png", "2.png", "a/3, b.png"):
        (folder / name).write_bytes(name.encode())
    if table is not None:
        (folder / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return list(build(SOURCES, {"name": "manifest", "path": "photos", **parameters}, root))


def refusal(root: Path, table: str | bytes | None, **parameters: str) -> str:
    with pytest.raises(SlimlineError) as error:
        read(root, table, **parameters)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_are_given_in_order_with_class_and_split(tmp_path) -> None:
    items = read(tmp_path, 'path,label,split\n1.png,cat,train\n2.png,"dog, old",Val\n"a/3, b.png",cat,\n')
    assert [item.belongs for item in items] == [Membership("cat", "train"), Membership("dog, old", "validation"), Membership("cat")]
    assert [item.content.read_bytes() for item in items] == [b"1.png", b"2.png", b"a/3, b.png"]
    assert [item.origin for item in items] == ["1.png", "2.png", "a/3, b.png"]
    assert [item.share for item in items] == [1 / 3, 2 / 3, 1]


def test_an_unlabelled_image_needs_no_class_and_its_class_does_not_count(tmp_path) -> None:
    items = read(tmp_path, "path,label,split\n1.png,,unlabelled\n2.png,cat,Unlabeled\n")
    assert [item.belongs for item in items] == [Membership("", "unlabelled")] * 2
    assert "the label is empty" in refusal(tmp_path, "path,label,split\n1.png,,train\n")


def test_a_group_is_what_its_column_says_and_none_where_that_is_empty(tmp_path) -> None:
    items = read(tmp_path, "path,label,group\n1.png,cat,patient 7\n2.png,cat,\n")
    assert [item.group for item in items] == ["patient 7", None]
    items = read(tmp_path, "path,label,who\n1.png,cat,patient 7\n", group_column="who")
    assert items[0].group == "patient 7"


@pytest.mark.parametrize("word", ["test", "TEST", "testing"])
def test_synonyms_of_a_split_are_understood(word, tmp_path) -> None:
    assert read(tmp_path, f"path,label,split\n1.png,cat,{word}\n")[0].belongs.split == "test"


def test_a_byte_order_mark_empty_rows_blanks_and_windows_line_ends_mean_nothing(tmp_path) -> None:
    items = read(tmp_path, "\ufeffpath, label\r\n\r\n1.png, cat \r\n , \r\n2.png,dog\r\n")
    assert [(item.origin, item.belongs.label) for item in items] == [("1.png", "cat"), ("2.png", "dog")]


def test_columns_and_table_may_have_other_names(tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "list.csv").write_text("id,kind,file,part\n7,cat,1.png,dev\n")
    (item,) = read(tmp_path, None, file="list.csv", path_column="file", label_column="kind", split_column="part")
    assert (item.belongs, item.origin) == (Membership("cat", "validation"), "1.png")


def test_an_image_that_does_not_exist_is_told_in_its_place(tmp_path) -> None:
    present, absent, long = read(tmp_path, f"path,label\n1.png,cat\n9.png,cat\n{'x' * 999},cat\n")
    assert isinstance(present.content, Path)
    assert absent.content == Unreadable("does not exist")
    assert isinstance(long.content, Unreadable)


def test_a_symbolic_link_out_of_the_folder_is_not_followed(tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    (item,) = read(tmp_path, "path,label\nlink.png,cat\n")
    assert isinstance(item.content, Unreadable)
    assert "symbolic link" in item.content.reason


def test_a_folder_that_is_itself_a_link_is_followed(tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "photos").symlink_to(tmp_path / "disk")
    assert [item.content.read_bytes() for item in read(tmp_path, "path,label\n1.png,cat\n2.png,cat\n")] == [b"1.png", b"2.png"]


BAD = {
    "an absolute path": ("path,label\n/etc/passwd,cat\n", "line 2: '/etc/passwd' leads out"),
    "a way out": ("path,label\n1.png,cat\na/../../x.png,cat\n", "line 3: 'a/../../x.png' leads out"),
    "no label": ("path,label\n1.png,\n", "line 2: the label is empty"),
    "no path": ("path,label\n,cat\n", "line 2: the path is empty"),
    "no such column": ("file,label\n1.png,cat\n", "column 'path' is not in its header (file, label)"),
    "another delimiter": ("path;label\n1.png;cat\n", "column 'path' is not in its header (path;label)"),
    "a column twice": ("path,label,label\n1.png,cat,dog\n", "column 'label' is twice"),
    "an unknown split": ("path,label,split\n1.png,cat,holdout\n", "line 2: 'holdout' is no split"),
    "too many fields": ("path,label\n1.png,cat,old\n", "line 2: 3 fields under a header of 2"),
    "too few fields": ("path,label\n1.png\n", "line 2: 1 fields under a header of 2"),
    "an open quote": ('path,label\n"1.png,cat\n', "no readable CSV"),
    "a huge field": (f"path,label\n1.png,{'x' * 200_000}\n", "line 2: no readable CSV (field larger than field limit"),
    "another encoding": ("path,label\n1.png,Käse\n".encode("latin-1"), "it is not UTF-8"),
    "UTF-16": ("path,label\n1.png,cat\n".encode("utf-16"), "it is not UTF-8"),
    "a header alone": ("path,label\n", "no image is listed"),
    "nothing": ("", "column 'path' is not in its header"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_refused_by_name_and_line_before_any_image(kind, tmp_path) -> None:
    table, message = BAD[kind]
    assert message in refusal(tmp_path, table)
    assert "labels.csv" in refusal(tmp_path, table)


def test_a_table_that_is_not_there_is_refused_with_its_key(tmp_path) -> None:
    assert "data.source.file: " in refusal(tmp_path, None)
    assert "data.source.file: '../labels.csv' leads out" in refusal(tmp_path, None, file="../labels.csv")
    assert "data.source.path: 'gone' does not exist" in refusal(tmp_path, None, path="gone")
    assert "is a file; name its folder" in refusal(tmp_path, "path,label\n", path="photos/labels.csv")


def test_a_split_column_that_was_asked_for_must_be_there(tmp_path) -> None:
    assert "column 'part' is not in its header" in refusal(tmp_path, "path,label\n1.png,cat\n", split_column="part")
