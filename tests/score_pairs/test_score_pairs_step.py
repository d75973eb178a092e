"""The step over files: what each kind of model writes, what is refused, what a second run does."""

import hashlib
import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from encoder_folders import make_model

from components.score_pairs import workers
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.shard_scorer import ranking_rows
from components.score_pairs.step import run
from components.score_pairs.work import shard_by_query
from components.shared import cli, shards, storage, tables
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.folder import KINDS
from components.shared.models.scoring import Scorer
from components.shared.tracking import NullTracker, SpoolTracker

TRACKER = NullTracker()
TARGETS = ScorePairsConfig(num_threads=1)
RANKINGS = ScorePairsConfig(output="rankings", system="s", num_threads=1, num_shards=3)


def test_teacher_writes_probabilities_gain_and_digests(shop, model_folders, tmp_path):
    spool = SpoolTracker(tmp_path / "spool.jsonl", "scoring")
    out = str(tmp_path / "out")
    report = run(
        TARGETS, pairs=shop.pairs, queries=shop.queries, items=shop.items, model=model_folders["teacher"], scores=out, tracker=spool
    )
    rows = tables.read_table(out, "soft_targets")
    scorer = Scorer(model_folders["teacher"])
    expected = scorer.probabilities(["query: red shoes"], ["title: blue kettle"])[0]
    row = rows.filter(pc.equal(rows["pair_id"], "p01")).to_pylist()[0]  # q1, i2
    assert row["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert row["score"] == pytest.approx(0.0 * expected[0] + 0.1 * expected[1] + 1.0 * expected[2], abs=1e-6)
    assert row["text_digest"] == hashlib.sha256(b"query: red shoes\x1ftitle: blue kettle").hexdigest()[:16]
    assert row["model_digest"] == scorer.digest == storage.content_digest(model_folders["teacher"])
    # shard 0 holds q1 and q4, shard 1 q2, shard 2 q3; inside a shard by query, then pair
    assert rows["query_id"].to_pylist() == ["q1"] * 5 + ["q4"] * 5 + ["q2"] * 5 + ["q3"] * 5
    assert rows["pair_id"].to_pylist()[:10] == [f"p{place:02d}" for place in (0, 1, 2, 3, 4, 15, 16, 17, 18, 19)]
    assert (report.read, report.kept, report.metrics["shards"], report.metrics["shards_reused"]) == (20, 20, 3, 0)
    seen = {line["name"]: line for line in map(json.loads, spool.file.read_text().splitlines()) if line["kind"] == "dataset"}
    assert seen["scores"]["rows"] == 20
    assert seen["scores"]["digest"] == tables.Manifest.read(out).digest


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_ranks_judged_pairs_of_the_wanted_splits(shop, model_folders, tmp_path, kind):
    out = str(tmp_path / "out")
    given = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "model": model_folders[kind]}
    report = run(RANKINGS, **given, scores=out, tracker=TRACKER)
    rows = tables.read_table(out, "rankings")
    assert set(rows["query_id"].to_pylist()) == {"q2", "q3", "q4"}  # q1 is train
    assert (report.read, report.kept, report.dropped) == (20, 15, {"other_split": 5})
    for query in ("q2", "q3", "q4"):
        own = rows.filter(pc.equal(rows["query_id"], query))
        assert own["rank"].to_pylist() == [1, 2, 3, 4, 5]
        assert own["score"].to_pylist() == sorted(own["score"].to_pylist(), reverse=True)
    left, right = ("query: kettle", "title: blue kettle") if kind == "teacher" else ("kettle", "blue kettle")
    one = rows.filter(pc.and_(pc.equal(rows["query_id"], "q2"), pc.equal(rows["item_id"], "i2")))["score"][0].as_py()
    assert one == pytest.approx(float(Scorer(model_folders[kind]).scores([left], [right])[0]), abs=1e-5)
    assert set(rows["system"].to_pylist()) == {"s"}


