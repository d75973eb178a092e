"""Scoring the pending shards, in this process or in several of this machine."""

import contextlib
import itertools
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import pyarrow as pa

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.cost import Ledger, Meter
from components.score_pairs.doubt import with_doubt
from components.score_pairs.shard_scorer import Places, ShardScorer
from components.score_pairs.work import Work
from components.shared import shards
from components.shared.errors import InputError, TemporaryError
from components.shared.leases import Worker, take_shards
from components.shared.shards import ShardPlan

logger = logging.getLogger(__name__)


Done = tuple[int, dict[str, float]]  # shard, and what it cost


@dataclass(frozen=True)
class Job:
    """What every scoring process is told. `clicks`: what shoppers say about the pairs, for soft targets."""

    config: ScorePairsConfig
    places: Places
    plan: ShardPlan
    clicks: pa.Table | None = None


def score_shards(job: Job, work: Work, worker: Worker | None = None) -> Ledger:
    """Score and commit what is pending; returns what it took.

    Args:
        worker: shares the plan with others by leases, and works in this process alone.

    Raises:
        TemporaryError: when a scoring process was killed.
        InputError: from the model or the pairs; when the budget is used up.
    """
    counts = {one["values"]: one["counts"] for one in work.pairs["shard"].value_counts().to_pylist()}
    ledger = Ledger(job.config, counts, shards.commits(job.plan), 1 / worker.count if worker else 1.0)
    todo = shards.pending(job.plan)
    if not todo:
        return ledger
    left = sum(counts.get(shard, 0) for shard in todo)
    logger.info("%d of %d shards to score, %d pairs", len(todo), job.plan.num_shards, left)
    several = 1 if worker else min(job.config.num_workers, len(todo))
    turn = ledger.affordable(take_shards(job.plan, worker) if worker else todo)
    done = _in_processes(job, turn, several) if several > 1 else _in_this_process(job, work, turn)
    for number, (shard, spent) in enumerate(done, start=1):
        ledger.add(shard, spent)
        left -= counts.get(shard, 0)
        logger.info("shard %d committed (%d of %d): %s", shard, number, len(todo), ledger.progress(left))
    ledger.check(job.plan)
    if worker:
        ledger.complete(shards.commits(job.plan))
    return ledger


def _score(job: Job, scorer: ShardScorer, meter: Meter, shard: int) -> Done:
    if not shards.is_pending(job.plan, shard):  # another run of the same step was faster
        return shard, shards.read_commit(job.plan, shard)["spent"]
    rows = scorer.rows(shard)
    if job.plan.table == "soft_targets":
        rows = with_doubt(rows, job.clicks)
    spent = meter.read()
    shards.commit(job.plan, shard, rows, spent)
    return shard, spent


def _in_this_process(job: Job, work: Work, turn: Iterator[int]) -> Iterator[Done]:
    first = next(turn, None)
    if first is None:  # nothing is affordable: spare the loading
        return
    began = time.monotonic()
    scorer = ShardScorer(job.config, job.places, work)
    meter = Meter(scorer.scorer, 1.0, began)
    for shard in itertools.chain([first], turn):
        yield _score(job, scorer, meter, shard)


def _in_processes(job: Job, turn: Iterator[int], several: int) -> Iterator[Done]:
    """Hand out one shard at a time; a process whose step was killed sees its pipe close and ends by itself."""
    threads = job.config.num_threads or max(1, (os.cpu_count() or 1) // several)
    theirs_too = replace(job, config=job.config.model_copy(update={"num_threads": threads}))
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    processes: list[Any] = []
    busy: list[Any] = []
    try:
        for shard in itertools.islice(turn, several):
            ours, theirs = fresh.Pipe()
            process = fresh.Process(target=_serve, args=(theirs, theirs_too, 1 / several))
            process.start()
            theirs.close()
            processes.append(process)
            busy.append(ours)
            _hand_out(ours, shard)
        while busy:
            for ours in list[Any](wait(busy)):
                yield _answer(ours)
                if (shard := next(turn, None)) is not None:
                    _hand_out(ours, shard)
                else:
                    ours.close()
                    busy.remove(ours)
    finally:
        for ours in busy:
            ours.close()
        for process in processes:
            process.join()


def _hand_out(ours: Any, shard: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process has died: `_answer` says so
        ours.send(shard)


def _answer(ours: Any) -> Done:
    try:
        answer = ours.recv()
    except (EOFError, ConnectionResetError):
        raise TemporaryError(
            "a scoring process was killed (out of memory?); lower num_workers or batch_tokens and run again: it goes on where it was"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _serve(theirs: Connection, job: Job, share: float) -> None:
    began = time.monotonic()
    try:
        scorer = ShardScorer(job.config, job.places)
        meter = Meter(scorer.scorer, share, began)
        while True:
            theirs.send(_score(job, scorer, meter, theirs.recv()))
    except (InputError, TemporaryError) as error:
        theirs.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the step has no more shards, or is gone
