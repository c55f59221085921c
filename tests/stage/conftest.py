"""One whole run of the tiny chain serves every test that only looks at what a run leaves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chain import RUNS, Chain, workspace

from slimline.paths import Paths


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """All six stages, run once. Tests must not change its files: they take a `copy_of_chain`."""
    return workspace(tmp_path_factory.mktemp("chain")).run(*RUNS)


@pytest.fixture
def copy_of_chain(chain: Chain, tmp_path: Path) -> Callable[[], Chain]:
    """Makes copies of the finished workspace to run stages in again."""

    def copy() -> Chain:
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(chain.paths.root, folder)
        return Chain(Paths(folder))

    return copy