def test_a_student_whose_score_is_a_logit_gives_soft_targets_of_two_grades(shop, model_folders, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["cross_encoder"]}
    run(TARGETS, **given, scores=str(tmp_path / "out"), tracker=TRACKER)
    rows = tables.read_table(str(tmp_path / "out"), "soft_targets")
    logit = float(Scorer(model_folders["cross_encoder"]).scores(["red shoes"], ["blue kettle"])[0])
    row = rows.filter(pc.equal(rows["pair_id"], "p01")).to_pylist()[0]  # q1, i2
    assert row["score"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
    assert row["probabilities"] == pytest.approx([1 - row["score"], row["score"]], abs=1e-6)


@pytest.mark.parametrize("imitated", [{"temperature": 2.0}, {"target": "probability", "temperature": 0.5}])
def test_soft_targets_of_a_student_say_what_its_score_imitates(shop, model_folders, tmp_path, imitated):
    model = str(shutil.copytree(model_folders["cross_encoder"], tmp_path / "model"))
    folder.write_spec(model, replace(folder.read_spec(Path(model)), **imitated))
    run(TARGETS, pairs=shop.pairs, queries=shop.queries, items=shop.items, model=model, scores=str(tmp_path / "out"), tracker=TRACKER)
    rows = tables.read_table(str(tmp_path / "out"), "soft_targets")
    score = float(Scorer(model).scores(["red shoes"], ["blue kettle"])[0])
    row = rows.filter(pc.equal(rows["pair_id"], "p01")).to_pylist()[0]
    gain = min(max(0.5 * score, 0.0), 1.0) if "target" in imitated else 1 / (1 + math.exp(-2.0 * score))
    assert row["score"] == pytest.approx(gain, abs=1e-6)
    assert row["probabilities"] == pytest.approx([1 - gain, gain], abs=1e-6)


def test_neighbors_reach_the_teacher(shop, model_folders, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["with_neighbors"]}
    with pytest.raises(InputError, match="--neighbors"):
        run(TARGETS, **given, scores=str(tmp_path / "a"), tracker=TRACKER)
    run(TARGETS, **given, neighbors=shop.neighbors, scores=str(tmp_path / "b"), tracker=TRACKER)
    rows = tables.read_table(str(tmp_path / "b"), "soft_targets")
    row = rows.filter(pc.equal(rows["pair_id"], "p00")).to_pylist()[0]  # q1 `red shoes`, i1: i4 was accepted by the query
    left, right = "query: red shoes | shoppers accepted: blue sneakers", "title: red running shoes"
    assert row["text_digest"] == hashlib.sha256(f"{left}\x1f{right}".encode()).hexdigest()[:16]
    own = rows.filter(pc.equal(rows["pair_id"], "p03")).to_pylist()[0]  # q1, i4: the pair itself is not shown to the teacher
    assert own["text_digest"] == hashlib.sha256(b"query: red shoes\x1ftitle: blue sneakers").hexdigest()[:16]


def test_broken_model_makes_no_label(shop, model_folders, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["broken"]}
    with pytest.raises(InputError, match=r"nan, first pair 'p00' \(query 'q1', item 'i1'\)"):
        run(RANKINGS, **given, scores=str(tmp_path / "out"), tracker=TRACKER)
    assert not tables.is_committed(str(tmp_path / "out"))


def test_broken_teacher_makes_no_label(shop, tmp_path):
    model = make_model(str(tmp_path / "teacher"), "teacher", broken=True)
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model}
    with pytest.raises(InputError) as caught:
        run(TARGETS, **given, scores=str(tmp_path / "out"), tracker=TRACKER)
    assert str(caught.value) == (
        f"model '{model}' scores 10 pairs of shard 0 as nan, first pair 'p00' (query 'q1', item 'i1'); the model is broken: train it again"
    )
    assert not tables.is_committed(str(tmp_path / "out"))


def test_rankings_by_hand():
    # best score first, equal scores by item_id, ranks from 1 in each query, queries by id
    columns = {"query_id": ["b", "b", "a", "b"], "item_id": ["i3", "i2", "i9", "i1"]}
    rows = ranking_rows(pa.table(columns), np.array([0.5, 0.9, -1.0, 0.5]), "s")
    assert [(row["query_id"], row["item_id"], row["rank"]) for row in rows.to_pylist()] == [
        ("a", "i9", 1), ("b", "i2", 1), ("b", "i1", 2), ("b", "i3", 3)
    ]  # fmt: skip


