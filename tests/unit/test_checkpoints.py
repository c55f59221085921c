"""What an interrupted training goes on from: the newest whole checkpoint of the very same work, and of no other."""

import contextlib
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.params.hardware import Hardware
from slimline.runtime.checkpoints import KEPT, Checkpoints, Place, key
from slimline.runtime.world import World

STATE = {"weights": torch.arange(1000.0), "done": 7}


def saved(folder: Path, *places: tuple[int, int]) -> Checkpoints:
    checkpoints = Checkpoints(folder, 0.0)
    for epoch, step in places:
        checkpoints.save(epoch, step, {**STATE, "place": [epoch, step]})
    return checkpoints


def test_the_last_two_are_kept_and_the_newest_is_what_is_gone_on_from(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (0, 5), (0, 10), (1, 2), (10, 0), (9, 99))
    assert KEPT == 2
    assert [path.name for path in checkpoints.files] == ["000009-00000099.checkpoint", "000010-00000000.checkpoint"]
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["place"] == [10, 0]
    assert torch.equal(loaded["weights"], STATE["weights"])


def test_where_there_is_none_nothing_is_gone_on_from(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "not there", 0.0)
    assert checkpoints.load() is None
    assert checkpoints.newest is None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.99])
def test_a_newest_one_that_the_disk_lost_a_part_of_gives_way_to_the_one_before_it(share: float, tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (0, 5), (0, 10))
    torn = checkpoints.files[-1]
    content = torn.read_bytes()
    torn.write_bytes(content[: int(len(content) * share)])
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["place"] == [0, 5]
    assert not torn.exists()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return saved(tmp_path_factory.mktemp("two"), (0, 5), (0, 10))


@given(share=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_a_newest_one_in_which_any_bit_has_flipped_gives_way_to_the_one_before_it_and_one_line_says_so(
    two: Checkpoints, share: float, bit: int
) -> None:
    newest = two.files[-1]
    content = newest.read_bytes()
    flipped = bytearray(content)
    flipped[int(len(content) * share)] ^= 1 << bit
    newest.write_bytes(flipped)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            loaded = two.load()
        assert not newest.exists()
    finally:
        newest.write_bytes(content)
    assert loaded is not None
    assert loaded["place"] == [0, 5]
    (line,) = said.getvalue().splitlines()
    assert line == f"slimline: checkpoint {newest} cannot be used (its SHA-256 does not match); going on from the one before it"


def test_one_that_the_disk_does_not_give_back_is_told_and_all_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 0.0)
    checkpoints.save(0, 1, {"place": [0, 1]})
    (tmp_path / "000000-00000002.checkpoint").mkdir()  # nobody, not even root, reads a folder as a file
    with pytest.raises(OSError, match="000000-00000002"):
        checkpoints.load()
    assert len(checkpoints.files) == 2


def test_where_both_are_damaged_the_training_starts_anew_and_a_line_each_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = saved(tmp_path, (0, 5), (0, 10))
    for file in checkpoints.files:
        file.write_bytes(b"PK\x03\x04 and then the power went")
    assert checkpoints.load() is None
    assert [line.rpartition("; ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "going on from the one before it",
        "the training starts anew",
    ]
    assert not any(tmp_path.iterdir())


def test_what_a_killed_process_was_writing_is_swept_away(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (0, 5))
    (tmp_path / ".000000-00000010.checkpoint.4242.part").write_bytes(b"half")
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["place"] == [0, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["000000-00000005.checkpoint"]


def test_one_is_due_after_its_seconds_and_not_before(tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path, 1e9).due
    assert Checkpoints(tmp_path, 0.0).due


FULL = """
import resource
import sys
from pathlib import Path
import torch
from slimline.runtime.checkpoints import Checkpoints
from slimline.runtime.refusal import refusing
checkpoints = Checkpoints(Path(sys.argv[1]), 0.0)
checkpoints.save(0, 5, {"place": [0, 5]})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with refusing():
    checkpoints.save(0, 10, {"place": [0, 10], "weights": torch.zeros(int(sys.argv[2]))})
"""


@pytest.mark.parametrize("numbers", [30_000, 3_000_000])
def test_a_disk_without_space_for_it_costs_one_line_and_not_the_earlier_one(numbers: int, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk; both are the operating system's refusal in the middle of writing."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), str(numbers)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("slimline: ")
    assert [path.name for path in tmp_path.iterdir()] == ["000000-00000005.checkpoint"]
    loaded = Checkpoints(tmp_path, 0.0).load()
    assert loaded == {"place": [0, 5]}


def test_success_leaves_no_checkpoint_of_its_key_and_none_of_another_that_is_long_forgotten(tmp_path: Path) -> None:
    place = Place(tmp_path / "stage", "one", 0.0)
    forgotten = Place(tmp_path / "stage", "two", 0.0).training("a")
    kept = (Place(tmp_path / "stage", "three", 0.0).training("a"), Place(tmp_path / "another stage", "one", 0.0).training("a"))
    for one in (place.training("a"), forgotten, *kept):
        saved(one.folder, (0, 1))
    for path in (tmp_path / "stage" / "two").rglob("*"):
        os.utime(path, (0, 0))
    os.utime(tmp_path / "stage" / "two", (0, 0))
    place.clear()
    assert sorted(tmp_path.rglob("*.checkpoint")) == sorted(one.files[0] for one in kept)
    place.clear()  # where nothing is, nothing happens


def test_the_trainings_of_a_stage_do_not_meet(tmp_path: Path) -> None:
    place = Place(tmp_path, "one", 0.0)
    place.training("teacher").save(0, 1, STATE)
    assert place.training("control").load() is None


KEYS = {
    "as it is": ("f", Hardware(threads=1), World()),
    "another fingerprint": ("g", Hardware(threads=1), World()),
    "other threads": ("f", Hardware(threads=2), World()),
    "more ranks": ("f", Hardware(threads=1), World(0, 2, 0, 2)),
    "still more ranks": ("f", Hardware(threads=1), World(0, 4, 0, 4)),
    "another strategy": ("f", Hardware.model_validate({"threads": 1, "strategy": {"name": "fsdp"}}), World()),
    "another strategy's settings": ("f", Hardware.model_validate({"threads": 1, "strategy": {"name": "pipeline", "micro_batches": 2}}), World()),
    "others of them": ("f", Hardware.model_validate({"threads": 1, "strategy": {"name": "pipeline", "micro_batches": 4}}), World()),
}


@pytest.mark.parametrize("pair", itertools.combinations(KEYS, 2), ids=" and ".join)
def test_what_may_change_the_bytes_of_a_result_has_checkpoints_of_its_own(pair: tuple[str, str]) -> None:
    one, other = (key(*KEYS[name]) for name in pair)
    assert one != other


def test_what_changes_no_result_leaves_the_key_alone() -> None:
    """Every process of a run, too, means the same place."""
    plain = key("f", Hardware(threads=1), World(0, 2, 0, 2))
    assert plain == key("f", Hardware(threads=1), World(1, 2, 1, 2))
    assert plain == key("f", Hardware(threads=1, workers=3, resident_mb=0, checkpoint_seconds=0.0), World(0, 2, 0, 2))
