"""Which days of the log count: an explicit date or the log's last day, minus a lag for rows that arrive late."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from components.shared.errors import InputError

FIRST_DAY = date(2000, 1, 1)
PLACEHOLDERS = ("[[", "{{", "{$")
DAY_US = 86_400_000_000
_PARTITION = re.compile(r"/(?:dt=(\d{4})-(\d{2})-(\d{2})(?=/)|events_(\d{4})(\d{2})(\d{2})(?=[./_]))")


@dataclass(frozen=True)
class Window:
    """Whole UTC days, both ends included."""

    first: date
    last: date

    @property
    def start_us(self) -> int:
        """First microsecond inside."""
        return _microseconds(self.first)

    @property
    def end_us(self) -> int:
        """First microsecond after."""
        return _microseconds(self.last) + DAY_US

    @property
    def days(self) -> int:
        """Length in days."""
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.first.isoformat()} to {self.last.isoformat()}"


def parse_date(text: str, today: date) -> date | None:
    """An explicit ISO date; None for an empty text.

    Raises:
        InputError: for a schedule placeholder that nobody filled in (kubeflow/pipelines#12494), another notation, or a date
            before 2000 or after today.
    """
    if not text.strip():
        return None
    if any(mark in text for mark in PLACEHOLDERS):
        raise InputError(f"date '{text}' is a schedule placeholder that was not filled in; give YYYY-MM-DD, or '' for the log's last day")
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").date()
    except ValueError:
        raise InputError(f"date '{text}' is not a day; write YYYY-MM-DD, or '' for the log's last day") from None
    if day < FIRST_DAY:
        raise InputError(f"date '{text}' is before {FIRST_DAY}; check the schedule's placeholder, or give the day as YYYY-MM-DD")
    if day > today:
        raise InputError(f"date '{text}' is in the future, today is {today} (UTC); give a day that the log holds")
    return day


def resolve_window(text: str, *, days: int, lag_days: int, today: date, last_day: date | None, oldest: date = FIRST_DAY) -> Window:
    """Days in (date - days, date - lag_days], where the date is `text` or else the log's last day; none before `oldest`.

    Args:
        text: `YYYY-MM-DD` or empty.
        last_day: the last day, not after today, on which the log has a well-formed event; None when it has none.
        oldest: the first day that may still be kept.

    Raises:
        InputError: for a wrong date, a log without a usable day, a lag as long as the window, or a window that may not be kept any more.
    """
    day = parse_date(text, today) or last_day
    if day is None:
        raise InputError(f"the log has no event with a timestamp between {FIRST_DAY} and {today}; check the column 'timestamp'")
    if lag_days >= days:
        raise InputError(f"recipe section 'logs': lag_days = {lag_days} leaves nothing of window_days = {days}; lower it")
    window = Window(max(day - timedelta(days=days - 1), oldest), day - timedelta(days=lag_days))
    if window.first > window.last:
        raise InputError(
            f"recipe section 'logs': retention_days forbids events before {oldest}, and the window ends on {window.last}; give a later date"
        )
    return window


def oldest_day(today: date, retention_days: int) -> date:
    """The first day whose events may still be kept; 0 days means that no retention is set."""
    return today - timedelta(days=retention_days - 1) if retention_days else FIRST_DAY


def last_partition(files: Sequence[str]) -> date | None:
    """The latest day of arrival among the files. A row cannot happen after it arrived: a later time is a wrong clock."""
    return max((day for file in files if (day := _partition_day(file))), default=None)


def partitions_of(files: Sequence[str], window: Window | None, late_days: int, oldest: date = FIRST_DAY) -> list[str]:
    """The files that can hold rows of the window: partitions `dt=` are days of arrival, so up to `late_days` later ones count.

    GA4's tables `events_YYYYMMDD` are days of the property's time zone, so there `late_days` must be at least 1. Nothing that
    arrived before `oldest`, where all rows are older still.
    """
    first, last = oldest, date.max
    if window is not None:
        first, last = max(window.first - timedelta(days=1), oldest), window.last + timedelta(days=late_days)
    return [file for file in files if (day := _partition_day(file)) is None or first <= day <= last]


def _partition_day(file: str) -> date | None:
    found = _PARTITION.search(file)
    try:
        return date(*(int(part) for part in found.groups() if part)) if found else None
    except ValueError:
        return None


def _microseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
