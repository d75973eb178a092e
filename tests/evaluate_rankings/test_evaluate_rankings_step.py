"""The step over small tables: numbers, notes, refusals, and the report page."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from judged_shop import GAINS, card_of, ranking

from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.evaluate_rankings.step import run
from components.shared import metrics, storage, tables
from components.shared.errors import InputError
from components.shared.tracking import NullTracker, SpoolTracker

CONFIG = EvaluateRankingsConfig(num_resamples=200)
SYSTEMS = ("teacher", "cross_encoder", "untrained", "champion")


def evaluate(shop, out, config=CONFIG, tracker=None, **changes):
    places = {name: shop[name] for name in ("card", "judgments", "queries", "items")}
    places |= {"rankings": ",".join(shop[name] for name in SYSTEMS), "evaluation": str(out)} | changes
    report = run(config, tracker=tracker or NullTracker(), **places)
    return report, storage.read_json(storage.join(str(out), "metrics.json"))


def test_numbers_of_the_step_are_those_of_the_metrics(shop, tmp_path):
    report, result = evaluate(shop, tmp_path / "out")
    assert sorted(result["systems"]) == ["bm25", "cross_encoder", "teacher", "untrained"]
    judged = tables.read_table(shop["judgments"], "judgments").filter(pc.field("split") != "train")
    values = metrics.per_query(judged, ranking("cross_encoder", 0.5), gains=GAINS)
    found = metrics.values_of(values, "cross_encoder", "ndcg@10")["value"].to_numpy()
    one = result["systems"]["cross_encoder"]["ndcg@10"]
    assert one["mean"] == pytest.approx(found.mean())
    assert one["num_queries"] == len(found) == 20  # 24 queries, 4 of them train
    assert one["low"] < one["mean"] < one["high"]
    assert report.metrics["cross_encoder.ndcg@10"] == one["mean"]
    # 3 systems of 24 * 8 pairs and bm25 on the 20 * 8 judged ones; the 3 systems' 4 train queries are not evaluated
    assert (report.read, report.kept, report.dropped) == (736, 640, {"query not evaluated": 96})
    assert result["gains"] == "E=1, S=0.1, C=0.01, I=0"


def test_differences_are_paired_and_of_the_named_systems(shop, tmp_path):
    _, result = evaluate(shop, tmp_path / "out")
    found = {(row["system"], row["against"], row["metric"]): row for row in result["differences"]}
    assert {key[:2] for key in found} == {
        ("cross_encoder", "bm25"), ("teacher", "bm25"), ("untrained", "bm25"),
        ("cross_encoder", "untrained"), ("teacher", "untrained"), ("cross_encoder", "teacher"),
    }  # fmt: skip
    values = pq.read_table(tmp_path / "out" / "per_query.parquet")
    _, ours, theirs = metrics.common_values(values, "cross_encoder", "untrained", "auc")
    row = found["cross_encoder", "untrained", "auc"]
    assert row["mean"] == pytest.approx(np.mean(ours - theirs))
    assert row["low"] > 0
    assert row["p"] < 0.05


def test_slices_hold_means_over_their_queries(shop, tmp_path):
    _, result = evaluate(shop, tmp_path / "out")
    rows = {(row["slice"], row["value"], row["system"]): row for row in result["slices"]}
    values = pq.read_table(tmp_path / "out" / "per_query.parquet")
    mine = metrics.values_of(values, "teacher", "ndcg@10").to_pylist()
    negation = [row["value"] for row in mine if int(row["query_id"][1:]) % 3 == 0]
    assert rows["kind", "negation", "teacher"]["num_queries"] == len(negation) == 6
    assert rows["kind", "negation", "teacher"]["mean"] == pytest.approx(np.mean(negation))
    assert rows["split", "dev", "teacher"]["num_queries"] == 8
    assert {key[1] for key in rows if key[0] == "segment"} == {"head", "tail"}
    _, fewer = evaluate(shop, tmp_path / "few", CONFIG.model_copy(update={"min_slice_queries": 7}))
    assert "negation" not in {row["value"] for row in fewer["slices"]}


def test_an_empty_champion_is_a_note(shop, tmp_path):
    report, result = evaluate(shop, tmp_path / "out")
    assert result["notes"] == {f"skipped {shop['champion']}": "no rows"}
    assert report.notes[f"skipped {shop['champion']}"] == "no rows"


def test_same_input_gives_the_same_bytes(shop, tmp_path):
    evaluate(shop, tmp_path / "one")
    evaluate(shop, tmp_path / "two")
    assert storage.content_digest(str(tmp_path / "one")) == storage.content_digest(str(tmp_path / "two"))


@pytest.mark.parametrize(("broken", "reason"), [(np.nan, "NaN"), (0.3, "distinct")])
def test_broken_scores_are_recorded_and_stop_nobody_else(shop, tmp_path, broken, reason):
    tables.write_table(str(tmp_path / "broken"), "rankings", ranking("cross_encoder", 1, broken))
    report, result = evaluate(shop, tmp_path / "out", rankings=f"{shop['teacher']},{tmp_path / 'broken'}")
    assert reason in result["health"]["cross_encoder"][0]
    assert result["health"]["teacher"] == []
    assert ("cross_encoder" in result["systems"]) is (reason == "distinct")
    assert reason in report.notes["scores of cross_encoder"]
    assert reason in (tmp_path / "out" / "report.html").read_text()


def test_headline_metrics_are_tracked_with_interval(shop, tmp_path):
    evaluate(shop, tmp_path / "out", tracker=SpoolTracker(tmp_path / "spool.jsonl", "evaluation"))
    lines = [json.loads(line) for line in (tmp_path / "spool.jsonl").read_text().splitlines()]
    headline = next(line["values"] for line in lines if line["kind"] == "headline")
    assert headline["untrained.ndcg@10.low"] < headline["untrained.ndcg@10"] < headline["untrained.ndcg@10.high"]
    assert len(headline) == 4 * 3 * 3  # systems, metrics, mean and two ends
    kept = [line["uri"].rsplit("/", 1)[1] for line in lines if line["kind"] == "artifact"]
    assert {"report.html", "metrics.json", "differences.svg", "segment.svg"} <= set(kept)


class _Page(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.tags, self.loads, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action") and not value.startswith("#")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_needs_nothing_and_runs_nothing(shop, tmp_path):
    evaluate(shop, tmp_path / "out")
    page = _Page()
    page.feed((tmp_path / "out" / "report.html").read_text())
    text = "".join(page.text)
    assert page.loads == []
    assert not {"script", "iframe", "link", "img", "object"} & set(page.tags)
    assert page.tags.count("svg") == 4  # differences, segment, kind, split
    assert "<script>alert(1)</script> $x^$" in text  # a query's text, shown as text
    assert "tiny <shop>" in text
    assert "ndcg@10 with gains E=1, S=0.1, C=0.01, I=0" in text


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_the_report_shows_in_a_sandboxed_frame(shop, tmp_path):
    evaluate(shop, tmp_path / "out")
    frame = '<iframe sandbox="allow-scripts" width="1000" height="900" src="out/report.html"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--window-size=1000,900"]
    options += ["--disable-features=IsolateSandboxedIframes"]  # a frame in a process of its own may be drawn after the picture
    subprocess.run(
        ["chromium", *options, f"--user-data-dir={tmp_path}/profile", f"--screenshot={tmp_path}/shot.png", f"file://{tmp_path}/frame.html"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    from matplotlib import image

    pixels = image.imread(tmp_path / "shot.png")
    assert pixels[..., :3].std() > 0.1  # a blocked frame is one flat colour


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rankings": ""}, "no system"),
        ({"rankings": "nowhere"}, "nowhere"),
        ({"judgments": "nowhere.parquet"}, "nowhere.parquet"),
    ],
)
def test_missing_input_is_the_users_mistake(shop, tmp_path, changes, message):
    if "rankings" in changes and not changes["rankings"]:
        changes = {**changes, "queries": "", "items": ""}
    with pytest.raises(InputError, match=message):
        evaluate(shop, tmp_path / "out", **changes)


def test_a_system_that_comes_twice_is_refused(shop, tmp_path):
    with pytest.raises(InputError, match="system 'teacher' stands in"):
        evaluate(shop, tmp_path / "out", rankings=f"{shop['teacher']},{shop['teacher']}")
    tables.write_table(str(tmp_path / "bm25"), "rankings", ranking("bm25", 1))
    with pytest.raises(InputError, match="lexical_baseline"):
        evaluate(shop, tmp_path / "out", rankings=str(tmp_path / "bm25"))


def test_gains_that_are_not_the_cards_are_refused(shop, tmp_path):
    # the swap of S and C in the published ESCI code
    storage.write_json(shop["card"], card_of([0.0, 0.1, 0.01, 1.0]))
    with pytest.raises(InputError, match=r"grade 1 has gain 0\.01, but card"):
        evaluate(shop, tmp_path / "out")


def test_settings_that_fit_no_data_are_refused(shop, tmp_path):
    with pytest.raises(InputError, match="positive_grade' = 4"):
        evaluate(shop, tmp_path / "out", CONFIG.model_copy(update={"positive_grade": 4}))
    with pytest.raises(InputError, match="splits"):
        EvaluateRankingsConfig.from_mapping({"splits": []}, section="evaluation")
    with pytest.raises(InputError, match=r"known keys: .*cutoff"):
        EvaluateRankingsConfig.from_mapping({"cutof": 5}, section="evaluation")


def test_the_component_hands_over_tables_and_pages(shop, tmp_path):
    from components.evaluate_rankings.component import evaluate_rankings

    class Artifact:
        def __init__(self, path, uri=""):
            self.path, self.metadata, self.logged = str(path), {}, {}
            if uri:
                Path(path).write_text(json.dumps({"uri": uri, "digest": uri}))

        def log_metric(self, name, value):
            self.logged[name] = value

    inputs = ["card", "judgments", "queries", "items", *SYSTEMS]
    artifacts = {name: Artifact(tmp_path / f"in-{name}", shop[name]) for name in inputs}
    tables.write_table(str(tmp_path / "bi"), "rankings", ranking("bi_encoder", 0.8))
    artifacts["bi_encoder"] = Artifact(tmp_path / "in-bi", str(tmp_path / "bi"))
    outputs = {name: Artifact(tmp_path / f"out-{name}") for name in ("evaluation", "report", "metrics", "summary")}
    evaluate_rankings.python_func(
        config={"num_resamples": 100.0}, section="evaluation", workspace=str(tmp_path / "work"), run_id="r1", **artifacts, **outputs
    )
    result = storage.read_json(storage.join(outputs["evaluation"].metadata["uri"], "metrics.json"))
    assert sorted(result["systems"]) == ["bi_encoder", "bm25", "cross_encoder", "teacher", "untrained"]
    assert outputs["metrics"].logged["bi_encoder.auc"] == result["systems"]["bi_encoder"]["auc"]["mean"]
    assert "<svg" in Path(outputs["report"].path).read_text()
    assert "bi_encoder.auc" in Path(outputs["summary"].path).read_text()
