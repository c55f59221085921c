"""Images listed in a CSV file: which file is of which class, and perhaps of which split.

`path` is the folder that holds table and images, since DVC hashes what lies at `path` and nothing else: an image beyond it could
change and no stage would run again. So the table may name neither absolute paths nor ways out of the folder.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slimline.data.sources.item import UNLABELLED, Item, Membership, Unreadable
from slimline.data.sources.layout import CALLED, CALLED_UNLABELLED
from slimline.errors import SlimlineError


@dataclass(frozen=True)
class _Columns:
    """Their names; None: "split" and "group", where there are such columns."""

    path: str
    label: str
    split: str | None
    group: str | None


def manifest(
    root: Path,
    *,
    path: str,
    file: str = "labels.csv",
    path_column: str = "path",
    label_column: str = "label",
    split_column: str | None = None,
    group_column: str | None = None,
) -> Iterator[Item]:
    """Every image that the table `path/file` lists (UTF-8, commas, a header), in its order.

    Image paths are relative to the table's folder. A column `split`, or the one named, holds train, validation or test (or a usual
    synonym, or nothing), or unlabelled, where the class does not count and may be missing; a column `group`, or the one named, what
    images are to stay together with, or nothing. The whole table is checked before the first image is given.

    Raises:
        SlimlineError: no such folder or table; a table that is no UTF-8 or no CSV, lacks a column, or a row without path or label, with
            too many fields, an unknown split or a path that leads out of the folder; the line is named.
    """
    folder = root / path
    if not folder.is_dir():
        state = "is a file; name its folder, and the table in it as data.source.file" if folder.exists() else "does not exist"
        raise SlimlineError(f"data.source.path: '{path}' {state}; a folder is needed that holds the table '{file}' and the images")
    table = folder / file
    _refuse_way_out(file, "data.source.file")
    if not table.is_file():
        raise SlimlineError(f"data.source.file: '{table}' does not exist; put the table there or name another")
    columns = _Columns(path_column, label_column, split_column, group_column)
    count = sum(1 for _ in _rows(table, columns))
    if not count:
        raise SlimlineError(f"{table}: no image is listed; write a row an image below the header")
    resolved = folder.resolve()  # once: it asks the file system about every folder above
    for index, (name, belongs, group) in enumerate(_rows(table, columns)):
        yield Item(_content(table.parent / name, resolved), belongs, name, (index + 1) / count, group)


def _rows(table: Path, columns: _Columns) -> Iterator[tuple[str, Membership, str | None]]:
    """Image path, class and split, and group of every row that is not empty."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            index_of = {name: _index(header, name, table) for name in (columns.path, columns.label)}
            split_index, group_index = (
                _index(header, name or usual, table) if name or usual in header else None
                for name, usual in ((columns.split, "split"), (columns.group, "group"))
            )
            for row in reader:
                if not any(field.strip() for field in row):
                    continue
                where = f"{table}, line {reader.line_num}"
                if len(row) != len(header):
                    raise SlimlineError(f"{where}: {len(row)} fields under a header of {len(header)}; put text with a comma in quotes")
                name, label = row[index_of[columns.path]], row[index_of[columns.label]].strip()
                split = None if split_index is None else _split(row[split_index], where)
                if not name.strip() or not (label or split == UNLABELLED):
                    raise SlimlineError(f"{where}: the {columns.label if name.strip() else columns.path} is empty; write it or remove the row")
                _refuse_way_out(name, where)
                group = None if group_index is None else row[group_index].strip() or None
                yield name, Membership("" if split == UNLABELLED else label, split), group
        except UnicodeDecodeError as error:
            raise SlimlineError(f"{table}: it is not UTF-8 (near line {reader.line_num + 1}); save it as UTF-8") from error
        except csv.Error as error:
            raise SlimlineError(f"{table}, line {reader.line_num}: no readable CSV ({error}); mend the quotes there") from error


def _index(header: list[str], name: str, table: Path) -> int:
    if header.count(name) != 1:
        state = "twice" if name in header else f"not in its header ({', '.join(header)[:200]})"
        hint = "commas divide columns, and data.source.path_column, label_column, split_column and group_column name them"
        raise SlimlineError(f"{table}: column '{name}' is {state}; {hint}")
    return header.index(name)


def _split(text: str, where: str) -> str | None:
    word = text.strip().lower()
    if word in CALLED_UNLABELLED:
        return UNLABELLED
    if word and word not in CALLED:
        raise SlimlineError(f"{where}: '{word[:80]}' is no split; write train, validation, test, unlabelled or nothing")
    return CALLED.get(word)


def _refuse_way_out(name: str, where: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SlimlineError(f"{where}: '{name[:200]}' leads out of data.source.path; DVC watches that folder alone, so keep all images in it")


def _content(image: Path, folder: Path) -> Path | Unreadable:
    """The image's place, or why there is none; `folder`, resolved, is the one that it must lie in."""
    try:
        if not image.is_file():
            return Unreadable("does not exist")
        if not image.resolve().is_relative_to(folder):
            return Unreadable("is a symbolic link that leads out of data.source.path")
    except OSError as error:
        return Unreadable(f"cannot be read ({error.strerror})")
    return image
