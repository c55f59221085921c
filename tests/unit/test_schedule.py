"""When cron lines are due, and that a schedule outlives its ticks, its own downtime and the clock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import slimline
from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.rerun.cron import Cron, zone_of
from slimline.rerun.health import beat_of, health
from slimline.rerun.schedule import Schedule
from slimline.rerun.tick import Place

BERLIN = ZoneInfo("Europe/Berlin")
PATIENCE = 60.0


def due(line: str, start: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next `count` times of `line` after `start`, as the clock on the wall shows them with its distance from UTC."""
    times = islice(Cron(line, zone).times(datetime.fromisoformat(start).replace(tzinfo=zone)), count)
    return [f"{time:%d %H:%M %z}" for time in times]


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        ("0 3 * * *", "2026-11-27T02:00", ["27 03:00 +0100", "28 03:00 +0100"]),
        ("@daily", "2026-11-27T02:00", ["28 00:00 +0100"]),
        # The 27th is a Friday. Cron counts weekdays from Sunday, and 7 is Sunday too.
        ("0 3 * * 0", "2026-11-27T04:00", ["29 03:00 +0100"]),
        ("0 3 * * 7", "2026-11-27T04:00", ["29 03:00 +0100"]),
        ("0 3 * * 1", "2026-11-27T04:00", ["30 03:00 +0100"]),
        ("0 3 * * fri-sun", "2026-11-27T04:00", ["28 03:00 +0100", "29 03:00 +0100", "04 03:00 +0100"]),
        ("0 3 * * */3", "2026-11-27T04:00", ["28 03:00 +0100", "29 03:00 +0100", "02 03:00 +0100"]),
        ("0 3 1 * 0", "2026-11-27T04:00", ["29 03:00 +0100", "01 03:00 +0100", "06 03:00 +0100"]),
        # Clocks go from two to three: what is due in the hour that is not there is due once, an hour later on the wall.
        ("30 2 * * *", "2026-03-28T12:00", ["29 03:30 +0200", "30 02:30 +0200"]),
        ("*/30 * * * *", "2026-03-29T01:15", ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]),
        # Clocks go from three to two: what is due at a time is due once, what is due every so often goes on.
        ("30 2 * * *", "2026-10-24T12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("*/30 * * * *", "2026-10-25T02:15", ["25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "25 03:00 +0100"]),
        ("0 3 1 jan-mar/2 *", "2026-11-27T04:00", ["01 03:00 +0100", "01 03:00 +0100", "01 03:00 +0100"]),
    ],
)
def test_a_line_is_due_when_cron_would_have_it(line: str, start: str, expected: list[str]) -> None:
    assert due(line, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("zone", "line", "start", "expected"),
    [
        # Berlin, 29 March: from 02:00 +01 to 03:00 +02.
        ("Europe/Berlin", "59 1 * * *", "2026-03-28T12:00", ["29 01:59 +0100", "30 01:59 +0200"]),
        ("Europe/Berlin", "0 2 * * *", "2026-03-28T12:00", ["29 03:00 +0200", "30 02:00 +0200"]),
        ("Europe/Berlin", "0 3 * * *", "2026-03-28T12:00", ["29 03:00 +0200", "30 03:00 +0200"]),
        ("Europe/Berlin", "30 2,3 * * *", "2026-03-28T12:00", ["29 03:30 +0200", "30 02:30 +0200", "30 03:30 +0200"]),
        ("Europe/Berlin", "0 2 * * 0", "2026-03-28T12:00", ["29 03:00 +0200", "05 02:00 +0200"]),
        ("Europe/Berlin", "15 * * * *", "2026-03-29T00:30", ["29 01:15 +0100", "29 03:15 +0200", "29 04:15 +0200"]),
        # 25 October: from 03:00 +02 to 02:00 +01.
        ("Europe/Berlin", "0 2 * * *", "2026-10-24T12:00", ["25 02:00 +0200", "26 02:00 +0100"]),
        ("Europe/Berlin", "0 3 * * *", "2026-10-24T12:00", ["25 03:00 +0100", "26 03:00 +0100"]),
        ("Europe/Berlin", "59 2 * * 0", "2026-10-24T12:00", ["25 02:59 +0200", "01 02:59 +0100"]),
        ("Europe/Berlin", "0 2,3 * * *", "2026-10-24T12:00", ["25 02:00 +0200", "25 03:00 +0100", "26 02:00 +0100"]),
        ("Europe/Berlin", "0 0 * * *", "2026-10-24T12:00", ["25 00:00 +0200", "26 00:00 +0100"]),
        ("Europe/Berlin", "15 * * * *", "2026-10-25T01:30", ["25 02:15 +0200", "25 02:15 +0100", "25 03:15 +0100"]),
        # New York, 8 March from 02:00 -05 to 03:00 -04, 1 November from 02:00 -04 to 01:00 -05.
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00", ["08 03:30 -0400", "09 02:30 -0400"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ["01 01:30 -0400", "02 01:30 -0500"]),
        # Lord Howe sets its clocks by half an hour: 4 October from 02:00 +10:30 to 02:30 +11, 5 April from 02:00 +11 to 01:30 +10:30.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00", ["04 02:45 +1100", "05 02:15 +1100"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00", ["05 01:45 +1100", "06 01:45 +1030"]),
        ("Australia/Lord_Howe", "*/15 * * * *", "2026-04-05T01:40", ["05 01:45 +1100", "05 01:30 +1030", "05 01:45 +1030", "05 02:00 +1030"]),
        # Cairo sets them at midnight: 24 April from 00:00 +02 to 01:00 +03, 30 October from 00:00 +03 to 23:00 +02 of the 29th.
        ("Africa/Cairo", "0 0 * * *", "2026-04-23T12:00", ["24 01:00 +0300", "25 00:00 +0300"]),
        ("Africa/Cairo", "0 */6 * * *", "2026-04-23T12:00", ["23 18:00 +0200", "24 01:00 +0300", "24 06:00 +0300"]),
        ("Africa/Cairo", "30 23 * * *", "2026-10-28T23:45", ["29 23:30 +0300", "30 23:30 +0200"]),
        ("Africa/Cairo", "0 0 * * *", "2026-10-29T12:00", ["30 00:00 +0200", "31 00:00 +0200"]),
        # Apia had no 30 December in 2011.
        ("Pacific/Apia", "0 3 * * *", "2011-12-29T12:00", ["31 03:00 +1400", "01 03:00 +1400"]),
    ],
)
def test_clocks_that_are_set_for_the_summer_lose_no_run_and_double_none(zone: str, line: str, start: str, expected: list[str]) -> None:
    """The table was worked out by hand, from the laws."""
    assert due(line, start, len(expected), ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 3 * *", "found 4 fields"),
        ("", "found 0 fields"),
        ("61 * * * *", "minute 61"),
        ("0 24 * * *", "hour 24"),
        ("0 3 L * *", "day L"),
        ("0 3 * 13 *", "month 13"),
        ("0 3 * * 8", "day of week 8: '8' is no weekday"),
        ("0 3 * * fri-mon", "'fri-mon' is no range"),
        ("*/0 * * * *", "minute */0"),
        ("0 0 31 2 *", "no such day ever comes"),
        ("@nightly", "found 1 field;"),
        ("0 0 3 * * *", "found 6 fields"),
        ("0 3 ? * *", "day ?"),
        ("0 3 * jan-foo *", "month jan-foo"),
        ("0 3 * janx *", "month janx"),
        ("0 3 * * mon#1", "day of week mon#1"),
        ("5-1 * * * *", "minute 5-1"),
        ("1,,2 * * * *", "minute 1,,2"),
        ("1.5 * * * *", "minute 1.5"),
        ("\u0663 3 * * *", "minute \u0663"),
        ("99999999999999999999 * * * *", "minute 99999999999999999999"),
    ],
)
def test_a_wrong_line_is_refused_by_its_field(line: str, told: str) -> None:
    with pytest.raises(SlimlineError) as refused:
        Cron(line, BERLIN)
    assert str(refused.value).startswith(f"'{line}': ")
    assert told in str(refused.value)
    assert "a cron line is " in str(refused.value)


