"""What a stage depends on, watched while it runs."""

from pathlib import Path

from slimline.paths import Paths
from slimline.runtime.fingerprint import Identity, _stamps


def identity(*places: Path) -> Identity:
    """One whose digest no other has, so that whatever was touched counts as changed."""
    return Identity("fingerprint", "execution", None, False, places, _stamps(places))


def test_files_that_are_written_added_or_taken_away_during_a_run_are_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    code = tmp_path / "code"
    code.mkdir()
    for name in ("written.py", "gone.py", "same.py"):
        (code / name).write_text("")
    before = identity(code, tmp_path / "params.yaml")
    assert before.changed("prune", Paths(tmp_path)) == ""
    (code / "written.py").write_text("new")
    (code / "added.py").write_text("")
    (code / "gone.py").unlink()
    assert before.changed("prune", Paths(tmp_path)) == "code/added.py, code/gone.py, code/written.py"
