"""A data set of the Hugging Face hub by its name, at one commit of it; needs the package huggingface_hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from slimline.data.sources.item import Item
from slimline.data.sources.parquet import read, subsets_of
from slimline.errors import SlimlineError

PACKAGE = "huggingface_hub>=2.4,<3"


def _commit(revision: str) -> str:
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise ValueError(f"'{revision[:80]}' is no commit and could move; write the 40 hexadecimal digits of one, from its history on the hub")
    return revision


def _repository(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise ValueError(f"'{name[:80]}' is no name on the hub; write OWNER/NAME, as ylecun/mnist")
    return name


def huggingface(
    root: Path,
    *,
    path: str,
    repository: Annotated[str, AfterValidator(_repository)],
    revision: Annotated[str, AfterValidator(_commit)],
    subset: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Iterator[Item]:
    """Every image of the Parquet files of `repository` at the commit `revision`, of the folder `subset` where there are several.

    Files come into the hub's own cache (HF_HOME) and are not asked for again: a commit never changes. Columns are found as in `parquet`.
    `path` is a note on their origin and holds no data.

    Raises:
        SlimlineError: the package is missing, the hub has no such data set or cannot be reached, it holds no Parquet file or several
            subsets; and as `parquet`.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise SlimlineError(f'data.source: huggingface needs a package; run: pip install "{PACKAGE}"') from error

    where = f"data.source: {repository} at {revision[:8]}"

    def download(patterns: list[str]) -> Path:
        try:
            return Path(hub.snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns))
        except Exception as error:  # the hub's, its HTTP library's and the disk's share no base
            reason = " ".join(str(error).split())[:300]
            raise SlimlineError(f"{where} cannot be fetched from the hub: {reason}; check name, commit and network") from error

    download(["README.md"])  # brings the list of files, too
    listed = [file.path for file in hub.get_cached_repo_tree(repository, repo_type="dataset", revision=revision)]
    found = sorted(name for name in listed if name.endswith(".parquet"))
    names = [name for name in found if subset is None or subsets_of([name]) == [subset]]
    if not names:
        state = f"no subset '{subset}'; there are: {', '.join(subsets_of(found))}" if found else "no Parquet file"
        raise SlimlineError(f"{where} has {state}"[:300])
    if len(subsets := subsets_of(names)) > 1:
        raise SlimlineError(f"data.source.subset: missing; {repository} has several: {', '.join(subsets)}"[:300])
    yield from read(download(names), files=names, image_column=image_column, label_column=label_column)
