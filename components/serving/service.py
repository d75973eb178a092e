"""From a question to its answer: what the cache knows, what has to be computed, what the scores mean."""

from collections.abc import Sequence

import numpy as np

from components.serving.batching import MicroBatcher
from components.serving.cache import ScoreCache
from components.serving.config import ServingConfig
from components.serving.metrics import ServerMetrics
from components.serving.protocol import Answer, Question
from components.serving.runtime import Runtime, model_items, model_query
from components.shared.calibration import Calibration


class ScoreError(Exception):
    """The model gave what is no number."""


class Service:
    """One model with its cache, its queue and its counters."""

    def __init__(self, runtime: Runtime, config: ServingConfig) -> None:
        self.runtime, self.config = runtime, config
        self.metrics, self.cache = ServerMetrics(), ScoreCache(config.num_cached_scores)
        self.batcher = MicroBatcher(
            runtime.scores,
            max_pairs=config.max_batch_pairs,
            max_wait_s=config.max_wait_ms / 1000,
            max_queued=config.max_queued_pairs,
            max_queued_s=config.max_queued_s,
            on_batch=self.metrics.batch.observe,
        )
        self.ready = False  # until it listens, and again while it drains
        self.metrics.ready.set_function(lambda: float(self.ready))
        self.metrics.queued.set_function(lambda: self.batcher.num_queued)
        self.metrics.model.info(
            {"name": config.name, "digest": runtime.digest, "engine": runtime.engine, "texts": runtime.spec.text_version}
        )

    async def answer(self, question: Question) -> Answer:
        """Raises:
        QueueFullError: when too many pairs wait.
        TooLateError: when the question waited too long.
        ScoreError: when the model gave infinity or NaN.
        """
        distinct = dict.fromkeys(question.queries)
        texts = dict(zip(distinct, model_query(list(distinct)), strict=True))
        left, right = [texts[one] for one in question.queries], model_items(question.fields)
        return answer_of(self.runtime.calibration, await self._scores(left, right), question.segments)

    async def _scores(self, left: list[str], right: list[str]) -> np.ndarray:
        keys = self.cache.keys(self.runtime.digest, left, right)
        scores = self.cache.get(keys)
        absent = np.flatnonzero(np.isnan(scores))
        self.metrics.pairs.inc(len(keys))
        self.metrics.cached.inc(len(keys) - len(absent))
        if len(absent):
            scores[absent] = await self.batcher.scores([left[row] for row in absent], [right[row] for row in absent])
            self.cache.put([keys[row] for row in absent], scores[absent])
        return scores


def answer_of(calibration: Calibration | None, scores: np.ndarray, segments: Sequence[str]) -> Answer:
    """What scores [pairs] mean; `segments` of the pairs' queries, EVERYWHERE where unknown.

    Raises:
        ScoreError: when the model gave infinity or NaN.
    """
    if not np.isfinite(scores).all():
        raise ScoreError("the model gave infinity or NaN")
    if calibration is None:
        return Answer(scores)
    of_query = np.array(segments, object)
    verdicts = calibration.safe_verdicts(scores, of_query)
    names = np.select(list(verdicts.values()), list(verdicts), default="")
    return Answer(scores, calibration.gains(scores, of_query), names.tolist())
