"""Cron expressions: what is refused, and how the shop's clock becomes the server's."""

from datetime import date

import pytest

from components.shared.errors import InputError
from pipelines.cron import plan

WINTER, SUMMER = date(2026, 11, 23), date(2026, 7, 1)


@pytest.mark.parametrize(
    ("cron", "sent"),
    [
        ("30 2 * * *", "0 30 2 * * *"),  # five fields would mean "minute 30 of hour 2" nowhere and "second 30 of minute 2" on the server
        ("15 30 2 * * *", "15 30 2 * * *"),
        ("@daily", "0 0 0 * * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("0 0 1,15 */2 1-5", "0 0 0 1,15 */2 1-5"),
        ("0 5 ? * 2-6/2", "0 0 5 ? * 2-6/2"),
    ],
)
def test_a_cron_is_sent_with_six_fields(cron, sent):
    assert plan(cron, "UTC", "UTC", WINTER).cron == sent


@pytest.mark.parametrize(
    ("cron", "zone", "today", "sent"),
    [
        ("30 2 * * *", "Europe/Berlin", WINTER, "0 30 1 * * *"),  # UTC+1
        ("30 2 * * *", "Europe/Berlin", SUMMER, "0 30 0 * * *"),  # UTC+2
        ("0 9 * * 1-5", "America/New_York", WINTER, "0 0 14 * * 1-5"),  # UTC-5
        ("30 2 * * *", "Asia/Kolkata", WINTER, "0 0 21 * * *"),  # UTC+5:30, so the evening before; every day is every day
        ("0 23 * * *", "America/New_York", WINTER, "0 0 4 * * *"),  # the morning after
    ],
)
def test_a_cron_is_moved_to_the_servers_clock(cron, zone, today, sent):
    planned = plan(cron, zone, "UTC", today)
    assert (planned.cron, planned.asked) == (sent, f"{cron} {zone}")


def test_a_server_that_counts_in_the_shops_zone_gets_the_cron_as_it_is():
    planned = plan("30 2 * * 1", "Europe/Berlin", "Europe/Berlin", WINTER)
    assert (planned.cron, planned.note) == ("0 30 2 * * 1", "")


def test_a_zone_with_a_clock_change_says_from_when_to_schedule_again():
    # in 2027 Berlin's clocks change on the last Sunday of March, the 28th, at 02:00: 02:30 of that day is after it
    assert plan("30 3 * * *", "Europe/Berlin", "UTC", WINTER).note.startswith("clocks change on 2027-03-28: run `schedule` again then")
    assert plan("30 3 * * *", "Asia/Kolkata", "UTC", WINTER).note == ""


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("bogus", "has 1 fields; write five"),
        ("2 * * *", "has 4 fields"),
        ("0 2 * * * * *", "has 7 fields"),
        ("@hourly", "has 1 fields"),
        ("0 * * * *", r"hour '\*' is not one number from 0 to 23"),
        ("*/5 2 * * *", "minute"),
        ("0 2,14 * * *", "one run a day"),
        ("0 24 * * *", "hour '24'"),
        ("60 2 * * *", "minute '60'"),
        ("60 0 2 * * *", "second '60'"),
        ("0 2 0 * *", "day of month '0' is not understood; write \\*, or numbers from 1 to 31"),
        ("0 2 32 * *", "day of month '32'"),
        ("0 2 * 13 *", "month '13'"),
        ("0 2 * * 7", "day of week '7' is not understood; write \\*, or numbers from 0 to 6"),
        ("0 2 * * MON", "day of week 'MON'"),
        ("0 2 * * 5-1", "day of week '5-1'"),
        ("0 2 * * 1-2-3", "day of week '1-2-3'"),
        ("0 2 */0 * *", r"day of month '\*/0'"),
        ("0 2 1, * *", "day of month ''"),
        ("0 2 */ * *", r"day of month '\*/'"),
    ],
)
def test_what_is_no_daily_cron_is_refused(cron, message):
    with pytest.raises(InputError, match=message):
        plan(cron, "UTC", "UTC", WINTER)


@pytest.mark.parametrize("zone", ["Europe/Berlinn", "", "../etc/passwd", "Europe"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(InputError, match="is not known; give an IANA name"):
        plan("0 2 * * *", zone, "UTC", WINTER)


def test_certain_days_are_not_moved_over_midnight():
    with pytest.raises(InputError, match="falls on another day in UTC, where the server counts; write it in UTC"):
        plan("30 2 * * 1-5", "Asia/Kolkata", "UTC", WINTER)
