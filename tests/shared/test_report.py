"""Reports that do not reconcile cannot be made; cards give gains and labels by grade; both as a reader sees them."""

import pytest

from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.report import Report


@pytest.mark.parametrize(("kept", "dropped", "quarantined"), [(5, {"bot": 2, "late": 2}, 1), (10, {}, 0), (0, {}, 10)])
def test_every_row_that_was_read_is_accounted_for(kept, dropped, quarantined):
    report = Report(read=10, kept=kept, dropped=dropped, quarantined=quarantined)
    assert report.counts()["read"] == 10
    for wrong in ({"kept": kept + 1}, {"dropped": {**dropped, "other": 1}}, {"quarantined": quarantined + 1}):
        with pytest.raises(AssertionError, match=r"read 10, kept . dropped . quarantined 11"):
            Report(**{"read": 10, "kept": kept, "dropped": dropped, "quarantined": quarantined, **wrong})


def test_a_step_that_filters_nothing_counts_nothing():
    assert Report(kept=3, metrics={"loss": 0.5}).counts() == {}


def test_a_page_shows_counts_by_reason_and_keeps_notes_in_their_cell():
    report = Report(read=1234, kept=1200, dropped={"late": 4, "bot": 30}, metrics={"loss": 0.123456789}, notes={"q": "a\n| b |  c"})
    assert report.markdown("Log").splitlines()[4:] == [
        "| read | 1,234 |", "| kept | 1,200 |", "| quarantined | 0 |", "| dropped.bot | 30 |", "| dropped.late | 4 |",
        "| loss | 0.123457 |", "| q | a / b / c |",
    ]  # fmt: skip


SOURCE = {"file": "x.csv", "columns": {}}


def card(**grades: tuple[float, float]) -> DatasetCard:
    scale = {label: {"grade": grade, "gain": gain} for label, (grade, gain) in grades.items()}
    whole = {"name": "shop", "grades": scale, "items": SOURCE, "queries": SOURCE, "judgments": SOURCE}
    return DatasetCard.from_mapping({**whole, "log": {"queries": "q", "events": "e"}}, section="card")


def test_gains_and_labels_are_by_grade_whatever_the_order_on_the_card():
    shuffled = card(E=(2, 1.0), I=(0, 0.0), S=(1, 0.1))
    assert (shuffled.gains(), shuffled.labels()) == ([0.0, 0.1, 1.0], ["I", "S", "E"])


@pytest.mark.parametrize(("grade", "gain", "key"), [(0, 1.01, "gain"), (0, -0.01, "gain"), (-1, 0.0, "grade"), (0.5, 0.0, "grade")])
def test_a_grade_is_a_whole_number_and_worth_at_most_one(grade, gain, key):
    with pytest.raises(InputError, match=rf"'card': key 'grades.E.{key}' = "):
        card(E=(grade, gain))