def test_shards_by_crc_of_the_query():
    # published check value: CRC-32 of "123456789" is 0xCBF43926 = 3,421,780,262; of "a" 0xE8B7BE43 = 3,904,355,907
    assert shard_by_query(pa.chunked_array([["123456789", "a"], ["123456789"]]), 1000).to_pylist() == [262, 907, 262]
    assert shard_by_query(pa.chunked_array([[]], pa.string()), 4).to_pylist() == []


def test_run_goes_on_after_the_last_commit(shop, model_folders, tmp_path, monkeypatch):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}
    real, calls = shards.commit, []

    def dies_at_second(plan, shard, rows, spent):
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(plan, shard, rows, spent)

    monkeypatch.setattr(workers.shards, "commit", dies_at_second)
    out = str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(TARGETS, **given, scores=out, tracker=TRACKER)
    with pytest.raises(InputError, match="not a committed table"):
        tables.read_table(out, "soft_targets")
    report = run(TARGETS, **given, scores=out, tracker=TRACKER)
    assert calls == [0, 1, 1, 2]  # only the shard in flight was scored again
    assert report.metrics["shards_reused"] == 1
    undisturbed = str(tmp_path / "undisturbed")
    run(TARGETS, **given, scores=undisturbed, tracker=TRACKER)
    assert tables.Manifest.read(out).digest == tables.Manifest.read(undisturbed).digest
    calls.clear()
    assert run(TARGETS, **given, scores=out, tracker=TRACKER).metrics["shards_reused"] == 3
    assert calls == []


def test_other_model_may_not_finish_the_table(shop, model_folders, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "scores": str(tmp_path / "out")}
    run(TARGETS, **given, model=model_folders["teacher"], tracker=TRACKER)
    other = make_model(str(tmp_path / "other"), "teacher", seed=8)
    with pytest.raises(InputError, match="was begun with model"):
        run(TARGETS, **given, model=other, tracker=TRACKER)


def test_other_settings_or_neighbors_may_not_finish_the_table(shop, model_folders, tmp_path):
    given = {"queries": shop.queries, "items": shop.items, "scores": str(tmp_path / "out")}
    ranked = {**given, "pairs": shop.judgments, "model": model_folders["bi_encoder"]}
    run(RANKINGS, **ranked, tracker=TRACKER)
    assert run(RANKINGS.model_copy(update={"splits": ["test", "dev"]}), **ranked, tracker=TRACKER).metrics["shards_reused"] == 3
    for change, settings in (({"system": "t"}, "t, fp32, splits dev, test"), ({"precision": "bf16"}, "s, bf16, splits dev, test")):
        with pytest.raises(InputError, match=f"was begun with settings = 's, fp32, splits dev, test', now it is '{settings}'"):
            run(RANKINGS.model_copy(update=change), **ranked, tracker=TRACKER)
    labelled = {**given, "pairs": shop.pairs, "model": model_folders["with_neighbors"], "scores": str(tmp_path / "labels")}
    run(TARGETS, **labelled, neighbors=shop.neighbors, tracker=TRACKER)
    tables.write_table(str(tmp_path / "fewer"), "neighbors", tables.read_table(shop.neighbors, "neighbors").slice(1))
    with pytest.raises(InputError, match="was begun with neighbors"):
        run(TARGETS, **labelled, neighbors=str(tmp_path / "fewer"), tracker=TRACKER)


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.nightly)])
def test_several_processes_write_the_same_table(shop, model_folders, tmp_path, caplog, num_workers):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["bi_encoder"]}
    with caplog.at_level(logging.INFO, logger="components.score_pairs"):
        run(RANKINGS.model_copy(update={"num_workers": num_workers}), **given, scores=str(tmp_path / "several"), tracker=TRACKER)
    run(RANKINGS, **given, scores=str(tmp_path / "one"), tracker=TRACKER)
    assert tables.Manifest.read(str(tmp_path / "one")).digest == tables.Manifest.read(str(tmp_path / "several")).digest
    assert sum("committed" in line and "pairs/s" in line for line in caplog.messages) == 3


