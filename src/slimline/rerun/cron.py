"""Cron lines as APScheduler's triggers, with the meaning that cron gives them."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from tzlocal import get_localzone

from slimline.errors import SlimlineError

FIELDS = ("minute", "hour", "day", "month", "day_of_week")
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
"""Cron counts from Sunday, APScheduler from Monday; names are the same in both."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
"""APScheduler overlooks what stands behind a name, as in jan/2; so it is given numbers."""

DAY = timedelta(days=1)

PLAIN = re.compile(r"[0-9*/,-]+")

SHAPE = 'a cron line is "minute hour day-of-month month day-of-week", as "0 3 * * *" (every night at three) or "*/15 * * * mon-fri"'


class Cron(BaseTrigger):
    """When `line` is due in `zone`.

    As in cron, and other than in APScheduler's own reading: weekdays count from Sunday; where both days are given, either will do; and
    what is due at a fixed time is due once on each day it is due at all, also where clocks are set forward over that time (then it is due
    that much later) or set back (then it is due at the first of the two).

    Args:
        line: five fields, or @hourly, @daily, @weekly, @monthly, @yearly.
        jitter: seconds, up to which each time is put off at random.

    Raises:
        SlimlineError: no cron line, or one that is never due.
    """

    def __init__(self, line: str, zone: ZoneInfo, jitter: float = 0.0) -> None:
        self.line, self.zone, self.jitter = line, zone, jitter
        words = NICKNAMES.get(line.strip().lower(), line).split()
        if len(words) != len(FIELDS):
            raise SlimlineError(f"'{line}': found {len(words)} field{'' if len(words) == 1 else 's'}; {SHAPE}")
        fields = dict(zip(FIELDS, words, strict=True))
        self.rules = [self._rule(one) for one in _either_day(fields)]
        self.fixed = not (fields["hour"].startswith("*") or fields["minute"].startswith("*"))
        if self.following(datetime.now(UTC)) is None:
            raise SlimlineError(f"'{line}': no such day ever comes; {SHAPE}")

    def _rule(self, fields: dict[str, str]) -> CronTrigger:
        given = {}
        for name, text in fields.items():
            try:
                given[name] = READ.get(name, _plain)(text)
                CronTrigger(**{name: given[name]}, timezone=UTC)
            except ValueError as error:
                raise SlimlineError(f"'{self.line}': {name.replace('_', ' ')} {text}: {error}; {SHAPE}") from error
        return CronTrigger(**given, timezone=UTC)

    def following(self, moment: datetime) -> datetime | None:
        """The first time after `moment` at which it is due, without jitter."""
        moment = moment.astimezone(UTC)
        first: datetime | None = None
        wall: datetime | None = self._wall(moment) - self._jump(moment)
        while wall is not None and (wall := self._next(wall)) is not None:
            if first is not None and wall > self._wall(first) + self._jump(first):
                break
            later = [one for one in self._moments(wall) if one > moment]
            first = min(later if first is None else [first, *later], default=None)
        return None if first is None else first.astimezone(self.zone)

    def _next(self, wall: datetime) -> datetime | None:
        """The first time after `wall` that the line names, on a clock that nobody sets: APScheduler loses midnights that are jumped over."""
        start = wall.replace(tzinfo=UTC) + timedelta(microseconds=1)
        found = [time for rule in self.rules if (time := rule.get_next_fire_time(None, start)) is not None]
        return min(found).replace(tzinfo=None) if found else None

    def _moments(self, wall: datetime) -> list[datetime]:
        """When the clock of the zone shows `wall`; where it jumps over that, as much later as it jumps."""
        before, after = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        return [before, after] if after > before and not self.fixed else [before]

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def _jump(self, moment: datetime) -> timedelta:
        """By how much clocks are set within a day of `moment`: so far are times there from the order in which clocks show them."""
        return abs(self._wall(moment + DAY) - self._wall(moment - DAY) - 2 * DAY)

    def times(self, moment: datetime) -> Iterator[datetime]:
        """All times after `moment`."""
        following = self.following(moment)
        while following is not None:
            yield following
            following = self.following(following)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """As APScheduler asks for it. What a clock that was set forward has skipped is not counted up: it would be one run anyway."""
        return self._apply_jitter(self.following(max(previous_fire_time or now, now)), self.jitter, now)

    def shown(self, count: int) -> list[str]:
        """The next `count` times, to be read."""
        return [written(one) for one in islice(self.times(datetime.now(UTC)), count)]


def _either_day(fields: dict[str, str]) -> list[dict[str, str]]:
    """Cron's oldest rule: where day of month and day of week are both given, either will do."""
    if fields["day"].startswith("*") or fields["day_of_week"].startswith("*"):
        return [fields]
    return [{**fields, "day": "*"}, {**fields, "day_of_week": "*"}]


def _plain(text: str) -> str:
    if not PLAIN.fullmatch(text):
        raise ValueError(f"'{text}' is neither number, * nor a list, range or step of them")
    return text


def _months(text: str) -> str:
    """A field of months with numbers for names."""
    return _plain(re.sub(r"[a-z]+", lambda name: str(MONTHS.index(name[0]) + 1) if name[0] in MONTHS else name[0], text.lower()))


def _weekdays(text: str) -> str:
    """A field of weekdays with names for numbers."""
    if text == "*":
        return text
    found = set()
    for part in text.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
        start = _weekday(first)
        end = (_weekday(last) or 7) if dash and span != "*" else 6 if span == "*" or slash else start
        if end < start or (slash and not re.fullmatch("[1-7]", step)):
            raise ValueError(f"'{part}' is no range")
        found |= {day % 7 for day in range(start, end + 1, int(step) if slash else 1)}
    return ",".join(DAYS[day] for day in sorted(found))


def _weekday(text: str) -> int:
    if text in DAYS:
        return DAYS.index(text)
    if not re.fullmatch("[0-7]", text):
        raise ValueError(f"'{text}' is no weekday; they are 0 to 7 (0 and 7 are Sunday) or {', '.join(DAYS)}")
    return int(text)


READ = {"month": _months, "day_of_week": _weekdays}
"""How the fields are read that know names."""


def zone_of(name: str | None) -> ZoneInfo:
    """The time zone `name`, or this machine's (TZ, else /etc/localtime).

    Raises:
        SlimlineError: no such zone.
    """
    try:
        return ZoneInfo(name) if name else get_localzone()
    except (KeyError, ValueError, OSError) as error:
        name = name or f"TZ={os.environ.get('TZ', '')}"
        near = get_close_matches(name.removeprefix("TZ="), available_timezones(), n=1)
        raise SlimlineError(
            f"{name[:50]}: no such time zone; {f'did you mean {near[0]}? ' if near else ''}they are named as Europe/Berlin is"
        ) from error


def written(moment: datetime) -> str:
    """Fri 2026-11-27 03:00 CET."""
    return f"{moment:%a %Y-%m-%d %H:%M %Z}"
