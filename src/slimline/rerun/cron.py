"""Cron lines as APScheduler's triggers, with the meaning that cron gives them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from tzlocal import get_localzone

from slimline.errors import SlimlineError
from slimline.registry import suggestion

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
                given[name] = _weekdays(text) if name == "day_of_week" else text
                CronTrigger(**{name: given[name]}, timezone=self.zone)
            except ValueError as error:
                raise SlimlineError(f"'{self.line}': {name.replace('_', ' ')} {text}: {error}; {SHAPE}") from error
        return CronTrigger(**given, timezone=self.zone)

    def following(self, moment: datetime) -> datetime | None:
        """The first time after `moment` at which it is due, without jitter."""
        start = moment.astimezone(UTC)
        while True:
            start += timedelta(microseconds=1)
            found = [time.astimezone(UTC) for rule in self.rules if (time := rule.get_next_fire_time(None, start)) is not None]
            if not found:
                return None
            first = min(found).astimezone(self.zone)
            if not (self.fixed and first.fold):
                return first
            start = min(found)  # the hour comes a second time

    def times(self, moment: datetime) -> Iterator[datetime]:
        """All times after `moment`."""
        following = self.following(moment)
        while following is not None:
            yield following
            following = self.following(following)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """As APScheduler asks for it."""
        return self._apply_jitter(self.following(previous_fire_time or now), self.jitter, now)

    def shown(self, count: int) -> list[str]:
        """The next `count` times, to be read."""
        return [written(one) for one in islice(self.times(datetime.now(UTC)), count)]


def _either_day(fields: dict[str, str]) -> list[dict[str, str]]:
    """Cron's oldest rule: where day of month and day of week are both given, either will do."""
    if fields["day"].startswith("*") or fields["day_of_week"].startswith("*"):
        return [fields]
    return [{**fields, "day": "*"}, {**fields, "day_of_week": "*"}]


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
        if end < start or (slash and not (step.isdecimal() and int(step))):
            raise ValueError(f"'{part}' is no range")
        found |= {day % 7 for day in range(start, end + 1, int(step) if slash else 1)}
    return ",".join(DAYS[day] for day in sorted(found))


def _weekday(text: str) -> int:
    if text in DAYS:
        return DAYS.index(text)
    if not text.isdecimal() or int(text) > 7:
        raise ValueError(f"'{text}' is no weekday; they are 0 to 7 (0 and 7 are Sunday) or {', '.join(DAYS)}")
    return int(text)


def zone_of(name: str | None) -> ZoneInfo:
    """The time zone `name`, or this machine's (TZ, else /etc/localtime).

    Raises:
        SlimlineError: no such zone.
    """
    try:
        return ZoneInfo(name) if name else get_localzone()
    except (KeyError, ValueError, OSError) as error:
        known = sorted(available_timezones())
        raise SlimlineError(f"{name or 'TZ'}: no such time zone; {suggestion(name or '', known) if known else 'install tzdata'}"[:200]) from error


def written(moment: datetime) -> str:
    """Fri 2026-11-27 03:00 CET."""
    return f"{moment:%a %Y-%m-%d %H:%M %Z}"
