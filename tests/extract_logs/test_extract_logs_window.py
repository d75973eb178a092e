"""The night's date and the days it stands for."""

from datetime import date

import pytest

from components.extract_logs.window import Window, parse_date, partitions_of, resolve_window
from components.shared.errors import InputError

TODAY = date(2024, 6, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[CurrentTime.2006-01-02]]", "placeholder"),  # kubeflow/pipelines#12494
        ("{{workflow.creationTimestamp}}", "placeholder"),
        ("{$.scheduledTime}", "placeholder"),
        ("1970-01-01", "before 2000"),  # vertex-ai-samples#3771
        ("2024-06-02", "future"),
        ("10.05.2024", "YYYY-MM-DD"),
        ("2024-02-30", "YYYY-MM-DD"),
        ("../../etc", "YYYY-MM-DD"),
    ],
)
def test_wrong_dates_are_refused_with_their_value(text, says):
    with pytest.raises(InputError, match=says) as caught:
        parse_date(text, TODAY)
    assert text in str(caught.value)


def test_today_and_the_first_day_are_days():
    assert [parse_date(text, TODAY) for text in ("2024-06-01", "2000-01-01", " ")] == [TODAY, date(2000, 1, 1), None]


def test_window_is_days_after_date_minus_days_up_to_date_minus_lag():
    # (2024-05-10 - 7, 2024-05-10 - 1] = 4 May to 9 May: six days
    window = resolve_window("2024-05-10", days=7, lag_days=1, today=TODAY, last_day=None)
    assert window == Window(date(2024, 5, 4), date(2024, 5, 9))
    assert (window.end_us - window.start_us) // 86_400_000_000 == 6
    assert window.start_us == 1_714_780_800_000_000  # 2024-05-04T00:00:00Z


def test_empty_date_takes_the_last_day_of_the_log():
    assert resolve_window("", days=1, lag_days=0, today=TODAY, last_day=date(2024, 5, 3)) == Window(date(2024, 5, 3), date(2024, 5, 3))


def test_log_without_a_usable_day_is_refused():
    with pytest.raises(InputError, match="timestamp"):
        resolve_window("", days=1, lag_days=0, today=TODAY, last_day=None)


def test_lag_as_long_as_the_window_is_refused():
    with pytest.raises(InputError, match="lag_days = 7"):
        resolve_window("2024-05-10", days=7, lag_days=7, today=TODAY, last_day=None)


def test_partitions_that_cannot_hold_the_window_are_not_read():
    files = [f"file:///log/dt=2024-05-{day:02d}/part-0.parquet" for day in range(1, 20)]
    files += ["file:///log/dt=2024-13-45/part-0.parquet", "file:///log/loose.parquet"]
    window = Window(date(2024, 5, 5), date(2024, 5, 6))
    read = partitions_of(files, window, late_days=2)  # 4 May (clock skew) to 8 May (two days late), and what has no day
    assert [file[-22:-15] for file in read[:-2]] == [f"4-05-{day:02d}"[-7:] for day in range(4, 9)]
    assert read[-2:] == files[-2:]
    assert partitions_of(files, None, 2) == files
