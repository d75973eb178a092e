"""A user's own file through reader and command line: TREC run, what is made up, which mistakes are named, kill and resume."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.own_pairs import read_own_pairs
from components.score_pairs.step import run
from components.score_pairs.trec import write_trec_run
from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.scoring import Scorer
from components.shared.tracking import NullTracker

CSV = "query,title,brand,price\nRed  Shoes,red running shoes,Acme,9\nred shoes,blue kettle,,1\nkettle,blue kettle,,1\n"
TREC = ScorePairsConfig(output="trec", system="mine", num_threads=1)


def test_csv_rows_become_our_tables(tmp_path):
    (tmp_path / "my.csv").write_text(CSV)
    own = read_own_pairs(str(tmp_path / "my.csv"))
    red, kettle = ("q" + hashlib.sha256(query).hexdigest()[:16] for query in (b"red shoes", b"kettle"))
    assert own.pairs["query_id"].to_pylist() == [red, red, kettle]  # two spellings, one query
    assert own.pairs["item_id"].to_pylist() == ["row1", "row2", "row3"]
    assert own.queries.select(["query_id", "query_text", "query"]).to_pylist() == [
        {"query_id": red, "query_text": "Red  Shoes", "query": "red shoes"},
        {"query_id": kettle, "query_text": "kettle", "query": "kettle"},
    ]
    assert own.items["title"].to_pylist() == ["red running shoes", "blue kettle", "blue kettle"]
    assert own.items["brand"].to_pylist() == ["Acme", "", ""]


def test_ids_are_kept_as_written_in_every_format(tmp_path):
    (tmp_path / "my.csv").write_text('query_id,item_id,query_text,title\n007,01,kettle,"a\nb"\n007,02,kettle,c\n')
    rows = {"query_id": ["007", "007"], "item_id": ["01", "02"], "query_text": ["kettle"] * 2, "title": ["a\nb", "c"]}
    pq.write_table(pa.table(rows), str(tmp_path / "my.parquet"))
    lines = [
        '{"query_id":"007","item_id":"01","query_text":"kettle","title":"a\\nb"}',
        '{"query_id":"007","item_id":"02","query_text":"kettle","title":"c"}',
    ]
    (tmp_path / "my.ndjson").write_text("\n".join(lines))
    read = [read_own_pairs(str(tmp_path / name)) for name in ("my.csv", "my.parquet", "my.ndjson")]
    assert read[0].pairs["item_id"].to_pylist() == ["01", "02"]
    assert read[0].queries["query_id"].to_pylist() == ["007"]
    for other in read[1:]:
        assert other.pairs.equals(read[0].pairs)
        assert other.items.select(["item_id", "title"]).equals(read[0].items.select(["item_id", "title"]))


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder", "graph"])
def test_students_score_a_file_without_neighbors(model_folders, tmp_path, kind):
    (tmp_path / "my.csv").write_text(CSV)
    run(TREC, pairs=str(tmp_path / "my.csv"), model=model_folders[kind], scores=str(tmp_path / "out.run"), tracker=NullTracker())
    found = {(line.split()[0], line.split()[2]): float(line.split()[4]) for line in (tmp_path / "out.run").read_text().splitlines()}
    red, kettle = ("q" + hashlib.sha256(query).hexdigest()[:16] for query in (b"red shoes", b"kettle"))
    assert set(found) == {(red, "row1"), (red, "row2"), (kettle, "row3")}
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"title\na\n", "no column 'query'; it has title"),
        ("x.csv", b"query,name\na,b\n", "no column 'title'; it has query, name"),
        ("x.csv", b"query,title\na,b\na, \n", "column 'title' is empty in row 2"),
        ("x.csv", b"query,title,item_id\na,b,1\na,b,1\n", "same .query, item. stands in several rows"),
        ("x.csv", b"query,title,item_id\na,b,1\nc,d,1\n", "item_id '1' has rows with different title, brand"),
        ("x.csv", b"query,title,query_id\na,b,1\nc,d,1\n", "query_id '1' has rows with different query"),
        ("x.csv", b"query,title\na,\xff\xfe\n", "is not readable"),
        ("x.csv", b"", "is not readable"),
        ("x.ndjson", b'{"query": "a\\ud800", "title": "b"}', "is not readable"),
        ("x.ndjson", b'{"query": "a", "title": ["b"]}', "column 'title' is list"),
        ("x.parquet", b"PAR1", "is not readable"),
        ("x.txt", b"a", "give a file that ends in .parquet"),
    ],
)
def test_mistakes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_own_pairs(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        read_own_pairs(str(tmp_path / "absent.csv"))


def test_column_query_wins_over_query_text(tmp_path):
    (tmp_path / "my.csv").write_text("query_text,query,title\nold words,New  Words,a\n")
    assert read_own_pairs(str(tmp_path / "my.csv")).queries.select(["query_text", "query"]).to_pylist() == [
        {"query_text": "New  Words", "query": "new words"}
    ]


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=80) | st.text('query,title\n"\r \u200b😀|', max_size=60).map(lambda one: ("query,title\n" + one).encode())
)
def test_no_bytes_crash_the_reader(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzz.csv"
    file.write_bytes(content)
    try:
        own = read_own_pairs(str(file))
    except InputError:
        return
    assert len(own.pairs) == len(own.items)


def test_trec_run_by_hand(tmp_path):
    ranks = pa.array([2, 1, 1], pa.int32())
    rows = {"query_id": ["b", "b", "a"], "item_id": ["x", "y", "x"], "score": [0.25, 0.5, -1.0], "rank": ranks, "system": ["s"] * 3}
    write_trec_run(str(tmp_path / "out.run"), pa.table(rows))
    assert (tmp_path / "out.run").read_text() == "a Q0 x 1 -1 s\nb Q0 y 1 0.5 s\nb Q0 x 2 0.25 s\n"


def test_own_file_to_trec_run(model_folders, tmp_path):
    (tmp_path / "my.csv").write_text(CSV)
    given = {"pairs": str(tmp_path / "my.csv"), "model": model_folders["cross_encoder"], "scores": str(tmp_path / "out.run")}
    report = run(TREC, **given, tracker=NullTracker())
    lines = [line.split(" ") for line in (tmp_path / "out.run").read_text().splitlines()]
    assert [len(line) for line in lines] == [6, 6, 6]
    assert {(line[2], line[3]) for line in lines if line[0].endswith(lines[0][0][-4:])} <= {
        ("row1", "1"),
        ("row2", "2"),
        ("row2", "1"),
        ("row1", "2"),
        ("row3", "1"),
    }
    assert report.kept == 3
    assert report.notes["query 'kettle'"].startswith("1. blue kettle (")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["my.csv", "out.run"]  # no working folder is left
    run(TREC, **given, tracker=NullTracker())  # again: the run file is replaced by an equal one
    assert [line.split(" ") for line in (tmp_path / "out.run").read_text().splitlines()] == lines
    for name in ("item_id", "query_id"):
        (tmp_path / "my.csv").write_text(f"query,title,{name}\na,b,i 1\n")
        with pytest.raises(InputError, match=f"{name} 'i 1' has white space"):
            run(TREC, **given, tracker=NullTracker())


def test_a_teacher_judges_an_own_file_without_neighbors(model_folders, tmp_path):
    (tmp_path / "my.csv").write_text("query,title\nred shoes,red running shoes\n")
    given = {"pairs": str(tmp_path / "my.csv"), "model": model_folders["with_neighbors"], "scores": str(tmp_path / "out")}
    run(ScorePairsConfig(output="rankings", num_threads=1), **given, tracker=NullTracker())
    score = tables.read_table(str(tmp_path / "out"), "rankings")["score"].to_pylist()
    scorer = Scorer(model_folders["with_neighbors"])
    assert score == pytest.approx(scorer.scores(["query: red shoes"], ["title: red running shoes"]).tolist(), abs=1e-6)


def test_the_best_five_items_of_the_first_three_queries_are_noted(model_folders, tmp_path):
    titles = [f"{word} kettle {'x' * 60}" for word in ("red", "blue", "green", "garden", "running", "hose")]
    rows = [f"red shoes,{title}\n" for title in titles] + ["kettle,a\n", "hose,a\n", "garden,a\n"]
    (tmp_path / "my.csv").write_text("query,title\n" + "".join(rows))
    given = {"pairs": str(tmp_path / "my.csv"), "model": model_folders["cross_encoder"], "scores": str(tmp_path / "out")}
    report = run(ScorePairsConfig(output="rankings", num_threads=1), **given, tracker=NullTracker())
    assert [name for name in report.notes if name.startswith("query ")] == ["query 'red shoes'", "query 'kettle'", "query 'hose'"]
    rankings = tables.read_table(str(tmp_path / "out"), "rankings").to_pylist()
    best = sorted((row for row in rankings if row["item_id"] <= "row6"), key=lambda row: row["rank"])[:5]
    shown = [f"{row['rank']}. {titles[int(row['item_id'][3:]) - 1][:60]} ({row['score']:.4f})" for row in best]
    assert report.notes["query 'red shoes'"] == "; ".join(shown)


def cli(*flags: str, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "components.score_pairs", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}, **settings)


def test_command_line_writes_the_same_run(model_folders, tmp_path):
    (tmp_path / "my.csv").write_text(CSV)
    same = {"pairs": str(tmp_path / "my.csv"), "model": model_folders["bi_encoder"]}
    run(TREC, **same, scores=str(tmp_path / "in_process.run"), tracker=NullTracker())
    done = cli("--pairs", "my.csv", "--model", same["model"], "--output", "trec", "--system", "mine", "--scores", "out.run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.run").read_bytes() == (tmp_path / "in_process.run").read_bytes()
    assert "scores: out.run" in done.stdout
    assert "query 'red shoes': 1. " in done.stdout


def test_command_line_names_the_mistake(tmp_path):
    (tmp_path / "my.csv").write_text("query,name\na,b\n")
    done = cli("--pairs", "my.csv", "--model", "m", "--output", "trec", "--scores", "out.run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: pairs 'my.csv' has no column 'title'; it has query, name; rename one of them\n"


def test_killed_command_goes_on(shop, model_folders, tmp_path):
    flags = ["--pairs", shop.judgments, "--queries", shop.queries, "--items", shop.items, "--model", model_folders["cross_encoder"]]
    flags += ["--output", "rankings", "--splits", "[train, dev, test]", "--num-shards", "300", "--num-threads", "1"]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "components.score_pairs", *flags, "--scores", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((out / "commits").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    committed = {one.name: one.read_bytes() for one in (out / "commits").glob("*.json")}
    assert 0 < len(committed) < 300
    assert not tables.is_committed(str(out))
    config = ScorePairsConfig(output="rankings", splits=["train", "dev", "test"], num_shards=300, num_threads=1)
    places = {"pairs": shop.judgments, "queries": shop.queries, "items": shop.items, "model": model_folders["cross_encoder"]}
    report = run(config, **places, scores=str(out), tracker=NullTracker())
    assert report.metrics["shards_reused"] == len(committed)
    for name, entry in committed.items():
        assert (out / "commits" / name).read_bytes() == entry  # not scored again
    assert tables.read_table(str(out), "rankings").num_rows == 20
