"""Rankings of edited pairs: rows under names of their own, scored as their edited texts are, in the same shards."""

import pyarrow.compute as pc
import pytest

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run
from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.scoring import Scorer
from components.shared.tracking import NullTracker

ORDER = [("query_id", "ascending"), ("rank", "ascending")]
SETTINGS = {"output": "rankings", "system": "s", "num_threads": 1, "num_shards": 3, "splits": ["train", "dev", "test"]}


def ranked(shop, model, out, pairs=None, **settings):
    config = ScorePairsConfig(**SETTINGS | settings)
    texts = {} if pairs else {"queries": shop.queries, "items": shop.items}
    report = run(config, pairs=pairs or shop.judgments, **texts, model=model, scores=str(out), tracker=NullTracker())
    return report, tables.read_table(str(out), "rankings")


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder", "teacher"])
def test_edited_pairs_are_scored_as_their_texts(shop, model_folders, tmp_path, kind):
    report, rows = ranked(shop, model_folders[kind], tmp_path / "edited", edits=["keyword_stuffing", "word_swap"])
    _, plain = ranked(shop, model_folders[kind], tmp_path / "plain")
    assert report.kept == len(plain) == 20
    assert rows.filter(pc.equal(rows["system"], "s")).sort_by(ORDER) == plain.sort_by(ORDER)
    counts = {one["values"]: one["counts"] for one in rows["system"].value_counts().to_pylist()}
    assert counts == {"s": 20, "s~keyword_stuffing": 20, "s~word_swap": 15}  # "kettle" has no two words
    fields = ("query: {}", "title: {}") if kind == "teacher" else ("{}", "{}")
    told = {
        ("s~keyword_stuffing", "q2", "i1"): ("kettle", "red running shoes kettle kettle"),
        ("s~word_swap", "q1", "i2"): ("shoes red", "blue kettle"),
    }
    for key, (query, title) in told.items():
        row = next(one for one in rows.to_pylist() if (one["system"], one["query_id"], one["item_id"]) == key)
        expected = Scorer(model_folders[kind]).scores([fields[0].format(query)], [fields[1].format(title)])
        assert row["score"] == pytest.approx(expected[0], abs=1e-5)


def test_other_edits_begin_another_table(shop, model_folders, tmp_path):
    ranked(shop, model_folders["bi_encoder"], tmp_path / "out", edits=["typo"])
    with pytest.raises(InputError, match="edits"):
        ranked(shop, model_folders["bi_encoder"], tmp_path / "out", edits=["typo", "unit"])


def test_the_best_items_of_a_file_are_those_of_its_texts_as_they_are(shop, model_folders, tmp_path):
    (tmp_path / "own.csv").write_text("query,title\nred shoes,red shoes\nred shoes,blue kettle\n")
    report, rows = ranked(shop, model_folders["bi_encoder"], tmp_path / "out", str(tmp_path / "own.csv"), edits=["keyword_stuffing"])
    assert len(rows) == 4
    assert report.notes["query 'red shoes'"].count("; ") == 1


def test_only_rankings_are_edited():
    with pytest.raises(InputError, match="key 'edits' goes with output rankings"):
        ScorePairsConfig.from_mapping({"edits": ["typo"]}, section="scoring")
