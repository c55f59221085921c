"""One real run serves every test that only looks at what it leaves."""

import pytest
from repository import Repository, clone, commit


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which `dvc repro` has run and its results are committed."""
    repository = clone(tmp_path_factory.mktemp("clone") / "slimline")
    repository.output("dvc", "repro")
    commit(repository, "the first run")
    return repository