@pytest.mark.nightly
def test_processes_report_a_broken_model(shop, model_folders, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["broken"]}
    with pytest.raises(InputError, match="the model is broken"):
        run(RANKINGS.model_copy(update={"num_workers": 2}), **given, scores=str(tmp_path / "out"), tracker=TRACKER)


def test_no_champion_yet(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("components.score_pairs.step.resolve", lambda address: "" if address.startswith("models:/") else address)
    given = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "scores": str(tmp_path / "out")}
    champion = RANKINGS.model_copy(update={"model": "models:/shop@champion"})
    for asked in ({"config": champion}, {"config": RANKINGS, "model": "models:/shop@champion"}):
        with pytest.raises(InputError, match=r"'models:/shop@champion' is not registered; .* missing_model"):
            run(**asked, **given, tracker=TRACKER)
    report = run(champion.model_copy(update={"missing_model": "empty"}), **given, tracker=TRACKER)
    assert tables.read_table(str(tmp_path / "out"), "rankings").num_rows == 0
    assert "models:/shop@champion" in report.notes["model"]


def test_a_champion_that_can_be_read_no_more_does_not_stop_the_night(shop, tmp_path, model_folders, monkeypatch, caplog):
    old = tmp_path / "old"
    shutil.copytree(model_folders["cross_encoder"], old)
    spec = json.loads((old / "relevance.json").read_text())
    (old / "relevance.json").write_text(json.dumps({**spec, "text_version": "0"}))
    monkeypatch.setattr("components.score_pairs.step.resolve", lambda address: address and str(old))
    given = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "scores": str(tmp_path / "out")}
    champion = RANKINGS.model_copy(update={"model": "models:/shop@champion"})
    with pytest.raises(InputError, match="texts of version 0"):
        run(champion, **given, tracker=TRACKER)
    report = run(champion.model_copy(update={"missing_model": "empty"}), **given, tracker=TRACKER)
    assert tables.read_table(str(tmp_path / "out"), "rankings").num_rows == 0
    assert "'models:/shop@champion' cannot be read" in report.notes["model"]
    assert "texts of version 0" in caplog.text


def test_without_a_model_a_run_file_is_empty_and_the_pairs_are_counted(shop, tmp_path):
    given = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "scores": str(tmp_path / "out.run")}
    report = run(ScorePairsConfig(output="trec", missing_model="empty"), **given, tracker=TRACKER)
    assert (tmp_path / "out.run").read_bytes() == b""
    assert (report.read, report.kept, report.dropped) == (20, 0, {"other_split": 5, "no_model": 15})


def test_tables_as_single_files(shop, model_folders, tmp_path):
    given = {"queries": shop.queries, "items": shop.items, "model": model_folders["bi_encoder"]}
    for name, uri, kept in (("pairs", shop.pairs, 20), ("judgments", shop.judgments, 15)):
        pq.write_table(tables.read_table(uri, name), str(tmp_path / f"{name}.parquet"))
        report = run(RANKINGS, **given, pairs=str(tmp_path / f"{name}.parquet"), scores=str(tmp_path / f"{name}.out"), tracker=TRACKER)
        assert (report.read, report.kept) == (20, kept)
    (tmp_path / "my.csv").write_text("query_id,item_id\nq1,i1\n")
    with pytest.raises(InputError, match=r"my\.csv' with --queries and --items must be a table folder or \.parquet; a file of your own"):
        run(RANKINGS, **given, pairs=str(tmp_path / "my.csv"), scores=str(tmp_path / "out"), tracker=TRACKER)


