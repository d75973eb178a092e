"""When a schedule fires: a cron expression, checked, and moved from the shop's time zone to the server's.

Kubeflow evaluates every cron expression in one time zone, that of its controller (`CRON_SCHEDULE_TIMEZONE`, UTC unless set), and its
API has no field for another. So a cron that is meant in the shop's zone is moved to the server's before it is sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from components.shared.errors import InputError

SERVER_ZONE = "UTC"
SHORT = {"@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@weekly": "0 0 0 * * 0", "@monthly": "0 0 0 1 * *"}
CLOCK = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23)}
DAYS = {"day of month": (1, 31), "month": (1, 12), "day of week": (0, 6)}  # robfig/cron, which Kubeflow uses, knows no weekday 7


@dataclass(frozen=True)
class Plan:
    """When it runs: as asked, as sent, and what a person should know."""

    asked: str
    cron: str
    note: str = ""


def plan(cron: str, zone: str, server_zone: str, today: date) -> Plan:
    """Check a cron expression and move it from `zone` to the server's.

    Args:
        cron: five fields as everywhere, six with seconds first, or @daily, @midnight, @weekly, @monthly.
        zone: IANA name of the zone in which `cron` is meant.
        server_zone: the zone of the server's controller.
        today: from which day on clock changes are looked for.

    Raises:
        InputError: for a cron that is none or fires more than once a day, an unknown zone, or a move that changes the day of a
            cron that is limited to certain days.
    """
    second, minute, hour, *days = _fields(cron)
    _check_days(cron, days)
    clock = time(_number("hour", hour, cron), _number("minute", minute, cron), _number("second", second, cron))
    moved = _moves(clock, _zone(zone), _zone(server_zone), today)
    at, day_shift = next(moved)
    if day_shift and any(field not in ("*", "?") for field in days):
        raise InputError(
            f"cron '{cron}' in {zone} falls on another day in {server_zone}, where the server counts; write it in {server_zone}"
        )
    changed = next((more for more, then in enumerate(moved, 1) if then != (at, day_shift)), None)
    note = ""
    if changed is not None:
        day = today + timedelta(days=changed)
        note = (
            f"clocks change on {day}: run `schedule` again then, or let Kubeflow's controller count in {zone} "
            f"(CRON_SCHEDULE_TIMEZONE) and give --server-time-zone {zone}"
        )
    return Plan(f"{cron} {zone}", " ".join([str(at.second), str(at.minute), str(at.hour), *days]), note)


def _fields(cron: str) -> list[str]:
    fields = SHORT.get(cron.strip(), cron).split()
    if len(fields) == 5:  # the server would take the minute for the second, and fire every hour
        fields = ["0", *fields]
    if len(fields) != 6:
        raise InputError(f"cron '{cron}' has {len(fields)} fields; write five (minute hour day month weekday), for example '30 2 * * *'")
    return fields


def _number(name: str, text: str, cron: str) -> int:
    low, high = CLOCK[name]
    if not re.fullmatch(r"\d{1,2}", text) or not low <= int(text) <= high:
        raise InputError(f"cron '{cron}': {name} '{text}' is not one number from {low} to {high}; a run's date is a day, so one run a day")
    return int(text)


def _check_days(cron: str, fields: list[str]) -> None:
    for (name, (low, high)), field in zip(DAYS.items(), fields, strict=True):
        for one in field.split(","):
            span, _, step = one.partition("/")
            ends = span.split("-") if span not in ("*", "?") else [str(low)]
            values = [int(end) if re.fullmatch(r"\d{1,2}", end) else -1 for end in ends]
            sound = len(values) <= 2 and values == sorted(values) and all(low <= value <= high for value in values)
            if not sound or ("/" in one and not re.fullmatch(r"[1-9]\d?", step)):
                raise InputError(
                    f"cron '{cron}': {name} '{one}' is not understood; write *, or numbers from {low} to {high}, as in 1-5 or 1,3"
                )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        raise InputError(f"time zone '{name}' is not known; give an IANA name such as UTC or Europe/Berlin") from None


def _moves(clock: time, zone: ZoneInfo, server_zone: ZoneInfo, today: date) -> Iterator[tuple[time, int]]:
    """(time of day, day shift) on the server's clock, for today and the year after."""
    for more in range(366):
        here = datetime.combine(today + timedelta(days=more), clock, zone)
        there = here.astimezone(server_zone)
        yield there.time(), (there.date() - here.date()).days
