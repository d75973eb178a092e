"""A night whose newest day is empty or partial promotes nothing, however good its model is."""

import json
from datetime import date
from types import SimpleNamespace

import pytest
from seeded_scores import scored

from components.extract_logs.lineage import last_day
from components.extract_logs.window import Window
from components.promote_model.component import promote_model
from components.shared import registry, storage
from components.shared.errors import InputError
from pipelines.nights import finished

USUAL = {date(2024, 5, day): 100 for day in range(4, 10)}
SYSTEMS = {"bm25": scored(2.0, 101), "untrained": scored(60.0, 102), "cross_encoder": scored(0.3, 1)}


def _night(tmp_path, evaluation, model, name, content):
    """What promote_model's kfp door says and shows after a log whose lineage is `content`."""
    storage.write_json(str(tmp_path / name / "lineage.json"), content)

    def given(kind, place):
        file = tmp_path / name / f"{kind}.address"
        file.write_text(json.dumps({"uri": place, "digest": storage.content_digest(place)}))
        return SimpleNamespace(path=str(file), metadata={})

    outputs = {one: SimpleNamespace(path=str(tmp_path / name / one), metadata={}) for one in ("promotion", "card", "summary")}
    promote_model.python_func(
        config={"num_resamples": 400.0}, section="promotion", workspace=str(tmp_path / "workspace"), run_id=name,
        evaluation=given("evaluation", evaluation), cross_encoder=given("cross", model), bi_encoder=given("bi", model),
        lineage=given("lineage", str(tmp_path / name)), **outputs,
    )  # fmt: skip
    return storage.read_json(outputs["promotion"].metadata["uri"]), (tmp_path / name / "summary").read_text()


def _of_day(events):
    day = last_day(USUAL | {date(2024, 5, 10): events}, Window(date(2024, 5, 4), date(2024, 5, 10)), 0.5)
    return {"last_day": {"date": "2024-05-11", "day": str(day.day), "status": day.status, "share": day.share}}


def test_zero_promotions_on_an_empty_and_on_a_partial_day(evaluated, model, tmp_path):
    evaluation, folder = evaluated(**SYSTEMS), model("a")
    for events, status in ((0, "empty"), (1, "partial"), (49, "partial")):
        decision, shown = _night(tmp_path, evaluation, folder, f"night-{events}", _of_day(events))
        assert (decision["outcome"], decision["log"]["status"]) == ("refuse", status)
        assert f"the log's last day 2024-05-10 is {status} ({events}% of a usual day's events)" in decision["reason"]
        assert f"| last_day.status | {status} |" in shown
        assert registry.resolve("models:/relevance-student@champion") == ""
        assert registry.resolve("models:/relevance-student@challenger")  # sound, and above the floors
    decision, shown = _night(tmp_path, evaluation, folder, "night-50", _of_day(50))
    assert (decision["outcome"], decision["log"]["status"]) == ("promote", "complete")
    assert registry.resolve("models:/relevance-student@champion") == storage.normalise(folder)
    assert "| last_day | 2024-05-10 |" in shown
    # what `backfill` reads: the newest decision of a date whose day is complete wins
    assert finished(str(tmp_path / "workspace")) == {"2024-05-11": "complete"}


def test_a_first_day_alone_may_promote_and_a_refusal_keeps_its_own_reason(evaluated, model, tmp_path):
    alone = {"last_day": {"date": "2024-05-10", "day": "2024-05-10", "status": "alone", "share": 1.0}}
    assert _night(tmp_path, evaluated(**SYSTEMS), model("a"), "alone", alone)[0]["outcome"] == "promote"
    worse = evaluated("worse", **(SYSTEMS | {"cross_encoder": scored(50.0, 3)}))
    decision = _night(tmp_path, worse, model("b"), "worse", _of_day(0))[0]
    assert (decision["outcome"], "does not beat" in decision["reason"]) == ("refuse", True)


def test_a_lineage_without_a_last_day_is_refused(evaluated, model, tmp_path):
    with pytest.raises(InputError, match=r"lineage.json' has no last_day with date, day, status and share"):
        _night(tmp_path, evaluated(**SYSTEMS), model("a"), "old", {"last_day": {"status": "complete"}})