def test_a_zone_that_is_none_is_refused() -> None:
    assert zone_of("Europe/Berlin") == BERLIN
    with pytest.raises(SlimlineError, match="Europe/Berln: no such time zone; did you mean Europe/Berlin"):
        zone_of("Europe/Berln")
    for name in ("Europe", "../etc/passwd", "\0", "x" * 5000):
        with pytest.raises(SlimlineError, match="no such time zone"):
            zone_of(name)


def test_jitter_puts_off_and_never_advances() -> None:
    cron = Cron("0 3 * * *", BERLIN, 600.0)
    now = datetime(2026, 11, 27, 2, tzinfo=BERLIN)
    late = [(cron.get_next_fire_time(None, now) - now).total_seconds() - 3600 for _ in range(50)]
    assert 0 <= min(late) < max(late) <= 600


def test_a_clock_that_is_set_forward_by_years_is_one_run_at_once() -> None:
    cron = Cron("* * * * *", BERLIN)
    now, start = datetime(2036, 11, 27, 2, tzinfo=BERLIN), time.process_time()
    assert cron.get_next_fire_time(datetime(2026, 11, 27, 2, tzinfo=BERLIN), now) == now + timedelta(minutes=1)
    assert time.process_time() - start < 1


def test_a_clock_that_is_set_back_puts_no_run_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = Schedule(Paths(tmp_path), Cron("0 3 * * *", BERLIN))
    schedule._job = schedule._scheduler.add_job(schedule._tick, schedule.cron)
    schedule._scheduler.start(paused=True)
    try:
        right = schedule.cron.following(datetime.now(UTC))
        schedule._look_at_the_clock()
        assert schedule._job.next_run_time == right
        schedule._job.modify(next_run_time=datetime.now(UTC) + timedelta(days=400))
        schedule._look_at_the_clock()
        assert schedule._job.next_run_time == right
        assert "the clock was set back" in capsys.readouterr().out
    finally:
        schedule._scheduler.shutdown()


