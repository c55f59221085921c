"""What is wrong with a volume or a setting costs a line that says so, and nothing of the work."""

import re
from pathlib import Path

import pytest
from engine import NEEDED, QUICK, SEALED, Volume, container, docker, state, until

pytestmark = NEEDED


def test_a_volume_of_somebody_else_is_refused_in_one_line(image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    said = docker("run", "--rm", *SEALED, "-v", f"{tmp_path}:/workspace", image, code=2)
    assert len(said.splitlines()) == 1
    assert "give the volume to user 1000" in said


def test_a_volume_that_is_read_only_is_refused_in_one_line(volume: Volume) -> None:
    said = docker("run", "--rm", *SEALED, "-v", f"{volume.name}:/workspace:ro", volume.image, code=2)
    assert len(said.splitlines()) == 1
    assert "Read-only file system" in said


@pytest.mark.parametrize(("line", "told"), [("61 * * * *", "minute 61"), ("0 3 * *", "found 4 fields"), ("0 0 30 2 *", "no such day ever comes")])
def test_a_wrong_cron_line_is_refused_in_one_line(volume: Volume, line: str, told: str) -> None:
    volume.run("true")  # lays down the code, and says so
    said = volume.run("slimline", "schedule", line, code=2)
    assert len(said.splitlines()) == 1
    assert told in said


def test_on_a_full_volume_ticks_refuse_the_schedule_lives_on_and_nothing_is_lost(volume: Volume) -> None:
    """Its workspace lies in memory, and goes with the last container that has it: the schedule's."""
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=100m,uid=1000"]
    with (
        volume.another("small", *options) as small,
        container(f"{small.name}-schedule", *small.sealed(), "slimline", "schedule", "* * * * *") as name,
    ):

        def shell(command: str, text: str | None = None) -> str:
            return docker("exec", *(["--interactive"] if text else []), name, "sh", "-c", command, text=text)

        def await_line(line: str) -> None:
            """Wait until this comes once more; a pattern."""
            before = len(re.findall(line, docker("logs", name)))
            until(lambda: len(re.findall(line, docker("logs", name))) > before, lambda: docker("logs", name), patience=900)

        until(lambda: "next run" in docker("logs", name), lambda: docker("logs", name))
        shell("cat > params.yaml", QUICK)
        await_line("GB free, least_free_gb asks for 1; dvc gc -w frees what no file here needs")
        shell("sed -i 's/^least_free_gb: 1.0/least_free_gb: 0.0/' rerun.yaml; dd if=/dev/zero of=filler bs=4k 2>/dev/null; truncate -s -200k filler")
        await_line(r"slimline rerun: refused: .*(No space left on device|database or disk is full); mend it")
        assert "Traceback" not in docker("logs", name)
        shell("rm filler")
        await_line("slimline rerun: a new champion: version 1 of slimline")
        assert state(name)["Running"]
        assert "next run" in docker("exec", name, "slimline", "healthy", "--schedule")


def test_a_volume_without_room_for_the_code_is_refused_in_one_line(volume: Volume) -> None:
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=300k,uid=1000"]
    with volume.another("tiny", *options) as tiny:
        said = tiny.run("slimline", "repro", code=2)
    assert len(said.splitlines()) == 1
    assert "No space left on device" in said
    assert "make room" in said
