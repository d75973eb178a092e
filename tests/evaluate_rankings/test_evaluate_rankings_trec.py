"""TREC files: hand values, bad lines, and the command line for a user's own files."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate_rankings import trec
from components.shared import storage
from components.shared.card import DatasetCard
from components.shared.errors import InputError

QRELS = "q1 0 a 2\nq1 0 b 1\nq1 0 c 0\nq2\t0\td\t-1\nq2 0 e 2\n"
RUN = "q1 Q0 c 1 3.0 mine\nq1 Q0 a 2 2.5 mine\nq1 Q0 b 3 -1e3 mine\n\nq2 Q0 e 1 7 mine\n"


def write(folder, name, content):
    (folder / name).write_text(content)
    return str(folder / name)


def test_qrels_become_judgments(tmp_path):
    rows = trec.read_qrels(write(tmp_path, "x.qrels", QRELS)).to_pylist()
    assert [(r["query_id"], r["item_id"], r["grade"], r["gain"]) for r in rows] == [
        ("q1", "a", 2, 1.0), ("q1", "b", 1, 0.5), ("q1", "c", 0, 0.0), ("q2", "d", 0, 0.0), ("q2", "e", 2, 1.0),
    ]  # fmt: skip
    assert {r["split"] for r in rows} == {"test"}


def test_a_card_gives_the_gains(tmp_path):
    uri = write(tmp_path, "x.qrels", QRELS)
    assert trec.read_qrels(uri, [0.0, 0.1, 1.0])["gain"].to_pylist() == [1.0, 0.1, 0.0, 0.0, 1.0]
    with pytest.raises(InputError, match="grade 2 has no gain"):
        trec.read_qrels(uri, [0.0, 1.0])


def test_a_run_becomes_rankings_under_its_tag(tmp_path):
    rows = trec.read_run(write(tmp_path, "a.run", RUN)).to_pylist()
    assert [(r["query_id"], r["item_id"], r["score"], r["rank"], r["system"]) for r in rows][2] == ("q1", "b", -1000.0, 3, "mine")
    mixed = RUN.replace("7 mine", "7 other")
    assert set(trec.read_run(write(tmp_path, "night.run", mixed))["system"].to_pylist()) == {"night"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("q1 Q0 a 1 2.0\n", "line 1"),
        (RUN + "q3 Q0 a 1 high mine\n", "field 'score'"),
        (RUN + "q1 Q0 a 4 1.0 mine\n", "repeated keys"),
        (RUN + "q3 Q0 a first 1.0 mine\n", "field 'rank'"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        trec.read_run(write(tmp_path, "a.run", content))
    assert "a.run" in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.run").write_bytes(b"q1 Q0 \xff 1 2 x\n")
    with pytest.raises(InputError, match="UTF-8"):
        trec.read_run(str(tmp_path / "a.run"))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("q01.- \t\n\r\x0bé\u2028\x00nanif"), max_size=80))
def test_any_text_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("fuzz") / "x.run"
    file.write_text(content, newline="")
    for read in (trec.read_run, trec.read_qrels):
        try:
            num_rows = read(str(file)).num_rows
        except InputError:
            continue
        assert num_rows > 0


def command(*arguments):
    line = [sys.executable, "-m", "components.evaluate_rankings", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_evaluates_a_users_files(tmp_path):
    qrels, run = write(tmp_path, "x.qrels", QRELS), write(tmp_path, "a.run", RUN)
    done = command("--judgments", qrels, "--rankings", run, "--evaluation", str(tmp_path / "out"), "--num-resamples", "100")
    assert done.returncode == 0, done.stderr
    result = storage.read_json(str(tmp_path / "out" / "metrics.json"))
    # q1 ranked c, a, b: gains 0, 1, .5 -> (1/log2 3 + .5/2) / (1 + .5/log2 3) = 0.88093 / 1.31546 = 0.66967; q2: only e, 1
    assert result["systems"]["mine"]["ndcg@10"]["mean"] == pytest.approx((0.66967 + 1) / 2, abs=1e-5)
    # q1: pairs ab won, ac lost, bc lost; q2: d is not in the run, so e beats it
    assert result["systems"]["mine"]["pairwise_accuracy"]["mean"] == pytest.approx((1 / 3 + 1) / 2)
    assert result["gains"] == "grade 2=1, grade 1=0.5, grade 0=0"
    assert "0.834" in done.stdout
    assert "report.html" in done.stdout


def test_the_command_line_names_a_mistake_in_one_line(tmp_path):
    qrels, run = write(tmp_path, "x.qrels", "q1 0 a\n"), write(tmp_path, "a.run", RUN)
    done = command("--judgments", qrels, "--rankings", run, "--evaluation", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "x.qrels': line 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_labels_of_a_card_come_with_qrels(tmp_path):
    from judged_shop import card_of

    from components.evaluate_rankings.sources import read_judgments

    card = DatasetCard.from_mapping(card_of(), section="card")
    _, scale = read_judgments(write(tmp_path, "x.qrels", QRELS), ["test"], card)
    assert scale.describe() == "E=1, S=0.1, C=0.01, I=0"