def test_no_judgment_of_the_wanted_splits(shop, model_folders, tmp_path):
    judgments = tables.read_table(shop.judgments, "judgments")
    tables.write_table(str(tmp_path / "held"), "judgments", judgments.filter(pc.not_equal(judgments["split"], "train")))
    given = {"pairs": str(tmp_path / "held"), "queries": shop.queries, "items": shop.items, "model": model_folders["bi_encoder"]}
    with pytest.raises(InputError, match="held' has no judgments of splits train; set `splits` or judge some queries of them"):
        run(RANKINGS.model_copy(update={"splits": ["train"]}), **given, scores=str(tmp_path / "out"), tracker=TRACKER)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("pickle", "model folder '{model}' has no *.safetensors (pytorch_model.bin); save it with safetensors"),
        ("bare", "model folder '{model}' has no *.safetensors (no weights); save it with safetensors"),
        ("code", "'{model}/config.json' asks for remote code (auto_map), which is refused; use a model that transformers knows itself"),
        ("absent", "model 'file://{model}' does not exist; give a model folder, or models:/<name>@champion"),
    ],
)
def test_models_that_are_not_safe_end_with_2_one_line_and_no_shard(shop, model_folders, tmp_path, capsys, spoil, message):
    model = tmp_path / "model"
    if spoil != "absent":
        shutil.copytree(model_folders["teacher"], model)
    if spoil == "code":
        settings = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoModel": "modeling.Evil"}}))
    elif spoil in ("pickle", "bare"):
        (model / "model.safetensors").unlink()
    if spoil == "pickle":
        (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    flags = ["--pairs", shop.pairs, "--queries", shop.queries, "--items", shop.items, "--model", str(model)]
    assert cli.main(run, ScorePairsConfig, "scoring", [*flags, "--scores", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {message.format(model=model)}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": ""}, "'items' is not given"),
        ({"pairs": "{queries}"}, "is a table 'queries'"),
        ({"pairs": "{nowhere}"}, "not a committed table"),
        ({"model": "{nowhere}"}, "does not exist"),
        ({"model": "{bi_encoder}"}, "soft targets come from a teacher, cross_encoder, graph"),
        ({"model": ""}, "none is given"),
    ],
)
def test_refused_before_any_scoring(shop, model_folders, tmp_path, change, message):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}
    known = {**vars(shop), **model_folders, "nowhere": str(tmp_path / "nowhere")}
    given |= {name: value.format(**known) for name, value in change.items()}
    with pytest.raises(InputError, match=message):
        run(TARGETS, **given, scores=str(tmp_path / "out"), tracker=TRACKER)
    assert not (tmp_path / "out").exists()


def test_pairs_that_cannot_be_scored_are_named(shop, model_folders, tmp_path):
    given = {"queries": shop.queries, "items": shop.items, "model": model_folders["bi_encoder"], "scores": str(tmp_path / "out")}

    def pairs(name: str, rows: list[tuple[str, str, str, int]]) -> str:
        columns = dict(zip(("pair_id", "query_id", "item_id", "shard"), map(list, zip(*rows, strict=True)), strict=True))
        columns["shard"] = pa.array(columns["shard"], pa.int32())
        tables.write_table(str(tmp_path / name), "pairs", pa.table({**columns, "source": ["random"] * len(rows)}))
        return str(tmp_path / name)

    for name, rows, message in [
        ("unknown", [("a", "q1", "i9", 0)], "'item_id' that is not in table 'items', first 'i9'"),
        ("cut", [("a", "q1", "i1", 0), ("b", "q1", "i2", 1)], "query 'q1' is cut over several shards"),
        ("twice", [("a", "q2", "i1", 0), ("b", "q2", "i1", 0)], "query 'q2' has the same item"),
        ("negative", [("a", "q1", "i1", -1)], "'shard' has -1"),
    ]:
        with pytest.raises(InputError, match=message):
            run(RANKINGS, pairs=pairs(name, rows), **given, tracker=TRACKER)


def test_precision_moves_scores_little(shop, model_folders, tmp_path):
    given = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "model": model_folders["bi_encoder"]}
    run(RANKINGS, **given, scores=str(tmp_path / "fp32"), tracker=TRACKER)
    run(RANKINGS.model_copy(update={"precision": "bf16"}), **given, scores=str(tmp_path / "bf16"), tracker=TRACKER)
    both = [
        tables.read_table(str(tmp_path / name), "rankings").sort_by([("query_id", "ascending"), ("item_id", "ascending")])
        for name in ("fp32", "bf16")
    ]
    moved = np.abs(both[0]["score"].to_numpy() - both[1]["score"].to_numpy())
    assert 0 < moved.max() < 0.05
