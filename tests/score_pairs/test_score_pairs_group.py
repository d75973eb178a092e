"""Several workers on one table: equal rows whatever their number, a first that publishes, helpers that are told all that the task knows."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from components.score_pairs import group
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run
from components.shared import launch_kubernetes, shards, tables
from components.shared.cli import build_parser
from components.shared.errors import InputError
from components.shared.scheduling import Scheduling
from components.shared.tracking import NullTracker

CONFIG = ScorePairsConfig(num_threads=1, start_helpers=False, lease_s=60, device_hour_price=1)


@pytest.fixture
def given(shop, model_folders):
    return {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}


def test_workers_do_not_change_a_row(given, tmp_path, monkeypatch):
    monkeypatch.setattr(group, "POLL_S", 0.05)
    digests = set()
    for count in (1, 2, 3):
        out = str(tmp_path / str(count))
        members = [CONFIG.model_copy(update={"group_workers": count, "member": member}) for member in range(count)]
        with ThreadPoolExecutor(count) as pool:
            reports = list(pool.map(lambda one, out=out: run(one, **given, scores=out, tracker=NullTracker()), members))
        assert {report.kept for report in reports} == {20}
        assert {report.metrics["tokens"] for report in reports} == {reports[0].metrics["tokens"]}  # of all shards, whoever scored them
        digests.add(tables.Manifest.read(out).digest)
    assert len(digests) == 1


def test_a_first_worker_that_is_gone_is_replaced_after_a_lease(given, tmp_path):
    began = time.monotonic()
    second = CONFIG.model_copy(update={"group_workers": 2, "member": 1, "lease_s": 0.5})
    run(second, **given, scores=str(tmp_path / "out"), tracker=NullTracker())
    assert time.monotonic() - began >= 0.5
    assert tables.Manifest.read(str(tmp_path / "out")).rows == 20


def test_the_first_worker_starts_helpers_that_know_what_it_knows(given, tmp_path, monkeypatch):
    started = []

    @contextlib.contextmanager
    def helping(helpers):
        started.append(helpers)
        assert shards.pending(shards.ShardPlan("file://" + out, "soft_targets", 3)) == [0, 1, 2]  # the plan is there before they are
        yield
        assert shards.pending(shards.ShardPlan("file://" + out, "soft_targets", 3)) == []

    monkeypatch.setattr(launch_kubernetes, "helping", helping)
    out = str(tmp_path / "out")
    config = CONFIG.model_copy(update={"group_workers": 4, "start_helpers": True, "queue": "relevance", "precision": "fp32"})
    run(config, **given, scores=out, tracker=NullTracker())
    run(config, **given, scores=out, tracker=NullTracker())  # nothing is left to help with
    (helpers,) = started
    assert (helpers.count, helpers.queue, helpers.place) == (3, "relevance", out)
    assert helpers.command[:3] == ["python", "-m", "components.score_pairs"]
    monkeypatch.setenv("RELEVANCE_HELPER", helpers.environment["RELEVANCE_HELPER"])
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    flags = vars(build_parser(run, ScorePairsConfig, "scoring").parse_args(helpers.command[3:]))
    assert {name: flags[name] for name in given} == {**given, "model": "file://" + given["model"]}
    worker = group.worker_of(config)
    assert worker is not None
    assert (worker.index, worker.count) == (3, 4)
    assert isinstance(group.starting_helpers(config, worker, {}), contextlib.nullcontext)


def test_all_settings_reach_a_helper():
    config = ScorePairsConfig(output="rankings", system="007", splits=["dev"], group_workers=2, budget=5, device_hour_price=2.5)
    config = config.model_copy(update={"scheduling": Scheduling(node_selector={"pool": "gpu"})})
    parsed = vars(
        build_parser(run, ScorePairsConfig, "scoring").parse_args(group.flags_of(config, {"pairs": "p", "scores": "s", "model": "m"}))
    )
    from components.shared.cli import _value

    values = {name: _value(ScorePairsConfig, name, parsed[name]) for name in ScorePairsConfig.model_fields if name != "model"}
    assert ScorePairsConfig(**values) == config


def test_helpers_outside_a_cluster_are_refused_before_any_scoring(given, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no task on Kubernetes"):
        run(
            CONFIG.model_copy(update={"group_workers": 2, "start_helpers": True}),
            **given,
            scores=str(tmp_path / "out"),
            tracker=NullTracker(),
        )
    assert not (tmp_path / "out" / "commits").exists()


@pytest.mark.parametrize(
    "settings", [{"member": 2, "group_workers": 2}, {"group_workers": 2, "num_workers": 2}, {"group_workers": 2, "output": "trec"}]
)
def test_groups_that_cannot_be(settings):
    with pytest.raises(ValidationError, match=r"key '(member|group_workers)'"):
        ScorePairsConfig(**settings)
