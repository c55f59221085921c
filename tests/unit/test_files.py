"""Files appear whole or not at all."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slimline.files import FORGOTTEN, whole_file, whole_folder, write_bytes, write_csv, write_json


def test_a_file_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it(tmp_path) -> None:
    path = tmp_path / "deep" / "down" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_kill_left_half_written_goes_after_a_while_and_what_another_writes_stays(tmp_path) -> None:
    path = tmp_path / "a[1]"  # no pattern
    old, young, others = (tmp_path / name for name in (".a[1].0123.part", ".a[1].4567.part", ".b.0123.part"))
    for left in (old, young, others):
        left.write_text("half")
    long_ago = time.time() - FORGOTTEN - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(others, (long_ago, long_ago))
    write_bytes(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, young, others])


def test_where_the_folder_is_a_file_nothing_is_written_and_the_failure_is_told(tmp_path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(OSError, match="taken"):
        write_bytes(tmp_path / "taken" / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_where_the_target_is_a_folder_nothing_is_left_beside_it(tmp_path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        write_bytes(tmp_path / "target", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


FULL = """
import resource, sys
from pathlib import Path
from slimline.files import whole_folder, write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
target = Path(sys.argv[1])
try:
    if sys.argv[2] == "file":
        write_bytes(target, bytes(5000))
    else:
        with whole_folder(target) as folder:
            (folder / "small").write_bytes(b"new")
            (folder / "large").write_bytes(bytes(5000))
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
"""


def on_a_full_disk(target: Path, kind: str) -> None:
    ended = subprocess.run([sys.executable, "-c", FULL, str(target), kind], capture_output=True, text=True, check=False)
    assert ended.stderr == "refused: File too large\n"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    on_a_full_disk(tmp_path / "file", "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "small").write_bytes(b"old")
    on_a_full_disk(tmp_path / "folder", "folder")
    assert (tmp_path / "folder" / "small").read_bytes() == b"old"
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "small"]


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path) -> None:
    for name in ("first", "second"):
        with whole_folder(tmp_path / "deep" / "target") as folder:
            (folder / name).write_text(name)
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["target", "second"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_folder_as_it_was(failure, tmp_path) -> None:
    target = tmp_path / "target"
    with whole_folder(target) as folder:
        (folder / "old").write_text("old")

    def fail_halfway() -> None:
        with whole_folder(target) as folder:
            (folder / "new").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail_halfway()
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "old"]


def test_what_another_process_left_half_done_does_not_get_into_the_folder(tmp_path) -> None:
    with whole_folder(tmp_path / "target") as folder:
        name = folder.name
    (tmp_path / name).mkdir()
    (tmp_path / name / "litter").write_text("from a killed process of the same number")
    with whole_folder(tmp_path / "target") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "new"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_json_takes_no_value_that_json_lacks_and_keeps_the_old_file(value, tmp_path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": [2]})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", {"b": value})
    assert list(json.loads((tmp_path / "x.json").read_text())) == ["b", "a"]
    assert (tmp_path / "x.json").read_text().endswith("}\n")


def test_a_table_is_written_with_its_header_and_six_digits(tmp_path) -> None:
    write_csv(tmp_path / "x.csv", [{"epoch": 1, "loss": 1 / 3}, {"epoch": 2, "loss": 1e-7}], ["epoch", "loss"])
    assert (tmp_path / "x.csv").read_text() == "epoch,loss\n1,0.333333\n2,1e-07\n"


@pytest.mark.parametrize("failure", [OSError("no"), KeyboardInterrupt()])
def test_a_failure_between_the_two_renames_leaves_the_old_folder(failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    with whole_folder(target) as folder:
        (folder / "old").write_text("old")
    replace, calls = Path.replace, []

    def failing(self: Path, other: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise failure
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(type(failure)), whole_folder(target) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "old"]


KILLED = """
import os, signal, sys
from pathlib import Path
from slimline.files import whole_folder
replace, calls = Path.replace, []
def killing(self, other):
    calls.append(self)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, other)
Path.replace = killing
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "new").write_text("new")
"""


def test_a_kill_between_the_two_renames_is_undone_by_the_next_that_writes_even_if_it_fails(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with whole_folder(target) as folder:
        (folder / "old").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert not target.exists(), "killed elsewhere, this test sees nothing"
    with pytest.raises(ValueError, match="refused"), whole_folder(target):
        raise ValueError("refused")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "old"]


def test_two_that_make_one_folder_do_not_spoil_each_other(tmp_path: Path) -> None:
    target = tmp_path / "target"
    slow = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert slow.stdout is not None
    assert slow.stdout.readline() == "begun\n"
    with whole_folder(target) as folder:
        (folder / "quick").write_text("quick")
    assert [path.name for path in target.iterdir()] == ["quick"]
    _, told = slow.communicate("go on\n", timeout=30)
    assert slow.returncode == 0, told
    assert sorted(path.name for path in target.iterdir()) == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


SLOW = """
import sys
from pathlib import Path
from slimline.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "first").write_text("1")
    print("begun", flush=True)
    sys.stdin.readline()
    (folder / "second").write_text("2")
"""


def test_a_link_to_a_folder_elsewhere_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with whole_folder(tmp_path / "link") as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "new").read_text() == "new"


def test_two_writers_with_one_process_number_as_containers_have_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with whole_file(file) as one, whole_file(file) as other:  # one process is all that it takes
        one.write(b"one")
        other.write(b"other")
    assert file.read_bytes() == b"one"
    assert [place.name for place in tmp_path.iterdir()] == ["a.json"]