def program(text: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{Path(slimline.__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen([sys.executable, "-c", text], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    return program(f"from slimline.cli import main; main({list(words)!r})", folder)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines_until(process: subprocess.Popen[str], *told: str) -> list[str]:
    """What `process` prints until each of `told` stands in a line of it, in this order."""
    lines, deadline = [], time.monotonic() + PATIENCE
    assert process.stdout is not None
    for part in told:
        while True:
            lines.append(process.stdout.readline())
            assert lines[-1] and time.monotonic() < deadline, lines  # noqa: PT018
            if part in lines[-1]:
                break
    return lines


def test_downtime_is_made_up_for_once_a_failed_tick_ends_nothing_and_a_signal_all(tmp_path: Path) -> None:
    place = Place(Paths(tmp_path))
    place.folder.mkdir(parents=True)
    (place.folder / "schedule.json").write_text(json.dumps({"last": "2026-01-01T00:00:00+00:00"}))
    line = ("schedule", "0 3 * * *", "--timezone", "Europe/Berlin")
    with ended(command(tmp_path, *line)) as schedule:
        lines = lines_until(schedule, "was missed; it is made up for now, once", "no dvc.yaml there", "the run ended refused (2)", "next run ")
        assert lines[-1].rstrip().split(", in ")[0].endswith(f" 03:00 {datetime.now(BERLIN) + timedelta(days=1):%Z}")
        healthy = command(tmp_path, "healthy")
        assert healthy.communicate(timeout=PATIENCE)[0].startswith("next run 2")
        assert healthy.returncode == 0
        schedule.send_signal(signal.SIGTERM)
        rest, _ = schedule.communicate(timeout=PATIENCE)
        assert schedule.returncode == 128 + signal.SIGTERM
        assert rest == ""
    unheard = command(tmp_path, "healthy", "--schedule")
    assert "no schedule runs on this machine" in unheard.communicate(timeout=PATIENCE)[0]
    assert unheard.returncode == 2
    with ended(command(tmp_path, *line)) as again:
        assert "next run" in lines_until(again, "slimline schedule: ")[0], "what was made up for is not missing any more"


def test_a_line_without_quotes_which_a_shell_has_filled_with_names_of_files_is_refused(tmp_path: Path) -> None:
    unquoted = command(tmp_path, "schedule", "0", "3", "params.yaml", "src", "tests")
    assert "but these are 5; put it in quotes" in unquoted.communicate(timeout=PATIENCE)[0]
    assert unquoted.returncode == 2


EVERY_SECOND = """
import pathlib, sys
from datetime import timedelta
from zoneinfo import ZoneInfo
from slimline.paths import Paths
from slimline.rerun.cron import Cron
from slimline.rerun.schedule import Schedule
class EverySecond(Cron):
    def following(self, moment):
        return moment.replace(microsecond=0) + timedelta(seconds=1)
sys.exit(Schedule(Paths(pathlib.Path.cwd()), EverySecond("* * * * *", ZoneInfo("UTC"))).run())
"""


def test_what_is_due_while_a_tick_is_at_work_is_left_out(tmp_path: Path) -> None:
    """A tick takes longer than a second: Python alone does to start."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(1.5)")
    with ended(program(f"import os; os.environ['PYTHONPATH'] += os.pathsep + {str(tmp_path)!r}\n{EVERY_SECOND}", tmp_path)) as schedule:
        lines = lines_until(schedule, "a run is left out: the one before is still at work", "(2)", "(2)")
        ends = [line for line in lines if "the run ended" in line]
        assert len(ends) == sum("no dvc.yaml there" in line for line in lines) >= 2


@pytest.mark.parametrize("beat", ["", "[]", '{"beat": "now"}', '{"beat": NaN, "next": "x"}', f'{{"beat": 1{"0" * 400}, "next": "x"}}', "[" * 100_000])
def test_a_damaged_heartbeat_is_no_schedule_s(beat: str, tmp_path: Path) -> None:
    file = beat_of(Paths(tmp_path))
    file.parent.mkdir(parents=True)
    file.write_text(beat)
    with pytest.raises(SlimlineError, match=r"no schedule runs on this machine|was last heard of nan s ago"):
        health(Paths(tmp_path), schedule=True)
