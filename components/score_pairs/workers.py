"""Scoring the pending shards, in this process or in several of this machine."""

import contextlib
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.shard_scorer import Places, ShardScorer
from components.score_pairs.work import Work
from components.shared import shards
from components.shared.errors import InputError, TemporaryError
from components.shared.shards import ShardPlan

logger = logging.getLogger(__name__)


def score_shards(config: ScorePairsConfig, places: Places, work: Work, plan: ShardPlan) -> int:
    """Score and commit what is pending; returns the number of pairs scored here.

    Raises:
        TemporaryError: when a scoring process was killed.
        InputError: from the model or the pairs.
    """
    todo = shards.pending(plan)
    if not todo:
        return 0
    total = sum(_sizes(work, todo).values())
    logger.info("%d of %d shards to score, %d pairs", len(todo), plan.num_shards, total)
    several = min(config.num_workers, len(todo))
    done = _in_processes(config, places, plan, todo, several) if several > 1 else _in_this_process(config, places, work, plan, todo)
    started, scored = time.monotonic(), 0
    for number, (shard, pairs) in enumerate(done, start=1):
        scored += pairs
        rate = scored / max(time.monotonic() - started, 1e-9)
        left = (total - scored) / max(rate, 1e-9)
        logger.info("shard %d committed (%d of %d): %.1f pairs/s, %.0f s left", shard, number, len(todo), rate, left)
    return scored


def _sizes(work: Work, todo: list[int]) -> dict[int, int]:
    counts = {one["values"]: one["counts"] for one in work.pairs["shard"].value_counts().to_pylist()}
    return {shard: counts.get(shard, 0) for shard in todo}


def _score(scorer: ShardScorer, plan: ShardPlan, shard: int) -> tuple[int, int]:
    if not shards.is_pending(plan, shard):  # another run of the same step was faster
        return shard, 0
    rows = scorer.rows(shard)
    shards.commit(plan, shard, rows)
    return shard, len(rows)


def _in_this_process(config: ScorePairsConfig, places: Places, work: Work, plan: ShardPlan, todo: list[int]) -> Iterator[tuple[int, int]]:
    scorer = ShardScorer(config, places, work)
    return (_score(scorer, plan, shard) for shard in todo)


def _in_processes(config: ScorePairsConfig, places: Places, plan: ShardPlan, todo: list[int], several: int) -> Iterator[tuple[int, int]]:
    """Hand out one shard at a time; a process whose step was killed sees its pipe close and ends by itself."""
    threads = config.num_threads or max(1, (os.cpu_count() or 1) // several)
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    waiting: list[int] = list(reversed(todo))
    processes: list[Any] = []
    busy: list[Any] = []
    try:
        for _ in range(several):
            ours, theirs = fresh.Pipe()
            process = fresh.Process(target=_serve, args=(theirs, config.model_copy(update={"num_threads": threads}), places, plan))
            process.start()
            theirs.close()
            processes.append(process)
            busy.append(ours)
            _hand_out(ours, waiting.pop())
        while busy:
            for ours in list[Any](wait(busy)):
                yield _answer(ours)
                if waiting:
                    _hand_out(ours, waiting.pop())
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


def _answer(ours: Any) -> tuple[int, int]:
    try:
        answer = ours.recv()
    except (EOFError, ConnectionResetError):
        raise TemporaryError(
            "a scoring process was killed (out of memory?); lower num_workers or batch_tokens and run again: it goes on where it was"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _serve(theirs: Connection, config: ScorePairsConfig, places: Places, plan: ShardPlan) -> None:
    try:
        scorer = ShardScorer(config, places)
        while True:
            theirs.send(_score(scorer, plan, theirs.recv()))
    except (InputError, TemporaryError) as error:
        theirs.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the step has no more shards, or is gone
