"""How far an engine's scores are from the reference: transformers, plain batches, float32."""

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.shard_scorer import Places, ShardScorer
from components.score_pairs.work import Work
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import PairScorer, Scorer


def drift_report(config: ScorePairsConfig, places: Places, work: Work) -> dict[str, float]:
    """Both score `drift_pairs` pairs, spread evenly over the work; empty where none are asked for."""
    number = min(config.drift_pairs, len(work.pairs))
    if not number:
        return {}
    ready = ShardScorer(config, places, work)
    some = work.pairs.take(pa.array(np.linspace(0, len(work.pairs) - 1, number).astype(np.int64)))
    left, right = model_texts(ready.spec, some, work.queries, work.items, ready.neighbors)
    reference: PairScorer = Scorer(places.model, batch_tokens=config.batch_tokens)
    return drift(ready.scorer.logits(left, right), reference.logits(left, right), ready.scorer.spec.gains)


def drift(logits: np.ndarray, reference: np.ndarray, gains: list[float]) -> dict[str, float]:
    """Largest and 99th percentile of |difference| over all logits, for a teacher also of the expected gain, and the share of equal argmax.

    Args:
        logits, reference: [pairs, labels].
    """
    apart = np.abs(logits - reference)
    found = {"drift.pairs": float(len(logits)), "drift.logit_max": float(apart.max()), "drift.logit_p99": float(np.percentile(apart, 99))}
    if logits.shape[1] > 1:
        found["drift.same_argmax"] = float((logits.argmax(1) == reference.argmax(1)).mean())
    if gains:
        one, other = (softmax(values.astype(np.float64), axis=1) @ np.asarray(gains) for values in (logits, reference))
        moved = np.abs(one - other)
        found |= {"drift.gain_max": float(moved.max()), "drift.gain_p99": float(np.percentile(moved, 99))}
    return found
