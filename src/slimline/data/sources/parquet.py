"""Images inside Parquet files, as data sets lie on the Hugging Face hub.

Sources: huggingface.co/docs/hub/datasets-image, huggingface.co/docs/hub/datasets-file-names-and-splits.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from slimline.data.sources.damage import damage_told
from slimline.data.sources.item import Item, Membership, Unreadable
from slimline.data.sources.labels import class_names
from slimline.data.sources.layout import CALLED
from slimline.errors import SlimlineError

BATCH = 64
"""Rows in memory at once."""

BUFFER = 2**20
"""Bytes read at once of a column; with no reading ahead, what is in memory is a page of it. By default Arrow would read a whole row group,
often all images of a file. Pages are as their writer made them: of large images 100 (the hub) to 1024 (Arrow) usually share one."""

LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "category")


class _Columns(NamedTuple):
    """Where image and label stand, and the names that the data set's own metadata give to integer labels."""

    image: str
    label: str
    classes: list[str] | None


def parquet(root: Path, *, path: str, image_column: str | None = None, label_column: str | None = None) -> Iterator[Item]:
    """Every row of the `.parquet` file at `path`, or of those in the folder `path`, in the order of their names.

    The split is the last word for one in a file's path (`data/train-00000-of-00001.parquet`, `validation/0000.parquet`). An image is a cell
    `{bytes, path}` or binary; its column is the one that the data set's metadata call an image, or the only one of this type. A label is an
    integer or text; its column is the one that the metadata call a class, or the only one with a usual name. Classes are named by the
    metadata, where these do so.

    Raises:
        SlimlineError: no such file, several data sets in one folder, a damaged file, no or several such columns, or a label that is none.
    """
    place = root / path
    if not place.exists():
        raise SlimlineError(f"data.source.path: '{path}' does not exist; name a .parquet file or a folder of them")
    yield from read(place, image_column=image_column, label_column=label_column)


def read(place: Path, *, files: Sequence[str] | None = None, image_column: str | None = None, label_column: str | None = None) -> Iterator[Item]:
    """As `parquet`, for a place that exists; of a folder only `files` where they are given, by their paths in it.

    Raises:
        SlimlineError: as `parquet`.
    """
    folder, names = (place.parent, [place.name]) if place.is_file() else (place, files or _names(place))
    if len(subsets := subsets_of(names)) > 1:
        raise SlimlineError(f"{place}: it holds several data sets ({', '.join(subsets)[:200]}); name the folder of one of them")
    if not names:
        raise SlimlineError(f"{place}: no .parquet file found; put some there or name another folder")
    rows = {name: _count(folder / name) for name in names}
    total, done = max(sum(rows.values()), 1), 0
    for name in names:
        split = split_of(name)
        for row, (content, label) in enumerate(_rows(folder / name, image_column, label_column)):
            done += 1
            yield Item(content, Membership(label, split), f"{name}[{row}]", done / total)


def split_of(name: str) -> str | None:
    """The split that a file's path tells: the last of its words that is one."""
    words = [word for word in re.split(r"[-._ 0-9/]+", name.lower()) if word in CALLED]
    return CALLED[words[-1]] if words else None


def subsets_of(names: Sequence[str]) -> list[str]:
    """The folders that hold data sets of their own among files of these paths: all folders but those for splits and `data`."""
    folders = (PurePosixPath(name).parent.parts for name in names)
    return sorted({"/".join(part for part in parts if part != "data" and not split_of(part)) for parts in folders})


def _names(folder: Path) -> list[str]:
    names = (file.relative_to(folder) for file in folder.rglob("*.parquet") if file.is_file())
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def _open(file: Path) -> ParquetFile:
    try:
        return ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> SlimlineError:
    return SlimlineError(f"{file}: no readable Parquet file ({str(error).splitlines()[0][:200]}); it is damaged or another kind of file, get it anew")


def _count(file: Path) -> int:
    with _open(file) as opened:
        return opened.metadata.num_rows


def _rows(file: Path, image_column: str | None, label_column: str | None) -> Iterator[tuple[bytes | Unreadable, str]]:
    """Image and class of every row."""
    with damage_told(file, "Parquet file"), _open(file) as opened:
        columns = _columns(opened.schema_arrow, image_column, label_column, file)
        for batch in opened.iter_batches(BATCH, columns=[columns.image, columns.label], use_threads=False):
            labels = _labels(batch.column(columns.label), columns, file)
            yield from zip(map(_content, batch.column(columns.image).to_pylist()), labels, strict=True)


def _content(cell: bytes | Mapping[str, Any] | None) -> bytes | Unreadable:
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if content is not None:
        return content
    path = cell.get("path") if isinstance(cell, Mapping) else None
    return Unreadable(f"is only named ('{path}'), its bytes are not in the file" if path else "is missing, its cell is empty")


def _labels(column: pa.Array, columns: _Columns, file: Path) -> list[str]:
    where = f"{file}: column '{columns.label}'"
    if column.null_count:
        raise SlimlineError(f"{where} has rows without a label; remove them or name another column as data.source.label_column")
    values = np.array(column.to_pylist())
    return class_names(values, columns.classes if values.dtype.kind in "iu" else None, where=where)


def _columns(schema: pa.Schema, image: str | None, label: str | None, file: Path) -> _Columns:
    features = _features(schema)
    types = {field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema}
    kinds = {name: feature.get("_type") for name, feature in features.items() if name in types}
    image = image or _only(
        "image",
        [
            [name for name, kind in kinds.items() if kind == "Image"],
            [name for name, kind in types.items() if pa.types.is_struct(kind) and _is_image(kind)],
            [name for name, kind in types.items() if _is_image(kind)],
        ],
        schema,
        file,
    )
    label = label or _only(
        "label",
        [
            [name for name, kind in kinds.items() if kind == "ClassLabel"],
            [name for name in LABEL_NAMES if name in types and _is_label(types[name])],
        ],
        schema,
        file,
    )
    for what, name in (("image", image), ("label", label)):
        if name not in types:
            raise SlimlineError(f"data.source.{what}_column: {file} has no column '{name}'; its columns are {', '.join(types)}")
    if not _is_image(types[image]):
        raise SlimlineError(f"data.source.image_column: {file}: '{image}' is of type {types[image]}; images are needed as {{bytes, path}} or binary")
    if not _is_label(types[label]):
        raise SlimlineError(f"data.source.label_column: {file}: '{label}' is of type {types[label]}; one integer or text a row is needed")
    return _Columns(image, label, features.get(label, {}).get("names"))


def _is_image(kind: pa.DataType) -> bool:
    """Whether cells of this type can hold encoded images: bytes, or a structure with a field `bytes`."""
    content = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    return pa.types.is_binary(content) or pa.types.is_large_binary(content)


def _is_label(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _only(what: str, stages: list[list[str]], schema: pa.Schema, file: Path) -> str:
    """The column that the first stage with any candidate names; it must be the only one there."""
    candidates = next(filter(None, stages), [])
    if len(candidates) != 1:
        state = f"several columns could be the {what} ({', '.join(candidates)})" if candidates else f"no column of {what}s is told by type or name"
        raise SlimlineError(f"{file}: {state}; choose data.source.{what}_column among {', '.join(schema.names)[:200]}")
    return candidates[0]


def _features(schema: pa.Schema) -> dict[str, Mapping[str, Any]]:
    """What the hub's metadata tell of each column; nothing where there are none or they have another form."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, Mapping)}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
