"""What scoring costs: tokens and padding as the model saw them, money by hand, a budget that stops between shards and goes on."""

import logging

import pyarrow as pa
import pytest
from encoder_folders import GAINS
from pydantic import ValidationError

from components.score_pairs import cost, workers
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.cost import Ledger, Meter
from components.score_pairs.step import run
from components.shared import cli, shards, tables
from components.shared.errors import InputError
from components.shared.models.scoring import Scorer
from components.shared.tracking import NullTracker

PRICE = ScorePairsConfig(num_threads=1, device_hour_price=36.0)  # 0.01 a second
SIZES = {0: 10, 1: 10, 2: 20}


def spent(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "tokens": 300, "positions": 400}


def test_tokens_and_padding_are_what_the_model_was_given(model_folders):
    scorer = Scorer(model_folders["teacher"], batch_tokens=24)
    meter = Meter(scorer, 0.5, 100.0)
    probabilities = scorer.probabilities(["query: red shoes"] * 3, ["title: blue kettle", "title: red running shoes", "title: kettle"])
    assert probabilities.shape == (3, len(GAINS))
    # [CLS] query : red shoes [SEP] title : blue kettle [SEP] = 11, the others 12 and 10; a pack has no padding
    read = meter.read()
    assert (read["tokens"], read["positions"]) == (33, 33)
    scorer.encoder.first_position = None  # read in batches: two rows of 12, then one of 10
    scorer.probabilities(["query: red shoes"] * 3, ["title: blue kettle", "title: red running shoes", "title: kettle"])
    read = meter.read()
    assert (read["tokens"], read["positions"]) == (33, 34)
    assert read["seconds"] > 0
    assert meter.read()["tokens"] == 0


def test_a_model_that_reads_apart_computes_each_text_once(model_folders):
    scorer = Scorer(model_folders["bi_encoder"], batch_tokens=10_000)
    meter = Meter(scorer, 1.0, 0.0)
    scorer.scores(["query: red shoes"] * 2, ["title: blue kettle", "title: kettle"])
    # [CLS] query : red shoes [SEP] = 6, once; [CLS] title : blue kettle [SEP] = 6 beside 5
    assert meter.read()["tokens"] == 6 + 6 + 5


def test_money_by_hand(monkeypatch):
    ledger = Ledger(PRICE, SIZES, [{"shard": 0, "spent": spent(100.0)}])
    monkeypatch.setattr(cost.time, "monotonic", lambda: ledger.since + 20.0)
    assert ledger.cost() == pytest.approx(1.0)  # 100 s x 0.01
    assert ledger.estimate() == pytest.approx(4.0)  # 0.1 a pair, 40 pairs
    ledger.add(1, spent(50.0))
    assert ledger.rate() == pytest.approx(10 / 20)  # shard 0 was scored by an earlier run
    assert ledger.progress(20) == "0.5 pairs/s, 40 s left, 1.5 of about 3 EUR"
    assert ledger.metrics() == pytest.approx(
        {"tokens": 600, "padding_share": 0.25, "device_seconds": 150, "cost": 1.5, "cost_per_million_pairs": 75_000}
    )
    free = Ledger(ScorePairsConfig(), SIZES, [])
    assert (free.progress(0), set(free.metrics())) == ("0.0 pairs/s, 0 s left", {"tokens", "padding_share", "device_seconds"})


@pytest.mark.parametrize(
    ("budget", "share", "begun"),
    [
        (4.0, 1.0, [1, 2]),  # 1 is spent, 10 and 20 more pairs cost 1 and 2
        (3.9, 1.0, [1]),
        (1.9, 1.0, []),
        (5.0, 0.5, [1]),  # half of the 4 that are left: 2
        (0.0, 1.0, [1, 2]),
    ],
)
def test_what_is_under_way_counts_against_the_budget(budget, share, begun):
    config = PRICE.model_copy(update={"budget": budget})
    ledger = Ledger(config, SIZES, [{"shard": 0, "spent": spent(100.0)}], share)
    assert list(ledger.affordable([1, 2])) == begun
    assert ledger.stopped == (begun != [1, 2])


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_spent_budget_stops_between_shards_and_more_of_it_goes_on(shop, model_folders, tmp_path, num_workers, capsys, caplog):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}
    out = str(tmp_path / "out")
    settings = {"num_threads": 1, "num_workers": num_workers, "device_hour_price": 3600, "budget": 1e-9}
    flags = [part for name, value in {**given, **settings, "scores": out}.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert cli.main(run, ScorePairsConfig, "scoring", flags) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: key 'budget' = 1e-09 EUR is used up: {num_workers} of 3 shards are committed for ")
    assert message.endswith("; raise it and run again: it goes on where it was\n")
    assert cli.main(run, ScorePairsConfig, "scoring", flags) == 2  # nothing more is begun
    assert len(list((tmp_path / "out" / "commits").iterdir())) == num_workers
    assert not tables.is_committed(out)
    with caplog.at_level(logging.INFO, logger="components.score_pairs"):
        report = run(ScorePairsConfig(**{**settings, "budget": 1e9}), **given, scores=out, tracker=NullTracker())
    assert report.metrics["shards_reused"] == num_workers
    assert report.metrics["cost"] == pytest.approx(report.metrics["device_seconds"])  # of both runs
    assert sum("pairs/s" in line and "of about" in line and "EUR" in line for line in caplog.messages) == 3 - num_workers
    run(PRICE, **given, scores=str(tmp_path / "undisturbed"), tracker=NullTracker())
    assert tables.Manifest.read(out).digest == tables.Manifest.read(str(tmp_path / "undisturbed")).digest


def test_nothing_is_loaded_when_nothing_is_affordable(shop, model_folders, tmp_path, monkeypatch):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}
    out, tight = str(tmp_path / "out"), PRICE.model_copy(update={"budget": 1e-9})
    with pytest.raises(InputError, match="1 of 3 shards are committed"):
        run(tight, **given, scores=out, tracker=NullTracker())
    monkeypatch.setattr(workers, "ShardScorer", None)
    with pytest.raises(InputError, match="1 of 3 shards are committed"):
        run(tight, **given, scores=out, tracker=NullTracker())


def test_price_budget_and_workers_do_not_begin_a_new_table():
    plain = ScorePairsConfig()
    assert plain.shaping() == ScorePairsConfig(device_hour_price=2, currency="USD", budget=9, num_workers=4).shaping()
    assert plain.shaping() != ScorePairsConfig(precision="bf16").shaping()


def test_a_budget_without_a_price_is_refused():
    with pytest.raises(ValidationError, match="key 'budget' = 5 needs 'device_hour_price'"):
        ScorePairsConfig(budget=5)


def test_what_a_shard_cost_is_no_part_of_the_table(tmp_path):
    rows = pa.table({"query_id": ["q"], "item_id": ["i"], "score": [0.5], "rank": pa.array([1], pa.int32()), "system": ["s"]})
    digests = set()
    for seconds in (1.0, 2.0):
        plan = shards.open_plan(str(tmp_path / str(seconds)), "rankings", 1, {})
        shards.commit(plan, 0, rows, spent(seconds))
        assert [one["spent"] for one in shards.commits(plan)] == [spent(seconds)]
        digests.add(shards.finish(plan).digest)
    assert len(digests) == 1
