"""How a decoder teacher labels: the method is measured once, said, stored with the rows and kept by whoever goes on."""

import json
import logging

import numpy as np
import pytest
from decoder_folders import make_decoder

from components.score_pairs import method, workers
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.cost import Meter
from components.score_pairs.step import run
from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.models import decoders, method_choice
from components.shared.models.decoders import DecoderClassifier
from components.shared.models.method_choice import choose_method
from components.shared.models.scoring import Scorer
from components.shared.models.tokens import JoinedPairs, join_pairs
from components.shared.tracking import NullTracker

TRACKER = NullTracker()
TARGETS = ScorePairsConfig(output="soft_targets")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_decoder(str(tmp_path_factory.mktemp("decoder")), "qwen3")


@pytest.fixture
def given(shop, teacher):
    return {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": teacher, "tracker": TRACKER}


def labels(uri: str) -> tuple[np.ndarray, set[str]]:
    rows = tables.read_table(uri, "soft_targets").sort_by("pair_id")
    return np.stack(rows["probabilities"].to_numpy(zero_copy_only=False)), set(rows["engine"].to_pylist())


def test_methods_give_the_same_labels_and_every_row_says_which(given, tmp_path):
    found = {}
    for name in decoders.METHODS:
        run(TARGETS.model_copy(update={"method": name}), **given, scores=str(tmp_path / name))
        found[name], engines = labels(str(tmp_path / name))
        assert len(engines) == 1
        assert f", {name}, fp32, texts " in engines.pop()
    np.testing.assert_allclose(found["packed"], found["plain"], atol=1e-5)
    np.testing.assert_allclose(found["prefix_cache"], found["plain"], atol=1e-5)
    assert np.ptp(found["plain"], axis=0).min() > 1e-2


def test_the_measured_method_is_said_and_kept_by_whoever_goes_on(given, tmp_path, monkeypatch, caplog):
    out = str(tmp_path / "out")
    real, calls = workers.shards.commit, []

    def dies_at_second(plan, shard, rows, spent):
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(plan, shard, rows, spent)

    monkeypatch.setattr(workers.shards, "commit", dies_at_second)
    with caplog.at_level(logging.INFO, logger="components.shared.models"), pytest.raises(KeyboardInterrupt):
        run(TARGETS, **given, scores=out)
    kept = storage.read_json(out + "/method.json")
    assert set(kept["pairs_per_s"]) == set(decoders.METHODS)
    assert kept["method"] == max(kept["pairs_per_s"], key=kept["pairs_per_s"].get)
    said = next(line for line in caplog.messages if line.startswith(f"method {kept['method']}: of 20 pairs measured, pairs/s: plain "))
    assert all(f"{name} {rate:.1f}" in said for name, rate in kept["pairs_per_s"].items())
    # another machine would measure another winner; it goes on with the one that stands
    monkeypatch.setattr(method, "choose_method", lambda *_: pytest.fail("measured again"))
    report = run(TARGETS, **given, scores=out)
    assert (report.metrics["shards_reused"], report.notes["method"]) == (1, kept["method"])
    assert all(f", {kept['method']}, fp32" in one for one in labels(out)[1])


def test_another_method_may_not_finish_the_table(given, tmp_path):
    run(TARGETS.model_copy(update={"method": "packed"}), **given, scores=str(tmp_path / "out"))
    with pytest.raises(InputError, match="was begun with method = 'packed', now it is 'plain'"):
        run(TARGETS.model_copy(update={"method": "plain"}), **given, scores=str(tmp_path / "out"))


def test_of_two_that_measure_at_once_the_first_decides(given, tmp_path, monkeypatch):
    out = str(tmp_path / "out")

    def overtaken(*_):
        storage.create_once(out + "/method.json", json.dumps({"method": "prefix_cache", "pairs_per_s": {}}).encode())
        return "packed", {}

    monkeypatch.setattr(method, "choose_method", overtaken)
    assert run(TARGETS, **given, scores=out).notes["method"] == "prefix_cache"


def test_an_encoder_knows_one_method(given, model_folders, tmp_path):
    with pytest.raises(InputError, match=r"'packed': model '.*' is no decoder with a head; set auto or plain"):
        run(TARGETS.model_copy(update={"method": "packed"}), **{**given, "model": model_folders["teacher"]}, scores=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


PAIRS = JoinedPairs([[5, 6, 7], [8, 9]], np.asarray([0, 0, 1, 1]), [[3], [4, 4], [3, 5], [6]])


@pytest.mark.parametrize(
    ("wrong", "said"), [("error", "packed is left out: no room"), ("answer", "packed is left out: it changes a logit by 1")]
)
def test_a_method_that_fails_or_errs_is_left_out(teacher, monkeypatch, caplog, wrong, said):
    def packed(decoder, pairs, out):
        if wrong == "error":
            raise RuntimeError("no room\nmore")
        DecoderClassifier._plain(decoder, pairs, out)
        out += 1

    monkeypatch.setitem(decoders.METHODS, "packed", packed)
    best, rates = choose_method(Scorer(teacher).decoder, PAIRS)
    assert best in ("plain", "prefix_cache")
    assert set(rates) == {"plain", "prefix_cache"}
    assert f"method {said}" in caplog.text


def test_a_slow_model_is_measured_on_few_pairs(teacher, monkeypatch):
    decoder = Scorer(teacher).decoder
    many = JoinedPairs([[5]], np.zeros(300, np.int64), [[3]] * 300)
    sizes = []
    real = DecoderClassifier.logits
    monkeypatch.setattr(
        DecoderClassifier, "logits", lambda self, pairs, *more: (sizes.append(len(pairs.items)), real(self, pairs, *more))[1]
    )
    choose_method(decoder, many)
    assert max(sizes) == method_choice.MAX_PAIRS
    sizes.clear()
    monkeypatch.setattr(method_choice, "SECONDS", 0.0)
    choose_method(decoder, many)
    assert max(sizes) == method_choice.PROBE_PAIRS


def test_a_meter_counts_a_shared_prefix_once(teacher):
    left, right = ["query: red shoes"] * 3, ["title: blue kettle", "title: red running shoes", "title: kettle"]
    counted = {}
    for name in decoders.METHODS:
        scorer = Scorer(teacher, method=name)
        meter = Meter(scorer, 1.0, 0.0)
        scorer.probabilities(left, right)
        counted[name] = meter.read()
    pairs = join_pairs(scorer.tokenizer, left, right, scorer.spec.max_tokens)
    prefix, items = len(pairs.prefixes[0]), [len(item) for item in pairs.items]
    shared = prefix + sum(items)
    assert prefix > 0
    assert {name: one["tokens"] for name, one in counted.items()} == {
        "plain": shared + 2 * prefix,
        "prefix_cache": shared,
        "packed": shared,
    }
    assert counted["packed"]["positions"] == shared
    assert counted["prefix_cache"]["positions"] == prefix + 3 * max(items)
